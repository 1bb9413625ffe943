#!/bin/sh
# Style, form, types and import rules; every check is run, whatever the ones before it say.
set -u
cd "$(dirname "$0")/.."

failed=0
check() {
    printf '%s\n' "$*"
    tool=$1
    shift
    ".venv/bin/$tool" "$@" || failed=1
}

check ruff check --quiet .
check ruff format --check --quiet .
check python scripts/sync_client.py --check
check mypy --no-error-summary
check lint-imports --no-logo
echo "npm run check"
scripts/npm.sh run --silent check || failed=1
exit $failed
