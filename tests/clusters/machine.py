"""Actions on a machine, for the scripts beside this one: install, write files, wait, become root.

Standard library only, so that it runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "PATH",
    "PATIENCE_SECONDS",
    "CannotInstall",
    "ClusterError",
    "become_root",
    "command_line",
    "install",
    "log",
    "make_dir",
    "one_at_a_time",
    "wait_for",
    "write_file",
]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INSTALLING = Path("/var/tmp/hpcq-test-install.lock")
# For a machine of which others have taken nearly all.
PATIENCE_SECONDS = 300.0


class ClusterError(Exception):
    """It did not come up; the text is one sentence for a person, the code the exit status."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class CannotInstall(ClusterError):
    """It is missing and cannot be installed here."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 3)


def log(message: str) -> None:
    """Say it to the person; standard output is for programs."""
    print(f"{Path(sys.argv[0]).stem}: {message}", file=sys.stderr, flush=True)


def wait_for(what: str, ready: Callable[[], bool]) -> None:
    """Return when `ready` says so; `ClusterError` when it does not, however long one waits."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} took longer than {PATIENCE_SECONDS:g} s")
        time.sleep(0.05)


# --- installing ---------------------------------------------------------------------------------


@contextmanager
def no_daemons_on_install() -> Iterator[None]:
    """Keeps Debian's packages from starting the machine-wide daemons (policy-rc.d)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def install(packages: Sequence[str], missing: Callable[[], Collection[str]]) -> None:
    """Install Debian packages, their daemons not started, when `missing` names anything.

    Raises:
        CannotInstall: something is still missing.
    """
    if not missing():
        return
    # Two installations at once would take the ban on starting daemons from one another.
    with one_at_a_time(INSTALLING):
        absent = ", ".join(missing())
        if not absent:
            return
        if shutil.which("apt-get") is None:
            raise CannotInstall(f"{absent} missing, and this is not a Debian-like system")
        log(f"installing Debian packages ({absent} missing)")
        env = {**os.environ, "PATH": PATH, "DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
        with no_daemons_on_install():
            for step in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
                # Standard output is the JSON answer's.
                done = subprocess.run(
                    [*apt, *step],
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr,
                    check=False,
                )
        if done.returncode or missing():
            raise CannotInstall(f"apt-get could not install {', '.join(missing() or packages)}")


# --- files --------------------------------------------------------------------------------------


def make_dir(path: Path, owner: str, mode: int) -> None:
    """Make a directory that belongs to an account, or give one that exists to it."""
    path.mkdir(parents=True, exist_ok=True)
    shutil.chown(path, owner, owner)
    path.chmod(mode)


def write_file(path: Path, content: str | bytes, owner: str, mode: int) -> None:
    """Write a file that belongs to an account; it is never open to more than `mode` says."""
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    shutil.chown(path, owner, owner)
    path.chmod(mode)


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Wait for the others who hold this lock: several test processes may do the same at once."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- the command line ---------------------------------------------------------------------------


def become_root(arguments: Sequence[str], variables: Sequence[str]) -> None:
    """Run this script anew through sudo, with these variables of its environment, unless root.

    Raises:
        CannotInstall: there is no sudo that asks for no password.
    """
    if os.geteuid() == 0:
        return
    sudo = shutil.which("sudo")
    if sudo is None or subprocess.run([sudo, "-n", "true"], check=False).returncode:
        raise CannotInstall("neither root nor sudo without a password: it cannot be set up here")
    passed_on = [f"{name}={os.environ[name]}" for name in variables if name in os.environ]
    script = str(Path(sys.argv[0]).resolve())
    command = [sudo, "-n", "env", *passed_on, sys.executable, script, *arguments]
    os.execv(sudo, command)  # noqa: S606 - no shell meant


def command_line(
    arguments: Sequence[str],
    action: Callable[[], object] | None,
    *,
    usage: str | None,
    lock: Path,
    variables: Sequence[str],
) -> int:
    """Do what the arguments ask for, as root and alone; the answer is printed as JSON.

    Args:
        arguments: the script's own.
        action: what they mean; None for nothing.
        usage: printed when they mean nothing.
        lock: held meanwhile.
        variables: what root gets of the caller's environment.

    Returns:
        The exit status: 0, 1 for a failure, 2 for wrong usage, 3 for what cannot be had here.
    """
    if action is None:
        print(usage, file=sys.stderr)
        return 2
    try:
        become_root(arguments, variables)
        with one_at_a_time(lock):
            answer = action()
    except ClusterError as error:
        log(str(error))
        return error.code
    except (OSError, subprocess.TimeoutExpired) as error:
        log(str(error))
        return 1
    if answer is not None:
        print(json.dumps(answer))
    return 0
