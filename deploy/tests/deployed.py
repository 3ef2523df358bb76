"""What the tests of the chart and of the compose files share."""

import functools
import itertools
import os
import pathlib
import socket
import subprocess
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "weir"
PROFILES = ("development", "staging", "production")
PORTS = {
    "gateway": 8000,
    "realtime": 8001,
    "router": 8002,
    "orchestrator": 8003,
    "analytics": 8004,
    "billing": 8005,
    "ingestion": 8006,
    "control": 8007,
}
OPS_PORT = 9100

HELM = os.environ.get("HELM")
KUBECONFORM = os.environ.get("KUBECONFORM")
COMPOSE = os.environ.get("COMPOSE")
WEIR = os.environ.get("WEIR")

needs_helm = unittest.skipUnless(HELM, "no helm")


# Below the ports that systems hand out to outgoing connections.
_ports = itertools.count(20_000 + os.getpid() * 37 % 11_000)


def free_port():
    """One that nobody listens on, and that nobody is given again."""
    for port in _ports:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def run(*command, **options):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)


def template(profile, *arguments):
    """The chart's objects, or the error it is refused with."""
    values = ["--values", CHART / f"values.{profile}.yaml"] if profile else []
    done = run(HELM, "template", "weir", CHART, *values, *arguments)
    if done.returncode:
        raise Refused(done.stderr)
    return [o for o in yaml.safe_load_all(done.stdout) if o]


class Refused(Exception):
    pass


@functools.cache
def objects(profile):
    return template(profile)


def of_kind(profile, *kinds):
    return [o for o in objects(profile) if o["kind"] in kinds]


def component(thing):
    return thing["metadata"]["labels"]["app.kubernetes.io/component"]


def workloads(profile):
    """Component → workload, of the eight services."""
    found = {component(o): o for o in of_kind(profile, "Deployment", "StatefulSet")}
    return {name: found[name] for name in PORTS if name in found}


def pods(profile):
    """Component → pod template, of everything that runs."""
    return {component(o): o["spec"]["template"] for o in of_kind(profile, "Deployment", "StatefulSet", "Job")}


def container(template):
    (only,) = template["spec"]["containers"]
    return only


def variables(template):
    return {v["name"]: v for v in container(template).get("env", [])}


@functools.cache
def help_of(*command):
    done = run(WEIR, *command, "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout


def flags_exist(case, arguments):
    """Every flag of a command line is one of the program's."""
    words = [a for a in arguments if not a.startswith("-")]
    text = help_of(words[0])
    for argument in arguments:
        if argument.startswith("--"):
            case.assertRegex(text, rf"(?m)^\s+(-\w, )?{argument}\b", f"weir {words[0]} has no {argument}")


def selects(selector, labels):
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or []:
        value, wanted = labels.get(expression["key"]), expression.get("values")
        holds = {
            "In": lambda: value in wanted,
            "NotIn": lambda: value not in wanted,
            "Exists": lambda: value is not None,
            "DoesNotExist": lambda: value is None,
        }[expression["operator"]]()
        if not holds:
            return False
    return True
