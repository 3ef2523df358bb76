"""NetworkPolicies: who can reach whom is computed from them, and must be the architecture, arrow by arrow."""

import itertools
import re
import unittest

from deployed import OPS_PORT, PORTS, PROFILES, ROOT, needs_helm, objects, of_kind, pods, selects, template, variables

# Who calls whom, as the architecture draws it. Realtime asks control for the keys its clients open with.
CALLS = {
    ("gateway", "orchestrator"),
    ("gateway", "control"),
    ("gateway", "billing"),
    ("gateway", "analytics"),
    ("gateway", "ingestion"),
    ("gateway", "router"),
    ("gateway", "realtime"),
    ("realtime", "orchestrator"),
    ("realtime", "control"),
    ("orchestrator", "router"),
    ("orchestrator", "ingestion"),
}
# Arrows that no code uses so far: retrieval.
NOT_YET = {("orchestrator", "ingestion")}
# Those who own a schema.
POSTGRESQL = {"router", "orchestrator", "analytics", "billing", "ingestion", "control"}
REDIS = {"realtime", "orchestrator"}
PROVIDERS = {"orchestrator"}
# What is not in the release: an address with none of its labels.
OUTSIDE = None


def rules(policies, labels, direction):
    """The rules of one direction that hold for a pod; None when no policy selects it, so that all is allowed."""
    kind = direction.capitalize()
    chosen = [p["spec"] for p in policies if kind in p["spec"]["policyTypes"] and selects(p["spec"]["podSelector"], labels)]
    return [rule for spec in chosen for rule in spec.get(direction, [])] if chosen else None


def matches(peers, labels):
    """Whether a rule's peers include a pod of the release's namespace. No peers: everyone."""
    if not peers:
        return True
    return any(
        "podSelector" in peer and "namespaceSelector" not in peer and selects(peer["podSelector"], labels)
        for peer in peers
    )


def on_port(rule, port, protocol="TCP"):
    return any(p["port"] == port and p.get("protocol", "TCP") == protocol for p in rule["ports"])


def reachable(policies, source, target, port):
    out = rules(policies, source, "egress")
    into = rules(policies, target, "ingress")
    leaves = out is None or any(on_port(r, port) and matches(r.get("to"), target) for r in out)
    enters = into is None or any(on_port(r, port) and matches(r.get("from"), source) for r in into)
    return leaves and enters


@needs_helm
class Edges(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.houses = [(p, of_kind(p, "NetworkPolicy"), self.labels(pods(p))) for p in PROFILES]

    @staticmethod
    def labels(found):
        return {name: pod["metadata"]["labels"] for name, pod in found.items()}

    def test_services_reach_exactly_whom_they_call(self):
        for profile, policies, labels in self.houses:
            wanted = set(CALLS)
            if "simulator" in labels:
                wanted.add(("orchestrator", "simulator"))
            all_ports = {**PORTS, "simulator": 8099}
            found = {
                (a, b)
                for a, b in itertools.permutations(labels, 2)
                for port in all_ports.values()
                if reachable(policies, labels[a], labels[b], port)
                # The gateway's port is everybody's by design; a service's way out is what keeps it away.
            }
            self.assertEqual(found, wanted, profile)

    def test_each_arrow_has_a_policy_on_both_sides_and_no_policy_is_left_over(self):
        for profile, policies, labels in self.houses:
            names = {p["metadata"]["name"].removeprefix("weir-") for p in policies}
            wanted = {f"{a}-to-{b}-{side}" for a, b in CALLS for side in ("out", "in")}
            wanted |= {f"{name}-to-nats" for name in PORTS}
            wanted |= {f"{name}-to-postgresql" for name in POSTGRESQL | {"migrate"}}
            wanted |= {f"{name}-to-providers" for name in PROVIDERS}
            wanted |= {"default-deny", "dns", "clients"}
            if profile == "development":
                wanted |= {"orchestrator-to-simulator-out", "orchestrator-to-simulator-in"}
            else:
                wanted |= {f"{name}-to-redis" for name in REDIS} | {"scrape", "traces"}
            self.assertEqual(names, wanted, profile)

    def test_the_default_is_no(self):
        for profile, policies, labels in self.houses:
            (deny,) = [p["spec"] for p in policies if p["metadata"]["name"] == "weir-default-deny"]
            self.assertEqual(set(deny), {"podSelector", "policyTypes"})
            self.assertEqual(deny["policyTypes"], ["Ingress", "Egress"])
            self.assertTrue(all(selects(deny["podSelector"], its) for its in labels.values()))

    def test_the_ways_out_of_the_release(self):
        for profile, policies, labels in self.houses:
            for name, its in labels.items():
                found = set()
                for rule in rules(policies, its, "egress"):
                    inside = any("namespaceSelector" not in t and "ipBlock" not in t and
                                 any(selects(t["podSelector"], other) for other in labels.values())
                                 for t in rule.get("to") or [])
                    if not inside:
                        found |= {p["port"] for p in rule["ports"]}
                wanted = {53}
                wanted |= {4222, 8222} if name in PORTS else set()
                wanted |= {5432} if name in POSTGRESQL | {"migrate"} else set()
                wanted |= {6379} if name in REDIS and profile != "development" else set()
                wanted |= {443} if name in PROVIDERS else set()
                # Traces are sent by whoever is configured to.
                wanted |= {4317} if profile != "development" and name in set(PORTS) | {"migrate"} else set()
                self.assertEqual(found, wanted, (profile, name))

    def test_the_ways_in_from_outside(self):
        for profile, policies, labels in self.houses:
            for name, its in labels.items():
                found = set()
                for rule in rules(policies, its, "ingress"):
                    peers = rule.get("from") or []
                    if not peers or any("namespaceSelector" in p or "ipBlock" in p for p in peers):
                        found |= {p["port"] for p in rule["ports"]}
                wanted = {8000} if name == "gateway" else set()
                if profile != "development":
                    wanted |= {OPS_PORT}
                self.assertEqual(found, wanted, (profile, name))

    def test_providers_are_public_addresses(self):
        import ipaddress

        inward = ["10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.1", "fd00::1", "fe80::1", "::1"]
        for profile, policies, labels in self.houses:
            for rule in rules(policies, labels["orchestrator"], "egress"):
                if not on_port(rule, 443):
                    continue
                for block in (t["ipBlock"] for t in rule["to"]):
                    network = ipaddress.ip_network(block["cidr"])
                    holes = [ipaddress.ip_network(e) for e in block["except"]]
                    for address in map(ipaddress.ip_address, inward):
                        if address.version == network.version:
                            self.assertTrue(any(address in hole for hole in holes), address)

    def test_a_pod_of_somebody_else_reaches_the_gateway_alone(self):
        for profile, policies, labels in self.houses:
            stranger = {"app": "other"}
            open_to = {
                (name, port)
                for name, its in labels.items()
                for port in (*PORTS.values(), OPS_PORT, 8099)
                if reachable(policies, stranger, its, port)
            }
            # In production even the gateway is the ingress controller's alone.
            self.assertEqual(open_to, set() if profile == "production" else {("gateway", 8000)}, profile)

    def test_servers_are_somewhere_narrow_when_told(self):
        for profile in ("development", "production"):
            for policy in of_kind(profile, "NetworkPolicy"):
                name = policy["metadata"]["name"]
                if name.endswith(("-to-nats", "-to-postgresql")):
                    self.assertTrue(policy["spec"]["egress"][0]["to"], name)

    def test_off_means_off(self):
        off = template("development", "--set", "networkPolicy.enabled=false")
        self.assertFalse([o for o in off if o["kind"] == "NetworkPolicy"])

    def test_services_are_told_of_those_they_may_reach(self):
        for profile in PROFILES:
            told = {
                (name, variable.removeprefix("WEIR_PEERS__").lower())
                for name, pod in pods(profile).items()
                for variable in variables(pod)
                if variable.startswith("WEIR_PEERS__")
            }
            self.assertEqual(told, CALLS)


class Sources(unittest.TestCase):
    """The lists above are those of the code."""

    def sources(self, service):
        files = (ROOT / "crates" / service / "src").rglob("*.rs")
        return "\n".join(path.read_text() for path in files)

    def test_calls(self):
        found = set()
        for service in PORTS:
            text = self.sources(service)
            peers = re.findall(r"\.(?:peer|address)\(Name::(\w+)\)", text)
            if "weir_access::" in text:
                peers += re.findall(r"\.peer\(Name::(\w+)\)", self.sources("access"))
            found |= {(service, peer.lower()) for peer in peers}
        self.assertEqual(found, CALLS - NOT_YET)

    def test_redis(self):
        users = {s for s in PORTS if re.search(r"(?m)^weir-kv\b", (ROOT / "crates" / s / "Cargo.toml").read_text())}
        self.assertEqual(users, REDIS)

    def test_postgresql(self):
        users = {s for s in PORTS if re.search(r"(?m)^weir-db\b", (ROOT / "crates" / s / "Cargo.toml").read_text())}
        # The others own schemas that are still empty.
        self.assertLessEqual(users, POSTGRESQL)


if __name__ == "__main__":
    unittest.main()
