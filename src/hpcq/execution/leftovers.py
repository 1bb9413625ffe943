"""Commands of a service that died, which may still do what they were started for."""

import contextlib
import os
import select
import signal
from pathlib import Path

from hpcq.domain.errors import SchedulerError

__all__ = ["end_leftovers", "marked"]

_VARIABLE = "HPCQ_SUBMISSION"
_PATIENCE_MILLISECONDS = 2000


def marked(mark: str) -> dict[str, str]:
    """Return what a command has to have in its environment to be found again by `end_leftovers`.

    Its children inherit it. A command whose environment a job inherits does without: it is found by
    the name of a file that it and its children have open (`Command.mark`).
    """
    return {_VARIABLE: mark}


def end_leftovers(mark: str) -> int:
    """Kill every process of this account on this machine that carries a mark, and await its end.

    Returns:
        How many there were.

    Raises:
        SchedulerError: one does not end.
    """
    entry, file = f"{_VARIABLE}={mark}".encode(), f"/memfd:{mark} (deleted)"
    killed = 0
    sessions: set[int] = set()
    # One may have started another while the others were looked through.
    while found := sum(_end(folder, entry, file, sessions) for folder in _processes()):
        killed += found
    return killed


def _processes() -> list[Path]:
    return [folder for folder in Path("/proc").iterdir() if folder.name.isdecimal()]


def _end(folder: Path, entry: bytes, file: str, sessions: set[int]) -> bool:
    """End a process that carries the mark; return whether it did.

    Args:
        folder: of the process, in ``/proc``.
        entry: the mark in its environment.
        file: the mark among its open files.
        sessions: those of the processes that were ended; each command has one of its own, so that
            all others in it are its children, and carry the mark too.
    """
    pid = int(folder.name)
    try:
        # Held from before the look, for the number may be given to another process after it.
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    try:
        if poll.poll(0):
            # It has ended, and nobody has taken note.
            return False
        session = _session(folder)
        if session is None or not (session in sessions or _carries(folder, entry, file)):
            return False
        if session != os.getsid(0):
            sessions.add(session)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        if not poll.poll(_PATIENCE_MILLISECONDS):
            raise SchedulerError(
                f"The process {pid}, which may still submit a job, was killed and does not end."
            )
    finally:
        os.close(descriptor)
    return True


def _session(folder: Path) -> int | None:
    """Return the session of a process of this account; None for those of others."""
    with contextlib.suppress(OSError):
        if folder.stat().st_uid == os.geteuid():
            return os.getsid(int(folder.name))
    return None


def _carries(folder: Path, entry: bytes, file: str) -> bool:
    # Those that have just ended are not there.
    with contextlib.suppress(OSError):
        is_marked = entry in (folder / "environ").read_bytes().split(b"\0")
        return is_marked or any(_is(link, file) for link in (folder / "fd").iterdir())
    return False


def _is(link: Path, file: str) -> bool:
    # It may have been closed since the folder was read.
    with contextlib.suppress(OSError):
        return os.readlink(link) == file
    return False
