#!/usr/bin/env bash
# Locks scripts/requirements-test.in into requirements-test.txt, for every Python we run on, with hashes.
# With --upgrade, dependencies move to what is newest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly UV=0.13.8
readonly OUT=scripts/requirements-test.txt

[[ -x .weir/uv/bin/uv ]] || python3 -m venv .weir/uv
.weir/uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV"
# uv keeps the versions it finds in the file it writes to, as long as they fit.
.weir/uv/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
    --no-emit-index-url --no-emit-find-links "$@" scripts/requirements-test.in -o $OUT
sed -i '1i # Locked from requirements-test.in by scripts/lock-python.sh.' $OUT
