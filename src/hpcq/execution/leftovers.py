"""Commands of a service that died, which may still do what they were started for."""

import contextlib
import os
import select
import signal
from pathlib import Path

__all__ = ["end_leftovers", "marked"]

_VARIABLE = "HPCQ_SUBMISSION"
_PATIENCE_MILLISECONDS = 2000


def marked(mark: str) -> dict[str, str]:
    """Return what a command has to have in its environment to be found again by `end_leftovers`.

    Its children inherit it; no scheduler passes it on to a job.
    """
    return {_VARIABLE: mark}


def end_leftovers(mark: str) -> int:
    """Kill every process of this account on this machine that carries a mark, and await its end.

    Returns:
        How many there were.
    """
    entry = f"{_VARIABLE}={mark}".encode()
    killed = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and _carries(folder, entry):
            killed += _kill(int(folder.name))
    return killed


def _carries(folder: Path, entry: bytes) -> bool:
    # Those of other accounts cannot be read, and those that have just ended are not there.
    with contextlib.suppress(OSError):
        return entry in (folder / "environ").read_bytes().split(b"\0")
    return False


def _kill(pid: int) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(_PATIENCE_MILLISECONDS)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
