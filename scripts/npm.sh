#!/bin/sh
# npm in web/, of the machine's Node, or of one that comes as a Python package.
set -eu
cd "$(dirname "$0")/.."

# What Vite needs.
is_recent='const [a, b] = process.versions.node.split(".").map(Number);
process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)'

if ! { command -v npm && node -e "$is_recent"; } >/dev/null 2>&1; then
    PATH=$PWD/.venv/bin:$PATH
    if ! node -e "$is_recent" >/dev/null 2>&1; then
        echo "Installing Node in .venv, for this machine has none that is recent enough"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
            --require-hashes -r web/requirements.txt
    fi
fi
cd web
exec npm "$@"
