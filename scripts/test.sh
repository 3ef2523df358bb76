#!/usr/bin/env bash
# Runs tests and ends with a summary of every step: what it ran, how long it took, what passed.
#
#   scripts/test.sh [all|e2e|clients|STEP]...     all (which is all but chaos) when nothing is named
#
# A step is a command, or a script of its own below. Such a script ends with 77 when a tool it needs isn't there, and its
# last line says which: the step counts as SKIPPED, and in CI, where every tool has to be there, as failed. It ends with 78
# when there is nothing here it could test: SKIPPED everywhere.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

readonly PYTHON=.weir/test-venv/bin/python
readonly CLIENTS=crates/e2e/python

outcomes=() failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# step NAME COMMAND...: runs it, keeps its figures for the summary, goes on when it fails.
step() {
    local name=$1 began=$SECONDS code verdict=passed said
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    said=$(figures)
    if [[ $code == 78 || $code == 77 && ${CI:-} != true ]]; then
        verdict=SKIPPED said=$(tail -n 1 "$log")
    elif [[ $code == 77 ]]; then
        verdict=FAILED failed=1 said="CI does not skip: $(tail -n 1 "$log")"
    elif [[ $code != 0 ]]; then
        verdict=FAILED failed=1
    fi
    outcomes+=("$(printf '%-15s %-7s %5d s  %s' "$name" "$verdict" $((SECONDS - began)) "$said")")
}

# Adds up the result lines of `cargo test` and of Node's test runner, or reads the ones of Python's unittest.
figures() {
    awk '
        /^test result:/ { rust = 1; for (i = 1; i <= NF; i++) {
            if ($i ~ /^passed/) passed += $(i-1)
            if ($i ~ /^failed/) failed += $(i-1)
            if ($i ~ /^ignored/) ignored += $(i-1) } }
        /^(ℹ|#) pass [0-9]+$/ { rust = 1; passed += $3 }
        /^(ℹ|#) fail [0-9]+$/ { failed += $3 }
        /^(ℹ|#) skipped [0-9]+$/ { ignored += $3 }
        /^Ran [0-9]+ tests? in / { python = $0 }
        /^(OK|FAILED)( \(.*\))?$/ { verdict = $0 }
        NF { last = $0 }
        END {
            if (python != "") print python ": " verdict
            else if (rust) printf "%d passed, %d failed, %d ignored", passed, failed, ignored
            else print substr(last, 1, 100)
        }' "$log"
}

# script NAME FILE: a step that is a script of its own.
script() {
    if [[ -e $2 ]]; then
        step "$1" "$2"
    else
        step "$1" bash -c 'echo "SKIPPED: $0 is not there"; exit 77' "$2"
    fi
}

rust() { step rust cargo test --workspace --no-fail-fast; }
unit() { step unit cargo test --workspace --lib --no-fail-fast; }
integration() { step integration cargo test --workspace --exclude weir-e2e --test '*' --no-fail-fast; }
# The whole platform in one process.
fused() { step fused cargo test -p weir-e2e --no-fail-fast; }
# The services as processes of their own.
split() { script split scripts/test-split.sh; }
# A gateway of this version with services of the last, and the other way round.
skew() { script skew scripts/test-skew.sh; }
# Official SDKs, unmodified.
clients-python() {
    step clients-python "$PYTHON" "$CLIENTS/house.py" "$PYTHON" -W ignore::ResourceWarning -m unittest discover \
        --start-directory "$CLIENTS" --verbose
}
clients-node() { script clients-node crates/e2e/node/run.sh; }
# The REST API against its own description.
openapi() { script openapi scripts/test-openapi.sh; }
# Prometheus, alert rules, dashboards.
monitoring() { script monitoring scripts/test-monitoring.sh; }
# Chart, image, compose files.
deploy() { script deploy scripts/test-deploy.sh; }
# Workflows, links, owners, lock files: what the compiler does not see.
repository() { script repository scripts/test-repository.sh; }
# One after the other: each is a load of its own.
chaos() {
    export WEIR_E2E_REQUESTS=${WEIR_E2E_REQUESTS:-10000} WEIR_E2E_KILLS=${WEIR_E2E_KILLS:-20}
    step chaos cargo test -p weir-e2e --no-fail-fast -- --nocapture metering:: killed:: outages::
}

readonly STEPS="rust unit integration fused split skew clients-python clients-node openapi monitoring deploy repository chaos"

steps=()
for name in "${@:-all}"; do
    case $name in
        all) steps+=(repository rust split skew clients-python clients-node openapi monitoring deploy) ;;
        e2e) steps+=(fused split skew clients-python clients-node) ;;
        clients) steps+=(clients-python clients-node) ;;
        *)
            if [[ " $STEPS " != *" $name "* ]]; then
                echo "usage: scripts/test.sh [all|e2e|clients|${STEPS// /|}]..." >&2
                exit 2
            fi
            steps+=("$name")
            ;;
    esac
done
for name in "${steps[@]}"; do "$name"; done

printf '\n== summary (%d s)\n' "$SECONDS"
printf '%s\n' "${outcomes[@]}"
exit "$failed"
