"""Checks the API's description, and the API against it: as a tenant, and as the platform's operator.

`house.py openapi.py [schemathesis' options]`; the house is the one of WEIR_DEV_JSON.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from openapi_spec_validator import OpenAPIV31SpecValidator

CONFIG = pathlib.Path(__file__).resolve().with_name("schemathesis.toml")
PROGRAM = pathlib.Path(sys.executable).absolute().with_name("schemathesis")


def main():
    dev = json.loads(pathlib.Path(os.environ["WEIR_DEV_JSON"]).read_text())
    gateway = dev["gateway"]
    with urllib.request.urlopen(f"{gateway}/openapi.json", timeout=30) as answer:
        description = json.load(answer)
    errors = [error.message for error in OpenAPIV31SpecValidator(description).iter_errors()]
    if errors:
        sys.exit("openapi.json is no valid OpenAPI 3.1:\n" + "\n".join(errors))
    print(f"openapi.json is valid OpenAPI 3.1 with {len(description['paths'])} paths", flush=True)

    # A tenant and keys of its own: what is tried out here may revoke or suspend what it finds.
    admin = {"Authorization": f"Bearer {dev['admin_key']}"}
    tenant = post(gateway, "/v1/tenants", {"name": "openapi", "tier": "enterprise"}, admin)["id"]
    admin["X-Tenant-ID"] = tenant
    scopes = description["components"]["schemas"]["CreateApiKeyRequest"]["properties"]["scopes"]["items"]["enum"]
    key = post(gateway, "/v1/api-keys", {"name": "openapi", "scopes": scopes}, admin)["secret"]
    for who, headers in {"a tenant": {"Authorization": f"Bearer {key}"}, "the platform": admin}.items():
        print(f"\n== as {who}", flush=True)
        options = [option for name, value in headers.items() for option in ("--header", f"{name}: {value}")]
        command = ["--config-file", CONFIG, "run", f"{gateway}/openapi.json", "--url", gateway, *options]
        # It leaves notes of its own where it runs.
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run([PROGRAM, *command, *sys.argv[1:]], cwd=folder)
        if run.returncode:
            sys.exit(f"as {who}, the API does not answer as /openapi.json says")
    print("the API answers as /openapi.json says")


def post(gateway, path, body, headers):
    request = urllib.request.Request(
        gateway + path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
