#!/bin/sh
# What the tests run against, on this machine: a real Slurm, Grid Engine, OAR, PostgreSQL and OpenID
# Connect provider, environment modules, Chromium, tmux, Snakemake and Jupyter. Torque and PBS have
# stand-ins (tests/fakebin), which need nothing.
#
#   scripts/clusters.sh up      install (root, Debian) and start what is not there
#   scripts/clusters.sh down    stop what `up` started; what was installed stays
#
# One that cannot be had here is said and left out, unless HPCQ_REQUIRE_REAL is set.
set -eu
cd "$(dirname "$0")/.."

python=.venv/bin/python
[ -x $python ] || python=python3
impossible=3

start() {
    printf 'Starting %s for the tests (the first time it is installed, for some minutes)\n' "$2"
    status=0
    # On standard output it prints settings for programs, on standard error also what apt says.
    said=$($python "tests/clusters/$1.py" up </dev/null 2>&1 >/dev/null) || status=$?
    [ $status -eq 0 ] && return
    if [ $status -eq $impossible ] && [ -z "${HPCQ_REQUIRE_REAL:-}" ]; then
        printf '  not possible here: %s\n' "$(printf '%s\n' "$said" | tail -n 1)"
        return
    fi
    printf '%s\n%s did not start (tests/clusters/%s.py up: %s).\n' "$said" "$2" "$1" $status >&2
    exit 1
}

case ${1:-} in
up)
    start slurm "Slurm"
    start sge "Grid Engine"
    start oar "OAR"
    start postgres "PostgreSQL"
    start modules "Environment Modules and Lmod"
    start oidc "an OpenID Connect provider"
    start sudo "sudo"
    start chromium "Chromium"
    start tools "promtool and systemd-analyze"
    start workflows "Snakemake and Jupyter"
    start tmux "tmux"
    ;;
down)
    # The shared ones, and those that tests of outages have for themselves.
    for instance in 0 5; do
        export HPCQ_TEST_SLURM_INSTANCE=$instance HPCQ_TEST_SGE_INSTANCE=$instance
        for name in slurm sge; do
            # Nothing to stop where nothing was ever started.
            $python tests/clusters/$name.py down </dev/null >/dev/null 2>&1 || true
        done
    done
    $python tests/clusters/oar.py down </dev/null >/dev/null 2>&1 || true
    $python tests/clusters/oidc.py down </dev/null >/dev/null 2>&1 || true
    # A test that was killed leaves the server that it had for itself.
    $python tests/clusters/postgres.py down all </dev/null >/dev/null 2>&1 || true
    ;;
*) printf 'usage: scripts/clusters.sh up|down\n' >&2; exit 2 ;;
esac
