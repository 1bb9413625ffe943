#!/bin/sh
# The quick check: style and types, the units, and the contract's tests on LOCAL, with a fifth of the
# generated examples. Needs no scheduler and no database server. Arguments go to pytest.
set -u
cd "$(dirname "$0")/.."

failed=0
scripts/lint.sh || failed=1
.venv/bin/python -m pytest -p tests.progress --numprocesses "${TEST_WORKERS:-4}" \
    --dist loadgroup --no-loadscope-reorder --max-worker-restart 0 --quiet --hypothesis-profile quick \
    -k '(unit and not POSTGRESQL) or ((conformance or contract) and LOCAL)' \
    tests/unit tests/conformance src/hpcq/schedulers/testing/contract "$@" </dev/null || failed=1
exit $failed
