#!/usr/bin/env bash
# Runs tests and ends with a summary of every step: what it ran, how long it took, what passed.
#
#   scripts/test.sh [unit|integration|e2e|chaos]     all but chaos when nothing is named
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PYTHON=.weir/test-venv/bin/python
readonly CLIENTS=crates/e2e/python

outcomes=() failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# step NAME COMMAND...: runs it, keeps its figures for the summary, goes on when it fails.
step() {
    local name=$1 began=$SECONDS status=passed
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    if ! "$@" 2>&1 | tee "$log"; then
        status=FAILED
        failed=1
    fi
    outcomes+=("$(printf '%-12s %-7s %5d s  %s' "$name" "$status" $((SECONDS - began)) "$(figures)")")
}

# Adds up the result lines of `cargo test`, or reads the one of Python's unittest.
figures() {
    awk '
        /^test result:/ { for (i = 1; i <= NF; i++) {
            if ($i ~ /^passed/) passed += $(i-1)
            if ($i ~ /^failed/) failed += $(i-1)
            if ($i ~ /^ignored/) ignored += $(i-1) } }
        /^Ran [0-9]+ tests? in / { python = $0 }
        /^(OK|FAILED)( \(.*\))?$/ { verdict = $0 }
        END {
            if (python != "") print python ": " verdict
            else printf "%d passed, %d failed, %d ignored", passed, failed, ignored
        }' "$log"
}

clients() { step clients "$PYTHON" -m unittest discover --start-directory "$CLIENTS" --verbose; }

case ${1:-all} in
    all)
        step rust cargo test --workspace --no-fail-fast
        clients
        ;;
    unit) step unit cargo test --workspace --lib --no-fail-fast ;;
    integration) step integration cargo test --workspace --exclude weir-e2e --test '*' --no-fail-fast ;;
    e2e)
        step e2e cargo test -p weir-e2e --no-fail-fast
        clients
        ;;
    # One after the other: each is a load of its own.
    chaos)
        export WEIR_E2E_REQUESTS=${WEIR_E2E_REQUESTS:-10000} WEIR_E2E_KILLS=${WEIR_E2E_KILLS:-20}
        step chaos cargo test -p weir-e2e --no-fail-fast -- --nocapture metering:: killed:: outages::
        ;;
    *)
        echo "usage: scripts/test.sh [unit|integration|e2e|chaos]" >&2
        exit 2
        ;;
esac

printf '\n== summary (%d s)\n' "$SECONDS"
printf '%s\n' "${outcomes[@]}"
exit "$failed"
