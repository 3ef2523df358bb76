#!/usr/bin/env bash
# OpenAI's Node SDK before the house that WEIR_DEV_JSON names, else one of its own. Run scripts/setup.sh test first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

source scripts/tools.sh
if ! have_node; then
    echo "SKIPPED: no Node 20 or newer with npm here (https://nodejs.org)"
    exit 77
fi
exec python3 crates/e2e/python/house.py node --test --test-reporter=spec "$@" crates/e2e/node/*.test.js
