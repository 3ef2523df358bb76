#!/usr/bin/env bash
# The tests of the whole platform with every service as a process of its own, called over the network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
WEIR_E2E="split" exec cargo test -p weir-e2e --no-fail-fast
