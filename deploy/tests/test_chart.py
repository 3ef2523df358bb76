"""The chart: every profile is valid, complete and safe, and what can't work is refused."""

import re
import unittest

import yaml

from deployed import (
    CHART, KUBECONFORM, OPS_PORT, PORTS, PROFILES, ROOT, WEIR, HELM, Refused, component, container, flags_exist,
    needs_helm, objects, of_kind, pods, run, selects, template, variables, workloads,
)

# Variables, the secrets they come from, and who has to have them.
OWNERS = {"router", "orchestrator", "analytics", "billing", "ingestion", "control"}
SECRETS = {
    "DATABASE_URL": ("weir-database", OWNERS),
    "NATS_URL": ("weir-nats", set(PORTS)),
    "REDIS_URL": ("weir-redis", {"realtime", "orchestrator"}),
    "WEIR_CONTROL__ADMIN_KEY_SHA256": ("weir-identity", {"control"}),
    "WEIR_ORCHESTRATOR__PROVIDERS__OPENAI__API_KEY": ("weir-providers", {"orchestrator"}),
}


@needs_helm
class Valid(unittest.TestCase):
    def test_lint(self):
        for profile in (None, *PROFILES):
            values = ["--values", CHART / f"values.{profile}.yaml"] if profile else ["--set", "simulator.enabled=true"]
            done = run(HELM, "lint", "--strict", CHART, *values)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    @unittest.skipUnless(KUBECONFORM, "no kubeconform")
    def test_against_the_schemas_of_kubernetes(self):
        manifests = [yaml.safe_dump_all(objects(profile)) for profile in PROFILES]
        manifests += [path.read_text() for path in sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))]
        for version in ("1.29.0", "1.37.0"):
            for manifest in manifests:
                done = run(
                    KUBECONFORM, "-strict", "-summary", "-kubernetes-version", version,
                    "-schema-location", f"{ROOT}/.weir/deploy-schemas/v{version}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
                    "-schema-location", f"{ROOT}/deploy/schemas/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
                    input=manifest,
                )
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertNotIn("Valid: 0", done.stdout)

    def test_the_schemas_are_strict(self):
        """A misspelt field is noticed, or the test above shows nothing."""
        if not KUBECONFORM:
            self.skipTest("no kubeconform")
        deployment = workloads("production")["gateway"]
        wrong = {**deployment, "spec": {**deployment["spec"], "replica": 3}}
        done = run(
            KUBECONFORM, "-strict", "-schema-location",
            f"{ROOT}/.weir/deploy-schemas/v1.37.0/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
            input=yaml.safe_dump(wrong),
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("replica", done.stdout)

    def test_names_are_unique_and_short(self):
        for profile in PROFILES:
            names = [(o["kind"], o["metadata"]["name"]) for o in objects(profile)]
            self.assertEqual(len(names), len(set(names)))
            self.assertFalse([n for _, n in names if len(n) > 63])

    def test_the_name_of_the_seed(self):
        """`helm install chatbot ./helm/chatbot` is the same chart."""
        self.assertEqual((ROOT / "helm/chatbot").resolve(), CHART)

    def test_rules_are_those_of_deploy_monitoring(self):
        """Helm reads no file outside its chart: the copies are kept the same."""
        def texts(folder):
            return {path.name: path.read_text() for path in folder.glob("*.yml")}

        self.assertEqual(texts(CHART / "files"), texts(ROOT / "deploy/monitoring/rules"))
        groups = sum(len(yaml.safe_load(text)["groups"]) for text in texts(CHART / "files").values())
        for profile in ("staging", "production"):
            (rule,) = of_kind(profile, "PrometheusRule")
            self.assertEqual(len(rule["spec"]["groups"]), groups)


@needs_helm
class Refuses(unittest.TestCase):
    def refused(self, *arguments, profile="development"):
        with self.assertRaises(Refused) as caught:
            template(profile, *arguments)
        return str(caught.exception)

    def test_a_spool_that_goes_with_its_pod(self):
        for durability in ("process", "disk"):
            said = self.refused(
                "--set", f"orchestrator.durability={durability}", "--set", "orchestrator.spool.volume=emptyDir"
            )
            self.assertIn("loses it with the pod", said)
        allowed = template("development", "--set", "orchestrator.durability=cluster,orchestrator.spool.volume=emptyDir")
        (stateful,) = [o for o in allowed if o["kind"] == "StatefulSet"]
        self.assertNotIn("volumeClaimTemplates", stateful["spec"])
        self.assertIn("emptyDir", yaml.safe_dump(stateful["spec"]["template"]["spec"]["volumes"]))

    def test_values_nobody_reads(self):
        for value in ("repicas=1", "image.name=x", "services.gateway.replica=2", "services.mailer.replicas=1"):
            self.assertIn("additional properties", self.refused("--set", value))

    def test_values_of_the_wrong_form(self):
        for value in (
            "services.gateway.replicas=0", "orchestrator.durability=maybe", "nats.replicas=2", "image.digest=latest",
            "providers.OpenAI.baseUrl=https://x", "providers.openai.baseUrl=ftp://x", "providers.openai.apiKey=sk-1",
            "networkPolicy.prometheus.from=", "providers.x.dialect=openai", "providers.x.dialect=cohere",
            "providers.x.dialect=bedrock,providers.x.accessKeyId=AKIA",
        ):
            self.refused("--set", value)

    def test_secrets_in_the_configuration(self):
        for config in (
            '[orchestrator.providers.x]\nbase_url = "https://x"\napi_key = "sk-1"',
            '[database]\nurl = "postgres://weir:hunter2@host/weir"',
            '[nats]\ntoken = "x"',
            '[identity.keys]\ngateway = "x"',
            '[control]\n"admin_key_sha256" = "x"',
        ):
            self.assertIn("ConfigMap", self.refused("--set-literal", f"config={config}"))

    def test_no_model_at_all(self):
        self.assertIn("no model provider", self.refused("--set", "simulator.enabled=false"))

    def test_scaling_by_lag_without_keda(self):
        self.assertIn("keda.enabled", self.refused("--set", "keda.enabled=false", profile="production"))
        self.assertIn("natsMonitoring", self.refused("--set", "keda.natsMonitoring=", profile="production"))


@needs_helm
class Pods(unittest.TestCase):
    def each(self):
        for profile in PROFILES:
            for name, pod in pods(profile).items():
                yield profile, name, pod

    def test_all_eight_services_run(self):
        for profile in PROFILES:
            self.assertEqual(set(workloads(profile)), set(PORTS))
            kinds = {name: o["kind"] for name, o in workloads(profile).items()}
            self.assertEqual({n for n, kind in kinds.items() if kind == "StatefulSet"}, {"orchestrator"})

    def test_one_image(self):
        for profile in PROFILES:
            self.assertEqual(len({container(pod)["image"] for pod in pods(profile).values()}), 1)
        pinned = template("production", "--set", "image.digest=sha256:" + "a" * 64)
        images = {container(o["spec"]["template"])["image"] for o in pinned if o["kind"] in ("Deployment", "Job")}
        self.assertEqual(images, {"weir@sha256:" + "a" * 64})

    def test_pods_may_do_nothing_but_run(self):
        for _, _, pod in self.each():
            spec, only = pod["spec"], container(pod)
            self.assertIs(spec["automountServiceAccountToken"], False)
            self.assertNotEqual(spec["serviceAccountName"], "default")
            self.assertIs(spec["securityContext"]["runAsNonRoot"], True)
            self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            inside = only["securityContext"]
            self.assertIs(inside["readOnlyRootFilesystem"], True)
            self.assertIs(inside["allowPrivilegeEscalation"], False)
            self.assertEqual(inside["capabilities"], {"drop": ["ALL"]})
            self.assertIn("memory", only["resources"]["limits"])
            self.assertIn("cpu", only["resources"]["requests"])

    def test_every_service_account_is_there(self):
        for profile in PROFILES:
            there = {o["metadata"]["name"] for o in of_kind(profile, "ServiceAccount")}
            self.assertEqual(there, {pod["spec"]["serviceAccountName"] for pod in pods(profile).values()})
            for account in of_kind(profile, "ServiceAccount"):
                self.assertIs(account["automountServiceAccountToken"], False)

    def test_probes_ports_and_the_end(self):
        for profile, name, pod in self.each():
            if name not in PORTS:
                continue
            only, env = container(pod), variables(pod)
            ports = {p["name"]: p["containerPort"] for p in only["ports"]}
            self.assertEqual(ports, {"http": PORTS[name], "ops": OPS_PORT})
            self.assertEqual(env["WEIR_LISTEN__OPS"]["value"], f"0.0.0.0:{OPS_PORT}")
            for probe, path in (("startupProbe", "/live"), ("livenessProbe", "/live"), ("readinessProbe", "/ready")):
                self.assertEqual(only[probe]["httpGet"], {"path": path, "port": "http"})
            seconds = [int(env[f"WEIR_LISTEN__{k}"]["value"].rstrip("s")) for k in ("LAME_DUCK", "DRAIN")]
            self.assertGreater(pod["spec"]["terminationGracePeriodSeconds"], sum(seconds))

    def test_addresses_of_proxies_and_services_are_no_clients(self):
        for profile, name, pod in self.each():
            if name in PORTS:
                unlimited = variables(pod).get("WEIR_LISTEN__MAX_CONNECTIONS_PER_IP", {}).get("value")
                behind = "WEIR_LISTEN__TRUSTED_PROXIES" in variables(pod)
                self.assertEqual(unlimited, "0" if name != "gateway" or behind else None)
                self.assertEqual(behind, profile == "production" and name == "gateway")

    def test_services_lead_to_pods(self):
        for profile in PROFILES:
            for service in of_kind(profile, "Service"):
                labels = pods(profile)[component(service)]["metadata"]["labels"]
                self.assertTrue(selects({"matchLabels": service["spec"]["selector"]}, labels))
                named = {p["name"] for p in container(pods(profile)[component(service)])["ports"]}
                self.assertLessEqual({p["targetPort"] for p in service["spec"]["ports"]}, named)

    def test_peers_are_services_of_the_chart(self):
        for profile in PROFILES:
            urls = {
                f"http://{s['metadata']['name']}:{s['spec']['ports'][0]['port']}" for s in of_kind(profile, "Service")
            }
            for pod in pods(profile).values():
                for name, variable in variables(pod).items():
                    if name.startswith("WEIR_PEERS__"):
                        self.assertIn(variable["value"], urls)

    def test_the_spool_is_a_volume_of_its_own(self):
        for profile in PROFILES:
            stateful = workloads(profile)["orchestrator"]
            (claim,) = stateful["spec"]["volumeClaimTemplates"]
            mounts = {m["name"]: m["mountPath"] for m in container(stateful["spec"]["template"])["volumeMounts"]}
            env = variables(stateful["spec"]["template"])
            self.assertEqual(mounts[claim["metadata"]["name"]], env["WEIR_ORCHESTRATOR__SPOOL_DIR"]["value"])
            headless = [s for s in of_kind(profile, "Service") if s["metadata"]["name"] == stateful["spec"]["serviceName"]]
            self.assertEqual(headless[0]["spec"]["clusterIP"], "None")

    def test_a_changed_configuration_restarts_pods(self):
        def sums(*arguments):
            rendered = template("development", *arguments)
            found = [o["spec"]["template"]["metadata"].get("annotations", {}) for o in rendered if o["kind"] == "Deployment"]
            return {a["checksum/config"] for a in found if a}

        before, after = sums(), sums("--set-literal", 'config=[log]\nlevel = "info"')
        self.assertEqual((len(before), len(after)), (1, 1))
        self.assertNotEqual(before, after)

    @unittest.skipUnless(WEIR, "no weir")
    def test_the_command_lines_are_the_programs(self):
        for _, _, pod in self.each():
            flags_exist(self, container(pod)["args"])


@needs_helm
class Secrets(unittest.TestCase):
    def references(self, profile):
        for name, pod in pods(profile).items():
            for variable in variables(pod).values():
                if "valueFrom" in variable:
                    yield name, variable["name"], variable["valueFrom"]["secretKeyRef"]

    def test_each_service_gets_its_own_and_no_other(self):
        for profile in PROFILES:
            found = {}
            for name, variable, reference in self.references(profile):
                self.assertNotIn("optional", reference)
                found.setdefault((variable, reference["name"]), set()).add(name)
            for variable, (secret, owners) in SECRETS.items():
                optional = variable == "REDIS_URL" and profile == "development"
                optional |= variable.endswith("API_KEY") and profile == "development"
                self.assertEqual(found.get((variable, secret), set()), set() if optional else owners, variable)

    def test_the_migrators_login_is_the_migrations_alone(self):
        for profile in PROFILES:
            users = {name for name, _, reference in self.references(profile) if reference["name"] == "weir-migrator"}
            self.assertEqual(users, {"migrate"})

    def test_each_service_has_a_login_of_its_own_at_nats(self):
        for profile in PROFILES:
            logins = {(n, r["key"]) for n, _, r in self.references(profile) if r["name"] == "weir-nats"}
            self.assertEqual(logins, {(name, name) for name in PORTS})

    def test_a_signing_key_is_its_services_alone(self):
        for profile in PROFILES:
            keys = [(n, v, r) for n, v, r in self.references(profile) if v.startswith("WEIR_IDENTITY__")]
            for name, variable, reference in keys:
                self.assertEqual((reference["name"], reference["key"]), ("weir-identity", variable))
                if "__KEYS__" in variable:
                    self.assertEqual(variable, f"WEIR_IDENTITY__KEYS__{name.upper()}")
            self.assertEqual({n for n, v, _ in keys if "__KEYS__" in v}, set(PORTS))

    def test_callers_are_trusted_by_those_they_call(self):
        for profile in PROFILES:
            for caller, pod in pods(profile).items():
                for variable in variables(pod):
                    if variable.startswith("WEIR_PEERS__"):
                        callee = pods(profile)[variable.removeprefix("WEIR_PEERS__").lower()]
                        self.assertIn(f"WEIR_IDENTITY__TRUSTED__{caller.upper()}", variables(callee))

    def test_keys_are_made_as_the_chart_wants_them(self):
        if not WEIR:
            self.skipTest("no weir")
        made = run(WEIR, "keys", "--admin", "--format", "kubernetes")
        self.assertEqual(made.returncode, 0, made.stderr)
        secret = yaml.safe_load(made.stdout)
        there = {*secret.get("data", {}), *secret.get("stringData", {})}
        wanted = {r["key"] for _, _, r in self.references("production") if r["name"] == secret["metadata"]["name"]}
        self.assertTrue(wanted)
        self.assertLessEqual(wanted, there)

    def test_no_secret_is_written_out(self):
        for profile in PROFILES:
            self.assertFalse(of_kind(profile, "Secret"))
            for pod in pods(profile).values():
                for variable in variables(pod).values():
                    if "value" in variable:
                        self.assertNotRegex(variable["name"], r"(KEY|PASSWORD|TOKEN|SECRET)$|DATABASE_URL|(NATS|REDIS)_URL")


@needs_helm
class Providers(unittest.TestCase):
    VALUES = {
        "azure": {"baseUrl": "https://r.openai.azure.com", "platform": "azure", "apiVersion": "2024-10-21",
                  "models": ["gpt-4o", "mini"], "secret": {"name": "s", "key": "azure"}},
        "bedrock": {"dialect": "bedrock", "region": "eu-central-1", "onlyNamed": True, "prices": "bedrock",
                    "accessKeyId": {"name": "s", "key": "id"}, "secretAccessKey": {"name": "s", "key": "secret"}},
        "vertex": {"dialect": "gemini", "platform": "vertex", "project": "p", "location": "global",
                   "serviceAccount": {"name": "s", "key": "vertex"}},
        "aws": {"dialect": "bedrock", "region": "eu-west-1", "credentials": "web_identity", "roleArn": "arn:aws:iam::1:role/r",
                "tokenFile": "/var/run/token", "credentialsUrl": "https://sts.eu-west-1.amazonaws.com"},
    }
    PRICES = '[[price]]\nvendor = "azure"'

    def rendered(self):
        import json

        values = {"providers": self.VALUES, "orchestrator": {"prices": self.PRICES}}
        given = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
        return template("staging", *given)

    def test_each_setting_is_the_programs(self):
        import json

        source = (ROOT / "crates/orchestrator/src/config/provider.rs").read_text()
        fields = set(re.findall(r"(?m)^    pub (\w+):", source.split("pub struct ProviderConfig")[1].split("\n}")[0]))
        schema = json.loads((CHART / "values.schema.json").read_text())
        known = schema["properties"]["providers"]["additionalProperties"]["properties"]
        snake = {re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), name) for name in known}
        # A Secret, whose file nobody has to mount.
        self.assertEqual(snake - {"secret"} | {"api_key"}, fields - {"service_account_file"})

    def test_credentials_come_from_secrets_and_the_rest_as_it_is(self):
        (stateful,) = [o for o in self.rendered() if o["kind"] == "StatefulSet"]
        found = {
            name.removeprefix("WEIR_ORCHESTRATOR__PROVIDERS__"): v.get("value") or v["valueFrom"]["secretKeyRef"]["key"]
            for name, v in variables(stateful["spec"]["template"]).items()
            if name.startswith("WEIR_ORCHESTRATOR__PROVIDERS__") and "__OPENAI__" not in name
        }
        self.assertEqual(found, {
            "AZURE__API_KEY": "azure", "AZURE__API_VERSION": "2024-10-21", "AZURE__MODELS": "gpt-4o,mini",
            "AZURE__BASE_URL": "https://r.openai.azure.com", "AZURE__PLATFORM": "azure",
            "AWS__DIALECT": "bedrock", "AWS__REGION": "eu-west-1", "AWS__CREDENTIALS": "web_identity",
            "AWS__ROLE_ARN": "arn:aws:iam::1:role/r", "AWS__TOKEN_FILE": "/var/run/token",
            "AWS__CREDENTIALS_URL": "https://sts.eu-west-1.amazonaws.com",
            "BEDROCK__ACCESS_KEY_ID": "id", "BEDROCK__SECRET_ACCESS_KEY": "secret", "BEDROCK__DIALECT": "bedrock",
            "BEDROCK__REGION": "eu-central-1", "BEDROCK__ONLY_NAMED": "true", "BEDROCK__PRICES": "bedrock",
            "VERTEX__DIALECT": "gemini", "VERTEX__PLATFORM": "vertex", "VERTEX__PROJECT": "p",
            "VERTEX__LOCATION": "global", "VERTEX__SERVICE_ACCOUNT": "vertex",
        })

    def test_the_orchestrator_alone_has_the_cloud_s_identity(self):
        role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}
        label = "azure.workload.identity/use"
        import json

        rendered = template(
            "staging", f"--set-json=orchestrator.serviceAccount.annotations={json.dumps(role)}",
            f'--set-json=orchestrator.podLabels={json.dumps({label: "true"})}',
            '--set-json=networkPolicy.credentials=[{"cidr": "169.254.170.23/32", "port": 80}]',
        )
        accounts = [o for o in rendered if o["kind"] == "ServiceAccount"]
        self.assertEqual([component(o) for o in accounts if o["metadata"].get("annotations") == role], ["orchestrator"])
        workloads = [o for o in rendered if o["kind"] in ("Deployment", "StatefulSet")]
        labelled = [component(o) for o in workloads if label in o["spec"]["template"]["metadata"]["labels"]]
        self.assertEqual(labelled, ["orchestrator"])
        asks = [o for o in rendered if o["kind"] == "NetworkPolicy" and "169.254.170.23/32" in str(o["spec"].get("egress"))]
        self.assertEqual([o["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for o in asks], ["orchestrator"])
        (egress,) = asks[0]["spec"]["egress"]
        self.assertEqual(egress["ports"], [{"protocol": "TCP", "port": 80}])
        for profile in PROFILES:
            self.assertFalse([o for o in of_kind(profile, "NetworkPolicy") if o["metadata"]["name"].endswith("-credentials")])

    def test_prices_are_a_file(self):
        rendered = self.rendered()
        (config,) = [o for o in rendered if o["kind"] == "ConfigMap"]
        self.assertEqual(config["data"]["prices.toml"].strip(), self.PRICES)
        (stateful,) = [o for o in rendered if o["kind"] == "StatefulSet"]
        mounts = {m["name"]: m["mountPath"] for m in container(stateful["spec"]["template"])["volumeMounts"]}
        path = variables(stateful["spec"]["template"])["WEIR_ORCHESTRATOR__PRICES_FILE"]["value"]
        self.assertEqual(path, mounts["config"] + "/prices.toml")
        for profile in PROFILES:
            self.assertNotIn("WEIR_ORCHESTRATOR__PRICES_FILE", variables(pods(profile)["orchestrator"]))


@needs_helm
class Scaling(unittest.TestCase):
    def scalers(self, profile):
        found = of_kind(profile, "HorizontalPodAutoscaler", "ScaledObject")
        return {component(o): o for o in found}

    def test_who_scales_by_what(self):
        scalers = self.scalers("production")
        kinds = {name: o["kind"] for name, o in scalers.items()}
        self.assertEqual(kinds, {
            "gateway": "HorizontalPodAutoscaler", "router": "HorizontalPodAutoscaler",
            "realtime": "HorizontalPodAutoscaler", "orchestrator": "ScaledObject", "ingestion": "ScaledObject",
        })
        for name in ("router", "realtime"):
            resources = [m["resource"]["name"] for m in scalers[name]["spec"]["metrics"]]
            self.assertEqual(resources, ["cpu", "memory"])
        for name in ("orchestrator", "ingestion"):
            self.assertIn("nats-jetstream", [t["type"] for t in scalers[name]["spec"]["triggers"]])
        self.assertFalse(self.scalers("development"))

    def test_the_gateways_numbers_are_the_seeds(self):
        """kubectl autoscale deployment … --min=3 --max=20 --cpu-percent=70"""
        (hpa,) = [
            o for o in template("development", "--set", "services.gateway.autoscaling.enabled=true")
            if o["kind"] == "HorizontalPodAutoscaler"
        ]
        self.assertEqual((hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]), (3, 20))
        (metric,) = hpa["spec"]["metrics"]
        self.assertEqual(metric["resource"]["target"], {"type": "Utilization", "averageUtilization": 70})

    def test_targets_exist_and_leave_replicas_to_the_scaler(self):
        for profile in PROFILES:
            scalers = self.scalers(profile)
            for name, workload in workloads(profile).items():
                self.assertEqual("replicas" in workload["spec"], name not in scalers)
            for name, scaler in scalers.items():
                target, workload = scaler["spec"]["scaleTargetRef"], workloads(profile)[name]
                self.assertEqual((target["kind"], target["name"]), (workload["kind"], workload["metadata"]["name"]))
                self.assertEqual(target["apiVersion"], workload["apiVersion"])

    def test_budgets_where_one_pod_may_go(self):
        for profile in PROFILES:
            budgets = {component(o): o["spec"] for o in of_kind(profile, "PodDisruptionBudget")}
            self.assertEqual(set(budgets), set() if profile == "development" else set(PORTS))
            for name, budget in budgets.items():
                chosen = [n for n, pod in pods(profile).items() if selects(budget["selector"], pod["metadata"]["labels"])]
                self.assertEqual(chosen, [name])
                self.assertEqual(budget["maxUnavailable"], 1)

    def test_the_shapes_of_the_profiles(self):
        def fewest(profile):
            scalers = self.scalers(profile)
            least = {n: scalers[n]["spec"] if n in scalers else w["spec"] for n, w in workloads(profile).items()}
            return {n: s.get("replicas") or s.get("minReplicas") or s.get("minReplicaCount") for n, s in least.items()}

        self.assertEqual(set(fewest("development").values()), {1})
        self.assertEqual(set(fewest("staging").values()), {2})
        production = fewest("production")
        for name in ("gateway", "realtime", "router", "orchestrator"):
            self.assertGreaterEqual(production[name], 4)
        for profile in PROFILES:
            watched = bool(of_kind(profile, "PodMonitor", "PrometheusRule"))
            self.assertEqual(watched, profile != "development")
            nats = {variables(p)["WEIR_NATS__REPLICAS"]["value"] for n, p in pods(profile).items() if n in PORTS}
            self.assertEqual(nats, {"3" if profile == "production" else "1"})

    def test_every_service_is_watched(self):
        for profile in ("staging", "production"):
            (monitor,) = of_kind(profile, "PodMonitor")
            chosen = {n for n, p in pods(profile).items() if selects(monitor["spec"]["selector"], p["metadata"]["labels"])}
            self.assertEqual(chosen, set(PORTS))
            self.assertEqual([e["port"] for e in monitor["spec"]["podMetricsEndpoints"]], ["ops"])


@needs_helm
class Migration(unittest.TestCase):
    def test_it_runs_before_the_services(self):
        for profile in PROFILES:
            (job,) = of_kind(profile, "Job")
            hook = job["metadata"]["annotations"]
            self.assertEqual(hook["helm.sh/hook"], "pre-install,pre-upgrade")
            before = [
                o for o in objects(profile)
                if o["kind"] != "Job" and "helm.sh/hook" in o["metadata"].get("annotations", {})
            ]
            self.assertEqual({o["kind"] for o in before}, {"ServiceAccount", "NetworkPolicy"})
            for needed in before:
                weight = int(needed["metadata"]["annotations"]["helm.sh/hook-weight"])
                self.assertLess(weight, int(hook["helm.sh/hook-weight"]))
            # What the Job needs is nothing that is installed after it.
            self.assertEqual(set(variables(job["spec"]["template"])), {"LOG_LEVEL", "DATABASE_URL", "WEIR_APP_ROLE", "WEIR_APP_PASSWORD"})
            self.assertNotIn("volumes", job["spec"]["template"]["spec"])


class Documents(unittest.TestCase):
    def test_secrets_of_the_readme_are_those_of_the_values(self):
        readme = (CHART / "README.md").read_text()
        values = yaml.safe_load((CHART / "values.yaml").read_text())["secrets"]
        names = {s if isinstance(s, str) else s["name"] for s in values.values()}
        for name in names:
            self.assertIn(name, readme)

    def test_every_value_has_a_schema(self):
        import json

        schema = json.loads((CHART / "values.schema.json").read_text())

        def walk(value, node, path):
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
            if isinstance(value, dict) and node.get("additionalProperties") is False:
                for key, inner in value.items():
                    self.assertIn(key, node["properties"], f"{path}.{key}")
                    walk(inner, node["properties"][key], f"{path}.{key}")
                # And the other way round: nothing is accepted that has no default written down.
                if path in ("", ".secrets", ".services", ".networkPolicy", ".orchestrator", ".shutdown"):
                    self.assertEqual(set(node["properties"]) - {"global"}, set(value), path)

        walk(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "")


if __name__ == "__main__":
    unittest.main()
