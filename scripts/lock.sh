#!/bin/sh
# Write requirements.txt, requirements-dev.txt, the page's and those of the tests' tools anew: the
# newest versions that pyproject.toml allows, for every Python from 3.11 on, with the hash of each
# file and no addresses.
set -eu
cd "$(dirname "$0")/.."

lock() {
    .venv/bin/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
        "$@" >/dev/null
}

.venv/bin/python -m pip install --quiet 'uv>=0.9'
lock pyproject.toml --output-file requirements.txt
lock pyproject.toml --extra dev --constraint requirements.txt --output-file requirements-dev.txt
lock tests/clusters/oidc-requirements.in --output-file tests/clusters/oidc-requirements.txt
lock tests/clusters/workflows-requirements.in --output-file tests/clusters/workflows-requirements.txt
lock web/requirements.in --output-file web/requirements.txt
(cd web && ../scripts/npm.sh update --omit-lockfile-registry-resolved --no-audit --no-fund --silent)
