"""Commands of a service that died, which may still submit a job."""

import contextlib
import os
import select
import signal
from pathlib import Path

from hpcq.domain.errors import SchedulerError

__all__ = ["end_orphans"]

_PATIENCE_MILLISECONDS = 2000


def end_orphans(mark: str) -> int:
    """Kill every process of this account that carries a mark, and await its end.

    Root ends those of all accounts.

    A process carries the mark if it, or another one in its session, has the file of that name
    open, see `hpcq.execution.protocol.Command`.

    Returns:
        The number of processes.

    Raises:
        SchedulerError: one does not end.
    """
    file = f"/memfd:{mark} (deleted)"
    killed = 0
    sessions: set[int] = set()
    # One may have started another while the others were looked through.
    while found := sum(_end(folder, file, sessions) for folder in _processes()):
        killed += found
    return killed


def _processes() -> list[Path]:
    """Return the folders of all processes but this one, which has the file open at a start."""
    me = str(os.getpid())
    return [p for p in Path("/proc").iterdir() if p.name.isdecimal() and p.name != me]


def _end(folder: Path, file: str, sessions: set[int]) -> bool:
    """End a process that carries the mark; return whether it did.

    Args:
        folder: of the process, in ``/proc``.
        file: the marked file, as ``/proc`` names it.
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
        if session is None or not (session in sessions or _has_open(folder, file)):
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
    """Return the session of a process that may be ended; None for those of others."""
    with contextlib.suppress(OSError):
        if os.geteuid() in (0, folder.stat().st_uid):
            return os.getsid(int(folder.name))
    return None


def _has_open(folder: Path, file: str) -> bool:
    # A process, or a file of its, may be gone since the folder was read.
    with contextlib.suppress(OSError):
        for link in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(link) == file:
                    return True
    return False
