"""A running Weir for tests of real clients: the one WEIR_DEV_JSON names, else one of our own.

`house.py COMMAND...` runs a command that finds such a house in WEIR_DEV_JSON.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
PATIENCE_S = 180
# Below the ports that systems hand out to outgoing connections.
FIRST_PORT, LAST_PORT, SERVICES = 20_000, 32_000, 8


class House:
    """What `dev.json` says, and the process if it is ours."""

    def __init__(self):
        self._process = None
        self._folder = None
        named = os.environ.get("WEIR_DEV_JSON")
        if named:
            self.path = pathlib.Path(named)
            self.dev = json.loads(self.path.read_text())
        else:
            self.dev = self._start()

    def _start(self):
        subprocess.run(["cargo", "build", "--quiet", "-p", "weir"], cwd=ROOT, check=True)
        metadata = subprocess.run(
            ["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, check=True, capture_output=True
        )
        program = pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "debug" / "weir"
        self._folder = tempfile.TemporaryDirectory(prefix="weir-clients-")
        data = pathlib.Path(self._folder.name)
        self.path = data / "dev.json"
        # A provider's key in the surroundings would bring a real provider in.
        names = ("PATH", "HOME", "WEIR_PG_BIN", "WEIR_NATS_BIN", "WEIR_REDIS_BIN")
        env = {name: os.environ[name] for name in names if name in os.environ}
        # Often enough for every slow stream to have some.
        env["WEIR_GATEWAY__KEEP_ALIVE"] = "200ms"
        command = [program, "dev", "--port", str(free_ports()), "--data", data]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"weir dev ended: {self._process.stderr.read().decode()}")
            try:
                return json.loads(self.path.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.05)
        raise RuntimeError("weir dev was not ready in time")

    def stop(self):
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=PATIENCE_S)
            self._process.stderr.close()
        if self._folder:
            # What root's PostgreSQL keeps outside the folder goes too.
            reset = [self._process.args[0], "dev", "reset", "--data", self._folder.name]
            subprocess.run(reset, check=True, stdout=subprocess.DEVNULL)
            self._folder.cleanup()

    def call(self, method, path, body=None, key=None, tenant=None):
        """One REST call, by the platform's key for any tenant: status and JSON."""
        request = urllib.request.Request(self.dev["gateway"] + path, method=method)
        request.add_header("Authorization", "Bearer " + (key or self.dev["api_key"]))
        if tenant is not None:
            request.add_header("X-Tenant-ID", tenant)
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def new_key(self, name, **tenant):
        """A key of a new tenant."""
        tenant = {"name": name, "tier": "enterprise", **tenant}
        status, tenant = self.call("POST", "/v1/tenants", tenant, self.dev["admin_key"])
        assert status == 201, tenant
        status, made = self.call("POST", "/v1/api-keys", {"name": name}, self.dev["admin_key"], tenant["id"])
        assert status == 201, made
        return made["secret"]

    def limited_key(self, requests_per_minute):
        """A key of a new tenant that may make so many requests a minute."""
        return self.new_key("limited", tier="free", rate_limits={"requests_per_minute": requests_per_minute})

    def ledger(self):
        """The simulated provider's sums."""
        with urllib.request.urlopen(self.dev["simulator"] + "/_sim/ledger", timeout=30) as answer:
            return json.loads(answer.read())


def free_ports():
    """The first of eight ports in a row that are free now."""
    span = LAST_PORT - FIRST_PORT - SERVICES
    begin = os.getpid() % span
    for step in range(0, span, SERVICES):
        first = FIRST_PORT + (begin + step) % span
        if all(is_free(port) for port in range(first, first + SERVICES)):
            return first
    raise RuntimeError("no eight free ports in a row")


def is_free(port):
    with socket.socket() as attempt:
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def until(what, condition):
    """Polls until the condition gives something true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"never came: {what}")


def main(command):
    house = House()
    try:
        return subprocess.run(command, env={**os.environ, "WEIR_DEV_JSON": str(house.path)}).returncode
    finally:
        house.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
