# To be sourced in the repository's root: Node and Go on the PATH, if they are anywhere. Where they are not installed,
# CI keeps its own in .weir/toolchains (scripts/setup.sh test).
have_node() {
    command -v npm >/dev/null && command -v node >/dev/null &&
        node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' 2>/dev/null
}
have_go() { command -v go >/dev/null; }

have_node || PATH=$PWD/.weir/toolchains/node/bin:$PATH
have_go || PATH=$PATH:/usr/local/go/bin:$PWD/.weir/toolchains/go/bin
