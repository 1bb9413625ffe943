#!/bin/sh
# Make the virtual environment .venv and install the locked dependencies in it.
#
#   scripts/setup.sh run    what the service needs
#   scripts/setup.sh dev    that, what its development needs, and the package itself
#
# PYTHON chooses the interpreter. Nothing else of the machine is used or changed, but one thing:
# Debian ships Python without venv, so python3-venv is installed where that may be done.
set -eu
cd "$(dirname "$0")/.."
venv=.venv

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_recent "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer."
        printf '%s' "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if is_recent "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    found=$(python3 --version 2>/dev/null || echo 'no python3 at all')
    fail "Python 3.11 or newer is needed, and there is $found." \
        "Install one, or name it: PYTHON=/path/to/python3 make …"
}

# Debian's own interpreters come without venv; each of them has a package of its own for it.
add_venv_module() {
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        as_root="sudo -n"
        if ! sudo -n true 2>/dev/null; then
            fail "This Python has no venv module. Install it (Debian: apt-get install $package)."
        fi
    fi
    command -v apt-get >/dev/null 2>&1 || fail "This Python has no venv module; install it."
    say "Installing $package, for this Python has no venv module"
    $as_root apt-get update -qq >/dev/null
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" </dev/null \
        >/dev/null 2>&1 || fail "$package could not be installed; see apt-get install $package."
}

make_venv() {
    if [ -x $venv/bin/python ] && is_recent $venv/bin/python && $venv/bin/python -m pip -V \
        >/dev/null 2>&1; then
        return
    fi
    python=$(choose_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || add_venv_module "$python"
    say "Making $venv with $("$python" --version)"
    "$python" -m venv --clear $venv
}

install() {
    $venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input "$@"
}

make_venv
case ${1:-} in
run)
    say "Installing the dependencies of the service"
    install --require-hashes -r requirements.txt
    ;;
dev)
    say "Installing the dependencies of the service and of its development"
    install --require-hashes -r requirements-dev.txt
    install --no-deps --no-build-isolation --editable . --editable plugins/oar
    ;;
*) fail "usage: scripts/setup.sh run|dev" ;;
esac
