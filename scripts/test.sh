#!/bin/sh
# Every test, against real schedulers and a real PostgreSQL where they can be had. Arguments go to
# pytest, and leave out the plugin's tests.
#
# TEST_WORKERS is how many tests run at the same time; HPCQ_REQUIRE_REAL=1 refuses to leave out
# a test that needs one of them.
set -eu
cd "$(dirname "$0")/.."

# The examples of the READMEs speak to the service with curl, as their readers do.
if ! command -v curl >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1
then
    echo "Installing curl, for the examples of the READMEs"
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq curl </dev/null >/dev/null 2>&1 || true
fi
scripts/clusters.sh up
status=0
if [ $# -eq 0 ]; then
    echo "Running the tests of the plugin for OAR"
    # Beside other tests OAR takes minutes to start a job, alone seconds.
    (
        cd plugins/oar
        PYTHONPATH=../.. ../../.venv/bin/python -m pytest -p tests.progress -p tests.left_out \
            --numprocesses "${TEST_WORKERS:-4}" --dist loadfile --max-worker-restart 0 </dev/null
    ) || status=1
    # Nothing else needs OAR, and its daemons would take time from the other tests.
    .venv/bin/python tests/clusters/oar.py down </dev/null >/dev/null 2>&1 || true
fi
scripts/build_page.sh
scripts/build_site.sh
echo "Running the tests of the page's parts"
scripts/npm.sh run --silent test </dev/null || status=1
echo "Running the tests"
# Many tests wait, so more of them than there are cores. conftest.py says which begin first.
# A test that ends its process ends the run: pytest-xdist 3.8 would wait for ever
# (https://github.com/pytest-dev/pytest-xdist/issues/1323).
.venv/bin/python -m pytest -p tests.progress -p tests.left_out --numprocesses "${TEST_WORKERS:-5}" \
    --dist loadgroup --no-loadscope-reorder --max-worker-restart 0 "$@" </dev/null || status=1
exit $status
