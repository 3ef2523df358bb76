#!/usr/bin/env bash
# The size of each service's own binary, and the memory it holds when nothing is asked of it: a table. Databases are those
# of a `weir dev` of its own, which is the last line.
#
#   scripts/sizes.sh [FOLDER]     default target/release
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly FOLDER=${1:-target/release} FIRST_PORT=${SIZES_PORT:-18100}
# How long a service is left alone before it is looked at.
readonly IDLE_S=3
services=(gateway realtime router orchestrator analytics billing ingestion control)

for program in weir "${services[@]/#/weir-}"; do
    if [[ ! -x $FOLDER/$program ]]; then
        echo "$FOLDER/$program is not built (make build)" >&2
        exit 1
    fi
done

data=$(mktemp -d)
# PostgreSQL may run as another user, who has to get there.
chmod 755 "$data"
pids=()
end() {
    kill "${pids[@]}" 2>/dev/null || true
    wait "${pids[@]}" 2>/dev/null || true
    "$FOLDER/weir" dev reset --data "$data" &>/dev/null || true
    rm -rf "$data"
}
trap end EXIT

until_there() { # WHAT COMMAND...
    local what=$1 tries=0
    shift
    until "$@" &>/dev/null; do
        if ((++tries > 1200)); then
            echo "$what did not become ready" >&2
            exit 1
        fi
        sleep 0.1
    done
}
said() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]] or "")' "$data/dev.json" "$1"; }
ready() { python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1])' "http://127.0.0.1:$1/ready"; }
mib() { awk -v b="$1" 'BEGIN { printf "%.1f", b / 1048576 }'; }
resident() { awk '/^VmRSS:/ { print $2 * 1024 }' "/proc/$1/status"; }
row() { # NAME FILE PID
    printf '%-14s %9s %9s\n' "$1" "$(mib "$(stat -c %s "$2")")" "$(mib "$(resident "$3")")"
}

"$FOLDER/weir" dev --data "$data" --port "$FIRST_PORT" >"$data/output" 2>&1 &
house=$!
pids+=("$house")
until_there "weir dev" test -e "$data/dev.json"

# Services that run apart know each other by keys.
set -a
eval "$("$FOLDER/weir" keys --format env)"
set +a
# Apart from its command, so that a failure ends the script.
database=$(said app_database_url) nats=$(said nats_url) simulator=$(said simulator)
export DATABASE_URL=$database NATS_URL=$nats WEIR_LOG__LEVEL=warn
export WEIR_ORCHESTRATOR__PROVIDERS__SIMULATOR__BASE_URL=$simulator/v1 WEIR_ORCHESTRATOR__SPOOL_DIR=$data/spool
for i in "${!services[@]}"; do
    export "WEIR_PEERS__${services[i]^^}=http://127.0.0.1:$((FIRST_PORT + 10 + i))"
done

printf '%-14s %9s %9s\n' "$FOLDER" 'MiB file' 'MiB idle'
started=()
for i in "${!services[@]}"; do
    port=$((FIRST_PORT + 10 + i))
    "$FOLDER/weir-${services[i]}" --host 127.0.0.1 --port "$port" >>"$data/output" 2>&1 &
    started+=("$!")
    pids+=("$!")
done
for i in "${!services[@]}"; do
    until_there "weir-${services[i]}" ready $((FIRST_PORT + 10 + i))
done
sleep "$IDLE_S"
for i in "${!services[@]}"; do
    row "${services[i]}" "$FOLDER/weir-${services[i]}" "${started[i]}"
done
row 'weir dev' "$FOLDER/weir" "$house"
