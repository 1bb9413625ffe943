#!/bin/sh
# Build the documentation's site; every warning is an error. Arguments go to mkdocs.
set -eu
cd "$(dirname "$0")/.."

# With --quiet mkdocs would not count warnings.
if ! said=$(NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict "$@" 2>&1); then
    printf '%s\n' "$said" >&2
    exit 1
fi
