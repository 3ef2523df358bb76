#!/usr/bin/env bash
# The monitoring that ships: rules, dashboards and runbooks against a real Prometheus (Debian's package `prometheus`) that
# scrapes a running house. Ends with 77 when a tool is not there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for tool in prometheus promtool jq curl; do
    if ! command -v "$tool" >/dev/null; then
        echo "SKIPPED: $tool is not there (apt-get install prometheus jq curl)"
        exit 77
    fi
done
promtool check config deploy/monitoring/prometheus.yml deploy/monitoring/prometheus.dev.yml
promtool check rules deploy/monitoring/rules/*.yml
promtool test rules deploy/monitoring/tests/*.yml
cargo test -p weir-e2e -- --nocapture monitoring:: observability::
