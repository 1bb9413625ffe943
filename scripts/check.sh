#!/bin/sh
# The quick check: style and types, the units, and the conformance suite on LOCAL. Needs no
# scheduler and no database server. Arguments go to pytest.
set -u
cd "$(dirname "$0")/.."

failed=0
scripts/lint.sh || failed=1
.venv/bin/python -m pytest -p tests.progress --numprocesses "${TEST_WORKERS:-4}" \
    --dist loadgroup --no-loadscope-reorder --quiet \
    -k '(unit and not POSTGRESQL) or (conformance and LOCAL)' \
    tests/unit tests/conformance "$@" </dev/null || failed=1
exit $failed
