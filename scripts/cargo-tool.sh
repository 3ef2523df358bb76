#!/usr/bin/env bash
# cargo-tool.sh PROGRAM ARGUMENT...: runs a cargo tool, or says how to get it. Building one takes minutes, so that is left to you.
set -euo pipefail

program=$1
shift
if ! command -v "$program" >/dev/null; then
    echo "$program is not installed: cargo install --locked $program" >&2
    exit 1
fi
exec "$program" "$@"
