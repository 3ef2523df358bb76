#!/usr/bin/env bash
# Chart, compose files, image, proxies: rendered, checked against schemas and against each other, and the chart's pods run
# as processes. Needs Python; helm, kubeconform and a reader of compose files are built with Go. Without Go what needs
# them is skipped, and this ends with 77.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.weir/deploy-venv REQUIREMENTS=scripts/requirements-deploy.txt
readonly SCHEMAS=.weir/deploy-schemas VERSIONS=(v1.29.0 v1.37.0)

if ! cmp -s $REQUIREMENTS $VENV/installed; then
    python3 -m venv --clear $VENV
    $VENV/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps \
        --requirement $REQUIREMENTS
    rm -rf $SCHEMAS
    cp $REQUIREMENTS $VENV/installed
fi

# Kubernetes' schemas, in the oldest and the newest version we run on, with references that stay within their folder.
for version in "${VERSIONS[@]}"; do
    [[ -d $SCHEMAS/$version ]] && continue
    # shellcheck disable=SC2206  # the pattern is one folder
    from=($VENV/lib/python3*/site-packages/kubernetes_validate/kubernetes-json-schema/"$version"-local-strict)
    rm -rf $SCHEMAS/new && mkdir -p $SCHEMAS
    cp -r "${from[0]}" $SCHEMAS/new
    # shellcheck disable=SC2016
    sed -i 's#/api/_definitions\.json#_definitions.json#; s#^  "$id":#  "$comment":#' $SCHEMAS/new/*.json
    mv $SCHEMAS/new "$SCHEMAS/$version"
done

# tool NAME: its path, or nothing without Go.
tool() {
    local path code=0
    path=$(scripts/go-tool.sh "$1") || code=$?
    [[ $code == 0 || $code == 77 ]] || exit "$code"
    echo "$path"
}
HELM=$(tool helm)
KUBECONFORM=$(tool kubeconform)
COMPOSE=$(tool compose)
export HELM KUBECONFORM COMPOSE

# The program that the chart and the compose files start.
WEIR=${WEIR:-$PWD/target/debug/weir}
[[ -x $WEIR ]] || cargo build --quiet -p weir
export WEIR

$VENV/bin/python -m unittest discover --locals --start-directory deploy/tests
if [[ -z $HELM ]]; then
    echo "SKIPPED: no Go here, and helm is built with it: chart and compose files were not checked (https://go.dev/dl)"
    exit 77
fi
