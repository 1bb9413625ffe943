"""The lock on the spool: one service at a time, and no shepherd on its way from an earlier one."""

import asyncio
import fcntl
import os
from pathlib import Path

from hpcq.domain.errors import SchedulerUnavailable

__all__ = ["SpoolLock"]


class SpoolLock:
    """Keeps a second service from the spool. Shared with launchers, see `launcher`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open lock file."""
        assert self._descriptor is not None  # noqa: S101
        return self._descriptor

    async def acquire(self, patience_seconds: float) -> None:
        """Take the lock; wait for a service that is just ending.

        Raises:
            SchedulerUnavailable: another one holds it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience_seconds
        while not _try_lock(descriptor):
            if loop.time() >= give_up:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise SchedulerUnavailable(
                    f"Another service (process {holder or 'unknown'}) uses the spool "
                    f"{str(self._path.parent)!r}. Stop it, or give this one another directory."
                )
            # flock(2) cannot be awaited, and a thread that blocks in it cannot be cancelled.
            await asyncio.sleep(0.01)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
