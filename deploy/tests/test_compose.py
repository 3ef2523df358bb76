"""Compose files and Dockerfile: they load in every combination, and name nothing that isn't there."""

import json
import pathlib
import re
import subprocess
import tempfile
import time
import unittest

import yaml

from deployed import COMPOSE, PORTS, ROOT, WEIR, flags_exist, free_port, help_of, run
from test_network import CALLS, POSTGRESQL, REDIS

BASE, PROD, MONITORING = "docker-compose.yml", "docker-compose.prod.yml", "docker-compose.monitoring.yml"
KEYS = "/var/lib/weir/keys"
DIALECTS = ("openai", "responses", "anthropic", "gemini", "mistral", "ollama", "bedrock")
COMBINATIONS = ((BASE,), (BASE, PROD), (BASE, MONITORING), (BASE, PROD, MONITORING))
PASSWORDS = {
    name: "x" * 8
    for name in (
        "POSTGRES_PASSWORD", "WEIR_APP_PASSWORD", "NATS_PASSWORD", "REDIS_PASSWORD",
        *(f"NATS_PASSWORD_{service.upper()}" for service in PORTS),
    )
}


def load(files, environment=None):
    """What `docker compose config` would read: the same library, without the engine. Variables are set here, since that
    library's own program looks at none; what they don't set has its default, or is missing."""
    environment = environment or {}

    def value(match):
        return environment.get(match[1], match[0])

    with tempfile.TemporaryDirectory() as folder:
        for name in files:
            text = re.sub(r"(?<!\$)\$\{(\w+)(?::?[-?][^}]*)?\}", value, (ROOT / name).read_text())
            pathlib.Path(folder, name).write_text(text)
        done = run(COMPOSE, "-format", "json", "-no-path-resolution", *files, cwd=folder)
    if done.returncode:
        raise ValueError(done.stderr)
    model = json.loads(done.stdout)
    for service in model["services"].values():
        # A list where files were merged.
        if isinstance(service.get("environment"), list):
            service["environment"] = dict(line.split("=", 1) for line in service["environment"])
    return model


def services_of(model):
    return {name: s for name, s in model["services"].items() if name in PORTS}


@unittest.skipUnless(COMPOSE, "no reader of compose files")
class Compose(unittest.TestCase):
    def setUp(self):
        self.models = {files: load(files, PASSWORDS if PROD in files else None) for files in COMBINATIONS}

    def test_the_base_needs_no_configuration(self):
        model = self.models[(BASE,)]
        self.assertEqual(set(services_of(model)), set(PORTS))
        self.assertLessEqual({"postgres", "nats", "redis", "keys", "migrate", "simulator"}, set(model["services"]))

    def test_production_has_no_default_password(self):
        for name in PASSWORDS:
            with self.assertRaises(ValueError, msg=name) as caught:
                load((BASE, PROD), {k: v for k, v in PASSWORDS.items() if k != name})
            self.assertIn(f"required variable {name} is missing", str(caught.exception))
        text = json.dumps(self.models[(BASE, PROD)])
        self.assertNotRegex(text, r":weir@|simulator")

    def test_the_simulator_speaks_every_dialect_until_it_is_turned_off(self):
        def files(environment, combination=(BASE,)):
            named = load(combination, environment)["services"]["orchestrator"].get("env_file") or ()
            self.assertFalse([f for f in named if f["required"]])
            return [ROOT / f["path"] for f in named if (ROOT / f["path"]).exists()]

        self.assertEqual((files({"WEIR_SIMULATOR": ""}), files(PASSWORDS, (BASE, PROD))), ([], []))
        (file,) = files({})
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        key = re.compile(r"WEIR_ORCHESTRATOR__PROVIDERS__(SIMULATOR[A-Z-]*)__([A-Z_]+)=(\S+)")
        told = [key.fullmatch(line).groups() for line in lines]
        self.assertEqual({value for _, what, value in told if what == "DIALECT"}, set(DIALECTS))
        urls = [value for _, what, value in told if what == "BASE_URL"]
        self.assertEqual(len(urls), 10)
        port = self.models[(BASE,)]["services"]["simulator"]["command"][-1]
        for url in urls:
            self.assertTrue(url.startswith(f"http://simulator:{port}"), url)

    def test_paths_exist(self):
        for files, model in self.models.items():
            for name, service in model["services"].items():
                for volume in service.get("volumes", ()):
                    if volume["type"] == "bind":
                        self.assertTrue((ROOT / volume["source"]).exists(), (files, name, volume["source"]))
                    else:
                        self.assertIn(volume["source"], model["volumes"])

    def test_images_are_of_one_version(self):
        for model in self.models.values():
            ours = {s["image"] for s in services_of(model).values()}
            ours |= {s["image"] for n, s in model["services"].items() if n in ("keys", "migrate", "simulator")}
            self.assertEqual(len(ours), 1)
            for service in model["services"].values():
                self.assertFalse(service["image"].endswith(":latest"))

    def test_ports(self):
        """Each service where its peers look for it, and nothing open to other machines but what was asked for."""
        for files, model in self.models.items():
            for name, service in services_of(model).items():
                arguments = service["command"]
                self.assertEqual(arguments[arguments.index("--port") + 1], str(PORTS[name]))
                published = {int(p["target"]) for p in service.get("ports", ())}
                self.assertEqual(published, {PORTS[name]} if PROD not in files or name == "gateway" else set())
            for service in model["services"].values():
                for port in service.get("ports", ()):
                    self.assertEqual(port["host_ip"], "127.0.0.1")
            if MONITORING in files:
                open_ports = {int(p["published"]) for n in ("prometheus", "grafana", "jaeger") for p in model["services"][n]["ports"]}
                self.assertEqual(open_ports, {9090, 3001, 16686})

    def test_peers_and_servers(self):
        for model in self.models.values():
            for name, service in services_of(model).items():
                told = {k: v for k, v in service["environment"].items() if k.startswith("WEIR_PEERS__")}
                wanted = {f"WEIR_PEERS__{b.upper()}": f"http://{b}:{PORTS[b]}" for a, b in CALLS if a == name}
                self.assertEqual(told, wanted)
                self.assertEqual("DATABASE_URL" in service["environment"], name in POSTGRESQL)
                self.assertEqual("REDIS_URL" in service["environment"], name in REDIS)
                self.assertRegex(service["environment"]["NATS_URL"], rf"^nats://{name}:\w+@nats:4222$")

    def test_everything_waits_for_what_it_needs(self):
        for model in self.models.values():
            for name, service in services_of(model).items():
                waits = service["depends_on"]
                self.assertEqual(waits["migrate"]["condition"], "service_completed_successfully")
                self.assertEqual(waits["keys"]["condition"], "service_completed_successfully")
                self.assertEqual(waits["nats"]["condition"], "service_healthy")

    def test_spool_and_keys_are_volumes(self):
        for model in self.models.values():
            for name, service in services_of(model).items():
                mounts = {v["target"]: v for v in service["volumes"]}
                config = service["command"][service["command"].index("--config") + 1]
                self.assertTrue(mounts[str(pathlib.PurePath(config).parent)]["read_only"])
                if name == "orchestrator":
                    self.assertIn(service["environment"]["WEIR_ORCHESTRATOR__SPOOL_DIR"], mounts)
            made = {v["target"]: v["source"] for v in model["services"]["keys"]["volumes"]}
            self.assertEqual(set(made), {f"{KEYS}/{name}" for name in PORTS})
            self.assertIn(KEYS, model["services"]["keys"]["command"])

    def test_a_service_sees_its_own_key_alone(self):
        for model in self.models.values():
            made = {v["target"]: v["source"] for v in model["services"]["keys"]["volumes"]}
            self.assertEqual(len(set(made.values())), len(PORTS))
            for name, service in model["services"].items():
                if name != "keys":
                    mounted = {v["source"] for v in service.get("volumes", ())} & set(made.values())
                    self.assertEqual(mounted, {made[f"{KEYS}/{name}"]} if name in PORTS else set(), name)

    def test_the_image_has_a_folder_for_each_key(self):
        """A volume begins with the owner of the folder it is mounted over."""
        listed = re.search(r"for service in ([^;]*);", (ROOT / "Dockerfile").read_text()).group(1)
        self.assertEqual(set(listed.split()), set(PORTS))

    def test_production_is_hardened(self):
        model = self.models[(BASE, PROD)]
        for name in (*PORTS, "keys", "migrate"):
            service = model["services"][name]
            self.assertIs(service["read_only"], True)
            self.assertEqual(service["cap_drop"], ["ALL"])
        for name in PORTS:
            self.assertEqual(model["services"][name]["restart"], "always")
            self.assertIn("memory", model["services"][name]["deploy"]["resources"]["limits"])
        self.assertEqual(model["services"]["orchestrator"]["deploy"]["replicas"], 1)

    @unittest.skipUnless(WEIR, "no weir")
    def test_command_lines_are_the_programs(self):
        for model in self.models.values():
            for service in model["services"].values():
                if service["image"] != "weir":
                    continue
                flags_exist(self, service["command"])
                check = service["healthcheck"].get("test")
                if check:
                    self.assertEqual(check[:2], ["CMD", "/usr/bin/weir"])
                    flags_exist(self, check[2:])

    @unittest.skipUnless(WEIR, "no weir")
    def test_services_start_as_they_are_told(self):
        """Those that own no database, with the keys that `keys` makes and variables as they are written, ports aside."""
        model = self.models[(BASE,)]
        with tempfile.TemporaryDirectory() as folder:
            made = [a.replace(KEYS, folder) for a in model["services"]["keys"]["command"]]
            for _ in range(2):
                self.assertEqual(run(WEIR, *made).returncode, 0)
            for name in PORTS:
                config = pathlib.Path(folder, name, "weir.toml")
                self.assertEqual(config.stat().st_mode & 0o777, 0o600)
                text = config.read_text()
                self.assertEqual(re.findall(r"identity\.keys\.(\w+)", text), [name])
                self.assertEqual(set(re.findall(r"identity\.trusted\.(\w+)", text)), {a for a, b in CALLS if b == name})
                self.assertEqual("control.admin_key_sha256" in text, name == "control")
            for name in ("gateway", "realtime"):
                config = pathlib.Path(folder, name, "weir.toml")
                service, port = model["services"][name], free_port()
                arguments = [str(config) if a.endswith("weir.toml") else a for a in service["command"]]
                arguments[arguments.index("--port") + 1] = str(port)
                env = {**service["environment"], "WEIR_LISTEN__OPS": f"127.0.0.1:{free_port()}"}
                process = subprocess.Popen([WEIR, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                try:
                    url = f"http://127.0.0.1:{port}/ready"
                    deadline = time.monotonic() + 60
                    while run(WEIR, "health", "--url", url).returncode:
                        self.assertIsNone(process.poll(), process.stdout)
                        self.assertLess(time.monotonic(), deadline)
                        time.sleep(0.1)
                finally:
                    process.terminate()
                    said = process.communicate()[0].decode()
                self.assertEqual(process.returncode, 0, said)

    def test_well_known_variables_are_settings(self):
        text = (ROOT / "crates/service/src/settings.rs").read_text()
        aliases = set(re.findall(r'\("([A-Z_]+)", "[a-z_.]+"\)', text))
        for model in self.models.values():
            for name, service in services_of(model).items():
                for variable in service["environment"]:
                    if not re.match(r"WEIR_[A-Z0-9]+__", variable):
                        self.assertIn(variable, aliases)

    def test_prometheus_asks_every_service(self):
        config = yaml.safe_load((ROOT / "deploy/monitoring/prometheus.yml").read_text())
        targets = {t for job in config["scrape_configs"] for s in job.get("static_configs", ()) for t in s["targets"]}
        for name, service in services_of(self.models[(BASE, MONITORING)]).items():
            ops = service["environment"]["WEIR_LISTEN__OPS"].rsplit(":", 1)[1]
            self.assertIn(f"{name}:{ops}", targets)


class Image(unittest.TestCase):
    def setUp(self):
        self.text = (ROOT / "Dockerfile").read_text()

    def instruction(self, name):
        """The last one of its kind, which counts."""
        joined = self.text.replace("\\\n", " ")
        return re.findall(rf"(?m)^\s*{name} (.*)$", joined)[-1]

    def test_it_runs_as_nobody(self):
        self.assertEqual(self.instruction("USER"), "65532:65532")

    def test_ports_are_said(self):
        self.assertLessEqual({str(p) for p in PORTS.values()}, set(self.instruction("EXPOSE").split()))

    def test_what_is_copied_is_not_ignored(self):
        rules = [r for r in (ROOT / ".dockerignore").read_text().splitlines() if r and not r.startswith("#")]
        for needed in ("Cargo.toml", "Cargo.lock", "crates", "migrations", "proto"):
            self.assertIn(f"!{needed}", rules)
            self.assertTrue((ROOT / needed).exists())
        self.assertEqual(rules[0], "*")
        # Sources include files by path: none may be outside of what the build sees.
        outside = set()
        for source in (ROOT / "crates").rglob("*.rs"):
            for path in re.findall(r'(?:include_str|include_bytes|migrate)!\(\s*"([^"]+)"', source.read_text()):
                base = source.parents[len(source.relative_to(ROOT / "crates").parts) - 2] if "migrat" in path else source.parent
                found = (base / path).resolve()
                if found.is_relative_to(ROOT):
                    outside.add(found.relative_to(ROOT).parts[0])
        self.assertLessEqual(outside, {"crates", "migrations", "proto"})

    def test_the_builds_rust_is_ours(self):
        wanted = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text()).group(1)
        self.assertIn(f"FROM rust:{wanted}-bookworm", self.text)

    def test_nothing_is_downloaded_but_crates(self):
        for command in re.findall(r"(?m)^RUN (.*(?:\\\n.*)*)", self.text):
            self.assertNotRegex(command, r"curl|wget|apt|apk|pip|npm|git clone|rustup")
        self.assertIn("--locked", self.text)

    @unittest.skipUnless(WEIR, "no weir")
    def test_the_health_check_and_the_entry(self):
        check = json.loads(self.instruction("HEALTHCHECK").split("CMD", 1)[1])
        self.assertEqual(check[0], json.loads(self.instruction("ENTRYPOINT"))[0])
        flags_exist(self, check[1:])
        self.assertTrue(help_of("health"))

    @unittest.skipUnless(WEIR, "no weir")
    def test_the_binary_needs_what_the_image_has(self):
        linked = subprocess.run(["ldd", WEIR], capture_output=True, text=True)
        if linked.returncode:
            self.skipTest("no ldd")
        needed = set(re.findall(r"(?m)^\s*(?:/\S*/)?(\S+?\.so[.\d]*)", linked.stdout))
        there = {"linux-vdso.so.1", "libgcc_s.so.1", "libm.so.6", "libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
        self.assertLessEqual(needed, there)


if __name__ == "__main__":
    unittest.main()
