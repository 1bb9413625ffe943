"""The setup of control groups: the part of the cgroup v2 tree that this service may use.

::

    /system.slice/hpcq.service      delegated to this service (``Delegate=yes``): the top
    ├── hpcq-service                the service, the launcher and the shepherds
    └── hpcq-3f1c9a20b7de           ours, one for each state directory
        ├── 17.1                    a job, see `hpcq.schedulers.local.cgroup`
        └── 18.1

Three rules hold: nothing changes outside the top; only our own process is moved; a group that has
controllers switched on for its children holds no processes.

The last rule decides about restarts. While controllers are switched on in the top and a job still
runs there, systemd cannot put the next service into the top, and the start fails
(``status=219/CGROUP``, with ``DelegateSubgroup=`` too, see systemd's issues 24064 and 41278). So
the last to end, service or launcher, switches them off again: `release`. Standard library only.
"""

import contextlib
import os
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from hpcq.schedulers.local.cgroup import (
    CgroupNotFound,
    ProcessCgroup,
    find_cgroup,
    flat_keyed,
    remove_cgroup,
    write,
)

__all__ = ["CgroupTree", "CgroupsUnusable", "claim", "release", "remove_unused"]

_SERVICE = "hpcq-service"
_PROBE = "probe"
_WANTED = ("memory", "io")
_CONTROL = "cgroup.subtree_control"
_PROBE_SECONDS = 10.0


class CgroupsUnusable(Exception):
    """Groups for jobs are not possible; the message is a sentence that says why."""


class CgroupTree(NamedTuple):
    """The tree of our jobs' groups.

    Attributes:
        path: the group that holds the groups of jobs.
        controllers: the controllers that the groups of jobs have.
        switched_on: the controllers that we have switched on in its parent.
    """

    path: Path
    controllers: tuple[str, ...]
    switched_on: tuple[str, ...]


def claim(name: str, process: Path = Path("/proc/self")) -> CgroupTree:
    """Make, or find again, the group for the groups of our jobs.

    Args:
        name: the name of the group; unique to a state directory.
        process: the directory of this process in ``/proc``.

    Raises:
        CgroupsUnusable: jobs have to be followed by their process tree.
    """
    try:
        top, may_switch = _top(find_cgroup(process))
        base = top / name
        base.mkdir(0o755, exist_ok=True)
        try:
            _probe(base / _PROBE)
        except BaseException:
            remove_cgroup(base)
            raise
        switched_on: tuple[str, ...] = ()
        if may_switch:
            with contextlib.suppress(OSError):
                switched_on = _switch_on(top)
        # Our group passes on what the top gives it.
        given = _words(top, _CONTROL)
        controllers = tuple(c for c in _WANTED if c in given and _is_switched_on(base, c))
    except CgroupNotFound as error:
        raise CgroupsUnusable(str(error)) from None
    except OSError as error:
        raise CgroupsUnusable(f"{error.filename or 'cgroup v2'}: {error.strerror}.") from error
    return CgroupTree(base, controllers, switched_on)


def release(base: Path, controllers: Collection[str]) -> None:
    """Switch off the controllers of `claim`, so that a process can be put into the top again.

    Running jobs keep their groups, and lose the counts and limits of these controllers. Without
    running jobs the group goes too.
    """
    for group in (base, base.parent):
        for controller in controllers:
            # Another service that shares the top may still use it.
            with contextlib.suppress(OSError):
                write(group / _CONTROL, f"-{controller}")
    with contextlib.suppress(OSError):
        base.rmdir()


def remove_unused(base: Path, wanted: Collection[str]) -> None:
    """Remove the groups of jobs that are over, unless they hold processes."""
    with contextlib.suppress(OSError):
        for path in base.iterdir():
            if path.is_dir() and path.name not in wanted:
                remove_cgroup(path)


def _top(own: ProcessCgroup) -> tuple[Path, bool]:
    """Return the group that we may divide, and whether to switch on controllers in it."""
    path, name = own
    if name != "/" and (path.name == _SERVICE or _is_delegated(path.parent)):
        # An earlier start in this process moved the process, or systemd did (DelegateSubgroup=).
        path, name = path.parent, os.path.dirname(name)
    is_ours = _is_delegated(path) or name == "/"
    if not is_ours and os.geteuid() == 0:
        # Root can write everywhere; only the mark says that the group has no other manager.
        raise CgroupsUnusable(
            f"The group {name!r} is not delegated to this service (Delegate=yes)."
        )
    # The root group has no type. Controllers switched on there are for the whole machine.
    return path, is_ours and (path / "cgroup.type").exists()


def _is_delegated(path: Path) -> bool:
    """Return whether systemd has delegated a group; the second name is for accounts but root."""
    for name in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False


def _probe(group: Path) -> None:
    """Check that a process can run in a group.

    Raises:
        CgroupsUnusable: a process cannot be put there, or is not measured.
        OSError: the group cannot be made.
    """
    remove_cgroup(group)
    group.mkdir(0o755)
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs"', group],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
            env={},
        )
        if done.returncode != 0:
            why = done.stderr.decode("utf-8", "replace").strip().rpartition(": ")[2]
            raise CgroupsUnusable(f"No process can be put into {str(group)!r}: {why}.")
        if not flat_keyed((group / "cpu.stat").read_text("ascii")).get("usage_usec"):
            raise CgroupsUnusable(
                f"{str(group / 'cpu.stat')!r} does not tell what a process has used."
            )
    except subprocess.SubprocessError as error:
        raise CgroupsUnusable(f"No process can be put into {str(group)!r}: {error}") from error
    finally:
        remove_cgroup(group)


def _switch_on(top: Path) -> tuple[str, ...]:
    """Switch on controllers in the top, our own process moved out of it first."""
    missing = [name for name in _WANTED if name in _words(top, "cgroup.controllers")]
    missing = [name for name in missing if name not in _words(top, _CONTROL)]
    there = _words(top, "cgroup.procs")
    if not missing or there - {str(os.getpid())}:
        # Processes of others stay where they are, and nothing can be switched on.
        return ()
    if there:
        (top / _SERVICE).mkdir(0o755, exist_ok=True)
        write(top / _SERVICE / "cgroup.procs", str(os.getpid()))
    return tuple(name for name in missing if _is_switched_on(top, name))


def _is_switched_on(group: Path, controller: str) -> bool:
    with contextlib.suppress(OSError):
        write(group / _CONTROL, f"+{controller}")
        return True
    return False


def _words(group: Path, file: str) -> set[str]:
    return set((group / file).read_text("ascii").split())
