#!/usr/bin/env bash
# The REST API against its own description: is it valid OpenAPI 3.1, and does a running Weir answer as it says?
#
#   scripts/test-openapi.sh [schemathesis' options]     WEIR_DEV_JSON names a running Weir, else one is started
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PYTHON=.weir/test-venv/bin/python

if ! "$PYTHON" -c 'import schemathesis, openapi_spec_validator' 2>/dev/null; then
    echo "SKIPPED: schemathesis is not there (Python 3.11 or newer, and: scripts/setup.sh test)"
    exit 77
fi
exec "$PYTHON" crates/e2e/python/house.py "$PYTHON" crates/e2e/python/openapi.py "$@"
