# To be sourced: puts a Node of 20 or newer on the PATH, or returns 1 when there is none.
node_is_new_enough() {
    command -v npm >/dev/null && command -v node >/dev/null &&
        node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' 2>/dev/null
}
if ! node_is_new_enough && [[ -x .weir/tools/bin/node ]]; then
    PATH=$PWD/.weir/tools/bin:$PATH
fi
node_is_new_enough
