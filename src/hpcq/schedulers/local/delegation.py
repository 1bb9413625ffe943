"""Which part of the cgroup v2 tree is ours, and what is made of it.

::

    /system.slice/hpcq.service      delegated to this service (``Delegate=yes``): the top
    ├── hpcq-service                the service, the launcher and the shepherds
    └── hpcq-3f1c9a20b7de           ours, one for each state directory
        ├── 17.1                    a job, see `hpcq.schedulers.local.cgroup`
        └── 18.1

Rules kept: nothing is done outside the top; only our own process is moved; a group that has
controllers switched on for its children holds no processes.

The last one decides about restarts. While controllers are switched on in the top, systemd cannot
put the next service into it and the start fails (``status=219/CGROUP``, with ``DelegateSubgroup=``
too, see systemd's issues 24064 and 41278), as long as a job still runs there. So whoever ends last,
service or launcher, switches off what we switched on: `release`. Standard library only.
"""

import contextlib
import os
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from hpcq.schedulers.local.cgroup import flat_keyed, remove_group, write
from hpcq.schedulers.local.hierarchy import NoGroup, Place, own_group

__all__ = ["Subtree", "Unusable", "claim", "release", "sweep"]

_SERVICE = "hpcq-service"
_PROBE = "probe"
_WANTED = ("memory", "io")
_CONTROL = "cgroup.subtree_control"
_PROBE_SECONDS = 10.0


class Unusable(Exception):
    """There are no groups for jobs; the message is a sentence that says why."""


class Subtree(NamedTuple):
    """The groups of our jobs.

    Attributes:
        path: the group that jobs' groups are made in.
        controllers: those that they have.
        switched_on: those that we have switched on in its parent.
    """

    path: Path
    controllers: tuple[str, ...]
    switched_on: tuple[str, ...]


def claim(name: str, process: Path = Path("/proc/self")) -> Subtree:
    """Make, or find again, the group for the groups of our jobs.

    Args:
        name: of the group; unique to a state directory.
        process: the directory of this process in ``/proc``.

    Raises:
        Unusable: jobs are to be followed by their process tree.
    """
    try:
        top, may_switch = _top(own_group(process))
        base = top / name
        base.mkdir(0o755, exist_ok=True)
        try:
            _probe(base / _PROBE)
        except BaseException:
            remove_group(base)
            raise
        switched_on: tuple[str, ...] = ()
        if may_switch:
            with contextlib.suppress(OSError):
                switched_on = _switch_on(top)
        controllers = _pass_on(top, base)
    except NoGroup as error:
        raise Unusable(str(error)) from None
    except OSError as error:
        raise Unusable(f"{error.filename or 'cgroup v2'}: {error.strerror}.") from error
    return Subtree(base, controllers, switched_on)


def release(base: Path, controllers: Collection[str]) -> None:
    """Switch off what `claim` switched on, so that a process can be put into the top again.

    Running jobs keep their groups, and lose what these controllers counted and limited. Without
    running jobs nothing stays.
    """
    for group in (base, base.parent):
        for controller in controllers:
            # Another service that shares the top may still use it.
            with contextlib.suppress(OSError):
                write(group / _CONTROL, f"-{controller}")
    with contextlib.suppress(OSError):
        base.rmdir()


def sweep(base: Path, wanted: Collection[str]) -> None:
    """Remove the groups that no job needs any more and that hold no processes."""
    with contextlib.suppress(OSError):
        for path in base.iterdir():
            if path.is_dir() and path.name not in wanted:
                remove_group(path)


def _top(own: Place) -> tuple[Path, bool]:
    """Return the group that is ours to divide, and whether to switch on controllers in it."""
    path, name = own
    if name != "/" and (path.name == _SERVICE or _is_marked(path.parent)):
        # An earlier start in this process moved it there, or systemd did (DelegateSubgroup=).
        path, name = path.parent, os.path.dirname(name)
    is_ours = _is_marked(path) or name == "/"
    if not is_ours and os.geteuid() == 0:
        # Root can write everywhere; only this says that nobody else looks after the group.
        raise Unusable(f"The group {name!r} is not delegated to this service (Delegate=yes).")
    # The root of all has no type. What is switched on there is for the whole machine.
    return path, is_ours and (path / "cgroup.type").exists()


def _is_marked(path: Path) -> bool:
    """Return whether systemd has delegated a group; the second is for accounts but root."""
    for name in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False


def _probe(leaf: Path) -> None:
    """Run a process in a group.

    Raises:
        Unusable: it cannot be put there, or is not measured.
        OSError: the group cannot be made.
    """
    remove_group(leaf)
    leaf.mkdir(0o755)
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs"', leaf],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
            env={},
        )
        if done.returncode != 0:
            why = done.stderr.decode("utf-8", "replace").strip().rpartition(": ")[2]
            raise Unusable(f"No process can be put into {str(leaf)!r}: {why}.")
        if not flat_keyed((leaf / "cpu.stat").read_text("ascii")).get("usage_usec"):
            raise Unusable(f"{str(leaf / 'cpu.stat')!r} does not tell what a process has used.")
    except subprocess.SubprocessError as error:
        raise Unusable(f"No process can be put into {str(leaf)!r}: {error}") from error
    finally:
        remove_group(leaf)


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


def _pass_on(top: Path, base: Path) -> tuple[str, ...]:
    """Switch on in our group what the top gives it; return what jobs then have."""
    given = _words(top, _CONTROL)
    return tuple(name for name in _WANTED if name in given and _is_switched_on(base, name))


def _is_switched_on(group: Path, controller: str) -> bool:
    with contextlib.suppress(OSError):
        write(group / _CONTROL, f"+{controller}")
        return True
    return False


def _words(group: Path, file: str) -> set[str]:
    return set((group / file).read_text("ascii").split())
