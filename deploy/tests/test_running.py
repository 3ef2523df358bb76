"""The chart's pods as processes: their command lines, variables and secrets as rendered, on this machine, over a real
PostgreSQL and a NATS with the configuration we ship, each service with its own login."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import yaml

from deployed import HELM, PORTS, ROOT, WEIR, container, free_port, of_kind, pods, variables

PATIENCE_S = 120
PASSWORD = "secret-of-{}"
# Purges what came before the first message.
NOTHING = '{"seq":1}'
NATS = ROOT / ".weir/venv/bin/nats-server"


def until(what, condition):
    deadline = time.monotonic() + PATIENCE_S
    last = None
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
            last = found
        except (OSError, ValueError, KeyError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {PATIENCE_S} s ({last})")


def psql():
    found = sorted((ROOT / ".weir/venv").rglob("bin/psql"))
    return found[-1] if found else "psql"


class Servers:
    """PostgreSQL, borrowed from a `weir dev` that serves nobody, and NATS."""

    def __init__(self, folder):
        self.folder = folder
        self.nats_port, self.nats_monitor = free_port(), free_port()
        self.processes = []

    def start(self):
        self._nats()
        self._postgresql()

    def _nats(self):
        text = (ROOT / "deploy/nats/nats.conf").read_text()
        for before, after in (
            ("0.0.0.0:4222", f"127.0.0.1:{self.nats_port}"),
            ("0.0.0.0:8222", f"127.0.0.1:{self.nats_monitor}"),
            ("/data/jetstream", str(self.folder / "jetstream")),
        ):
            assert before in text, before
            text = text.replace(before, after)
        config = self.folder / "nats.conf"
        config.write_text(text)
        env = {"NATS_SERVER_NAME": "test", "NATS_PASSWORD": PASSWORD.format("weir")}
        env |= {f"NATS_PASSWORD_{name.upper()}": PASSWORD.format(name) for name in PORTS}
        self.nats_log = self.folder / "nats.log"
        self.processes.append(
            subprocess.Popen([NATS, "--config", config, "--log", self.nats_log], env=env, stderr=subprocess.DEVNULL)
        )

    def _postgresql(self):
        self.dev = self.folder / "dev"
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        # Eight in a row.
        first = next(p for p in iter(free_port, None) if all(free_port() == p + i for i in range(1, 8)))
        command = [WEIR, "dev", "--data", self.dev, "--port", str(first)]
        self.processes.append(
            subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        dev = until("weir dev", lambda: json.loads((self.dev / "dev.json").read_text()))
        subprocess.run([psql(), dev["database_url"], "-qc", "CREATE DATABASE apart"], check=True)
        url = dev["database_url"]
        self.migrator_url = re.sub(r"(://[^/]+/)[^?]*", r"\1apart", url)
        self.app_url = re.sub(r"://[^@]+@", f"://weir_apart:{PASSWORD.format('app')}@", self.migrator_url)

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
        subprocess.run([WEIR, "dev", "reset", "--data", self.dev], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Cluster:
    """Pods by component, each a process."""

    def __init__(self, folder, servers, profile):
        self.folder, self.servers, self.profile = folder, servers, profile
        self.ports = {name: free_port() for name in (*PORTS, "simulator")}
        self.ops = {name: free_port() for name in PORTS}
        self.processes = {}
        made = subprocess.run([WEIR, "keys", "--admin", "--format", "kubernetes"], check=True, capture_output=True, text=True)
        self.admin_key = re.search(r"pk_admin_\w+", made.stderr).group()
        self.secrets = {
            "weir-identity": yaml.safe_load(made.stdout)["stringData"],
            "weir-database": {"url": servers.app_url},
            "weir-migrator": {"url": servers.migrator_url, "app-password": PASSWORD.format("app")},
            "weir-providers": {"openai": "none"},
            # Nobody is there: memory is used.
            "weir-redis": {"url": "redis://127.0.0.1:1/0"},
            "weir-nats": {n: f"nats://{n}:{PASSWORD.format(n)}@127.0.0.1:{servers.nats_port}" for n in PORTS},
        }
        (config,) = of_kind(self.profile, "ConfigMap")
        self.config = folder / "weir.toml"
        self.config.write_text(config["data"]["weir.toml"])

    def _env(self, name, pod):
        env = {"PATH": os.environ["PATH"], "TOKIO_WORKER_THREADS": "2"}
        for variable in variables(pod).values():
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                env[variable["name"]] = self.secrets[reference["name"]][reference["key"]]
                continue
            value = variable["value"]
            for peer, port in self.ports.items():
                value = re.sub(rf"http://weir-{peer}:\d+", f"http://127.0.0.1:{port}", value)
            env[variable["name"]] = value.replace("/var/lib/weir/spool", str(self.folder / "spool"))
        if name in PORTS:
            env["WEIR_LISTEN__OPS"] = f"127.0.0.1:{self.ops[name]}"
            env["WEIR_NATS__MONITOR_URL"] = f"http://127.0.0.1:{self.servers.nats_monitor}"
        if name == "migrate":
            env["WEIR_APP_ROLE"] = "weir_apart"
        return env

    def _arguments(self, name, pod):
        arguments = list(container(pod)["args"])
        for flag, value in (("--host", "127.0.0.1"), ("--port", self.ports.get(name)), ("--config", self.config)):
            if flag in arguments:
                arguments[arguments.index(flag) + 1] = str(value)
        return arguments

    def start(self):
        all_pods = dict(pods(self.profile))
        migrate = all_pods.pop("migrate")
        done = subprocess.run(
            [WEIR, *self._arguments("migrate", migrate)], env=self._env("migrate", migrate), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for name, pod in all_pods.items():
            with open(self.folder / f"{name}.log", "wb") as log:
                self.processes[name] = subprocess.Popen(
                    [WEIR, *self._arguments(name, pod)], env=self._env(name, pod), stdout=log, stderr=log, cwd=self.folder
                )
        for name in PORTS:
            url = f"http://127.0.0.1:{self.ports[name]}/ready"
            until(f"{name} is ready: {self.log(name)[-2000:]}", lambda: self._healthy(name, url))

    def _healthy(self, name, url):
        assert self.processes[name].poll() is None, f"{name} ended: {self.log(name)[-3000:]}"
        # As containers are asked.
        return subprocess.run([WEIR, "health", "--url", url], capture_output=True).returncode == 0

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self):
        """Exit codes by service."""
        codes = {}
        for name in sorted(self.processes, key=lambda n: n != "gateway"):
            self.processes[name].send_signal(signal.SIGTERM)
        for name, process in self.processes.items():
            codes[name] = process.wait(PATIENCE_S)
        return codes

    def call(self, method, path, body=None, key=None, port=None, headers=()):
        request = urllib.request.Request(f"http://127.0.0.1:{port or self.ports['gateway']}{path}", method=method)
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        for name, value in headers:
            request.add_header(name, value)
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@unittest.skipUnless(HELM and WEIR and NATS.exists(), "no helm, no weir or no nats-server")
class Running(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls._folder = tempfile.TemporaryDirectory(prefix="weir-deploy-")
        folder = pathlib.Path(cls._folder.name)
        cls.servers = Servers(folder)
        cls.addClassCleanup(cls._folder.cleanup)
        cls.addClassCleanup(cls.servers.stop)
        cls.servers.start()
        cls.cluster = Cluster(folder, cls.servers, "development")
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.start()

    def call(self, *arguments, wanted=(200, 201), **options):
        """The answer's JSON. In the order of cluster.call, with the statuses that are right."""
        status, text = self.cluster.call(*arguments, **options)
        self.assertIn(status, wanted, text)
        return json.loads(text) if text.startswith("{") else text

    def test_a_tenants_first_hour(self):
        admin = self.cluster.admin_key
        tenant = self.call("POST", "/v1/tenants", {"name": "Acme", "tier": "premium"}, admin)
        tenant = tenant.get("tenant", tenant)["id"]
        made = self.call("POST", "/v1/api-keys", {"name": "first"}, admin, headers=[("X-Tenant-ID", tenant)])
        key, key_id = made["secret"], made["api_key"]["id"]

        question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}
        answer = self.call("POST", "/v1/chat/completions", question, key)
        tokens = answer["usage"]["completion_tokens"]
        self.assertGreater(tokens, 0)
        message = {"model": "claude-sonnet-4-5", "max_tokens": 20, "messages": [{"role": "user", "content": "Hi"}]}
        said = self.call("POST", "/v1/messages", message, key, headers=[("anthropic-version", "2023-06-01")])
        self.assertEqual(said["type"], "message")
        gemini = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
        said = self.call("POST", "/genai/v1beta/models/gemini-2.5-flash:generateContent", gemini, key)
        self.assertTrue(said["candidates"])
        # Kept by the orchestrator, with its own login at PostgreSQL; in the background other instances are told by NATS.
        asked = {"model": "mistral-small-latest", "input": "Hi", "background": True}
        kept = f"/v1/responses/{self.call('POST', '/v1/responses', asked, key)['id']}"
        until("the response is there", lambda: self.call("GET", kept, key=key)["status"] == "completed")
        # Router: what an alias stands for.
        self.assertIn("gpt", json.dumps(self.call("POST", "/v1/router/decide", {"model": "auto"}, key)))
        # Through the spool and NATS into billing and analytics.
        until("billing has counted", lambda: str(tokens) in json.dumps(self.call("GET", "/v1/users/me/usage", key=key)))
        until("analytics has counted", lambda: self.call("GET", "/v1/analytics/kpis/hourly", key=key)["data"])
        self.assertTrue(self.websocket(key).startswith("HTTP/1.1 101"))

        # Pushed by control to the gateway: sooner than anybody would ask again.
        self.call("DELETE", f"/v1/api-keys/{key_id}", key=admin, headers=[("X-Tenant-ID", tenant)], wanted=(200, 204))
        until("the key is refused", lambda: self.cluster.call("GET", "/v1/models", key=key)[0] == 401)

    def websocket(self, key):
        with socket.create_connection(("127.0.0.1", self.cluster.ports["gateway"]), timeout=30) as s:
            s.sendall(
                f"GET /ws/chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                f"Authorization: Bearer {key}\r\n\r\n".encode()
            )
            return s.recv(4096).decode(errors="replace")

    def test_figures_are_on_the_operations_port_alone(self):
        for name in PORTS:
            self.assertEqual(self.cluster.call("GET", "/metrics", port=self.cluster.ops[name])[0], 200, name)
            self.assertNotEqual(self.cluster.call("GET", "/metrics", port=self.cluster.ports[name])[0], 200, name)
            self.assertEqual(self.cluster.call("GET", "/live", port=self.cluster.ports[name])[0], 200, name)

    # What the tests try; anything else that NATS refuses is a mistake in its configuration.
    FORBIDDEN = (
        "weir.usage.x.attempt",
        "$KV.weir_keys.x",
        "$JS.API.STREAM.DELETE.USAGE",
        "$JS.API.STREAM.PURGE.USAGE",
        "$JS.API.STREAM.UPDATE.USAGE",
        "$JS.API.STREAM.CREATE.OTHER",
        "$JS.API.STREAM.MSG.GET.USAGE",
        "weir.replay.USAGE.x",
    )
    UNHEARD = ("weir.usage.>", "_INBOX.>", "_INBOX_billing.>", "_INBOX_control.>", ">")

    def test_nats_lets_services_do_what_they_need_and_no_more(self):
        for subject in self.FORBIDDEN:
            self.assertIn("Permissions Violation", self.publish("gateway", subject), subject)
        for subject in self.UNHEARD:
            self.assertIn("Permissions Violation", self.subscribe("gateway", subject), subject)
        for user in PORTS:
            self.assertNotIn("Permissions Violation", self.subscribe(user, f"_INBOX_{user}.>"), user)
            self.assertIn("Permissions Violation", self.subscribe(user, "_INBOX.>"), user)
            refused = "Permissions Violation" in self.publish(user, "$JS.API.STREAM.PURGE.USAGE", NOTHING)
            self.assertEqual(refused, user != "billing", user)
        self.assertNotIn("Permissions Violation", self.publish("orchestrator", "$JS.API.STREAM.INFO.USAGE"))
        # Replaying a letter whose event was too large for it.
        self.assertNotIn("Permissions Violation", self.publish("control", "$JS.API.STREAM.MSG.GET.USAGE"))

    def nats(self, user, *lines):
        with socket.create_connection(("127.0.0.1", self.servers.nats_port), timeout=30) as s:
            options = {"user": user, "pass": PASSWORD.format(user), "verbose": False, "pedantic": False}
            text = "\r\n".join((f"CONNECT {json.dumps(options)}", *lines, "PING", ""))
            s.sendall(text.encode())
            heard = b""
            while b"PONG" not in heard:
                some = s.recv(4096)
                if not some:
                    break
                heard += some
            return heard.decode()

    def publish(self, user, subject, payload="{}"):
        return self.nats(user, f"PUB {subject} _INBOX_{user}.x {len(payload)}", payload)

    def subscribe(self, user, subject):
        return self.nats(user, f"SUB {subject} 1")

    def test_zz_nothing_was_forbidden_and_all_end_well(self):
        """Last: looks back at what the services did."""
        text = self.servers.nats_log.read_text()
        wanted = {*self.FORBIDDEN, *self.UNHEARD}
        # Services say what they are written in, these tests say nothing.
        violations = [
            l
            for l in text.splitlines()
            if "Violation" in l and ("rust" in l or not any(f'"{w}"' in l for w in wanted))
        ]
        self.assertEqual(violations, [])
        for name in PORTS:
            self.assertNotRegex(self.cluster.log(name), r"(?i)permissions? violation|panicked")
            self.assertNotRegex(self.cluster.log(name), "cannot tell whether nats syncs|before they are on its disk")
        self.assertEqual(set(self.cluster.stop().values()), {0})

    def test_zzz_the_other_profiles_start(self):
        """What they set is understood by every service."""
        for profile in ("staging", "production"):
            with tempfile.TemporaryDirectory(prefix="weir-deploy-") as folder:
                cluster = Cluster(pathlib.Path(folder), self.servers, profile)
                try:
                    cluster.start()
                finally:
                    codes = cluster.stop()
                self.assertEqual(set(codes.values()), {0})


if __name__ == "__main__":
    unittest.main()
