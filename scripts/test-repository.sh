#!/usr/bin/env bash
# What the compiler does not see: shell scripts, workflows, and that documents name what there is.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

failed=0 skipped=()

python3 scripts/check_repository.py || failed=1

mapfile -t shells < <(find scripts deploy crates .ci -name node_modules -prune -o \( -name '*.sh' -o -path .ci/run \) -type f -print)
if command -v shellcheck >/dev/null; then
    shellcheck --severity=warning --exclude=SC1091 --shell=bash "${shells[@]}" && echo "shellcheck: ${#shells[@]} scripts" || failed=1
else
    skipped+=("shellcheck (apt install shellcheck)")
fi

if actionlint=$(scripts/go-tool.sh actionlint); then
    "$actionlint" -shellcheck= -pyflakes= && echo "actionlint: $(find .github/workflows -name '*.yml' | wc -l) workflows" || failed=1
elif [[ $? == 77 ]]; then
    skipped+=("actionlint (https://go.dev/dl)")
else
    failed=1
fi

if ((failed)); then exit 1; fi
if ((${#skipped[@]})); then
    printf 'SKIPPED: %s\n' "$(IFS=','; echo "${skipped[*]}")"
    exit 77
fi
