#!/usr/bin/env bash
# Prints the path of a tool that is written in Go, in the version pinned here; builds it into .weir/tools/bin when it isn't
# there. Ends with 77 when there is no Go: what needs the tool is skipped then, aloud.
#
#   actionlint=$(scripts/go-tool.sh actionlint)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

declare -A package=(
    [actionlint]=github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
    [compose]=github.com/compose-spec/compose-go/v2/cmd@v2.16.2
    [gitleaks]=github.com/zricethezav/gitleaks/v8@v8.30.1
    [helm]=helm.sh/helm/v4/cmd/helm@v4.3.1
    [kubeconform]=github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
)

name=${1:-}
wanted=${package[$name]:-}
if [[ -z $wanted ]]; then
    echo "usage: scripts/go-tool.sh $(tr ' ' '|' <<<"${!package[*]}")" >&2
    exit 2
fi
tool=$PWD/.weir/tools/bin/$name
stamp=$PWD/.weir/tools/$name.version

if [[ -x $tool && $(cat "$stamp" 2>/dev/null) == "$wanted" ]]; then
    echo "$tool"
    exit
fi
source scripts/tools.sh
if ! command -v go >/dev/null; then
    echo "SKIPPED: no Go here, and $name is built with it (https://go.dev/dl)" >&2
    exit 77
fi
echo "building $wanted" >&2
mkdir -p "$(dirname "$tool")"
built=$(dirname "$tool")/$(basename "${wanted%@*}")
GOBIN=$(dirname "$tool") GOFLAGS=-trimpath go install "$wanted" >&2
[[ $built == "$tool" ]] || mv "$built" "$tool"
echo "$wanted" >"$stamp"
echo "$tool"
