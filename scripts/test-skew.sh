#!/usr/bin/env bash
# A gateway of this version with services of the last one, and the other way round: a rolling update has both at once.
# The last one is the newest tag v*, else the commit before; WEIR_SKEW_BASE names another. Its `weir` is built once and
# kept as target/skew/weir-<commit>.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly FOLDER=target/skew
readonly SOURCE=$FOLDER/src

skip() {
    echo "SKIPPED: $*"
    exit 78
}

base() {
    git rev-parse --quiet --verify "${WEIR_SKEW_BASE:-$(git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null || echo HEAD^)}^{commit}"
}

# build COMMIT PROGRAM: in a work tree of its own, whose workspace begins one folder above: Cargo knows our crates by their
# path within the workspace, so those of both versions stay apart while dependencies are shared.
build() {
    local commit=$1 program=$2 target=${CARGO_TARGET_DIR:-$PWD/target}
    if [[ -e $SOURCE/.git ]]; then
        git -C "$SOURCE" checkout --quiet --force --detach "$commit"
    else
        git worktree prune
        git worktree add --quiet --force --detach "$SOURCE" "$commit"
    fi
    sed -e 's|"crates/|"src/crates/|g' "$SOURCE/Cargo.toml" >"$FOLDER/Cargo.toml"
    mv "$SOURCE/Cargo.lock" "$FOLDER/Cargo.lock"
    rm "$SOURCE/Cargo.toml"
    cargo build --manifest-path "$FOLDER/Cargo.toml" --target-dir "$target" -p weir --bin weir
    # Under another name first: what is there under its own is whole.
    cp "$target/debug/weir" "$program.new"
    mv "$program.new" "$program"
    # The next build of this version puts its own back.
    rm -f "$target/debug/weir"
}

commit=$(base) || skip "no earlier version in this clone's history"
git cat-file -e "$commit:crates/service/Cargo.toml" 2>/dev/null ||
    skip "$(git rev-parse --short "$commit") cannot run its services apart"
program=$PWD/$FOLDER/weir-$(git rev-parse --short=12 "$commit")
mkdir -p "$FOLDER"
if [[ ! -x $program ]]; then
    find "$FOLDER" -maxdepth 1 -name 'weir-*' -delete
    echo "building weir of $(git log -1 --format='%h %s' "$commit")"
    build "$commit" "$program"
fi
WEIR_E2E_OLD=$program exec cargo test -p weir-e2e --no-fail-fast -- skew::
