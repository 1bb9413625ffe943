"""The file of the spool: the lock on its directory, and transactions that steps share."""

import asyncio
import contextlib
import fcntl
import os
import signal
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hpcq.domain.errors import SchedulerUnavailable
from hpcq.schedulers.local.processes import holders, is_stopped, send
from hpcq.schedulers.local.spool_schema import connect

__all__ = ["NothingWritten", "SpoolFile"]

_T = TypeVar("_T")
_Step = Callable[[sqlite3.Connection], object]

_LOCK_PATIENCE_SECONDS = 5.0
_LOCK_PAUSE_SECONDS = 0.01


class NothingWritten(SchedulerUnavailable):
    """The disk is full, and the step was certainly not written."""

    reached_scheduler = False


class SpoolFile:
    """The file ``spool.db``, the lock on its directory, and the one thread that uses the file.

    One service at a time has the lock. Launchers share it (see `launcher`), so that no shepherd of
    an earlier service is on its way when the lock is free.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "spool.db"
        self._lock: int | None = None
        self._files: list[tuple[int, int]] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hpcq-spool")
        self._connection: sqlite3.Connection | None = None
        self._steps: list[tuple[_Step, asyncio.Future[object]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def lock(self) -> int:
        """Make the directory and take the lock; wait for a service that is just ending.

        Returns:
            The descriptor of the lock file.

        Raises:
            SchedulerUnavailable: another service holds the lock.
        """
        try:
            descriptor = await asyncio.to_thread(self._open_lock)
        except OSError as error:
            raise SchedulerUnavailable(f"The spool cannot be used: {error}.") from error
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _LOCK_PATIENCE_SECONDS
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if loop.time() >= give_up:
                pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise SchedulerUnavailable(
                    f"Another service (process {pid or 'unknown'}) uses the spool "
                    f"{str(self._directory)!r}. Stop it, or give this one another directory."
                )
            # The launcher of a service that died holds the lock as long as somebody has stopped it.
            for holder in await asyncio.to_thread(holders, descriptor):
                if is_stopped(holder):
                    send(holder, signal.SIGCONT)
            # flock(2) cannot be awaited, and a thread that blocks in it cannot be cancelled.
            await asyncio.sleep(_LOCK_PAUSE_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        self._lock = descriptor
        return descriptor

    def missing(self) -> str | None:
        """Return the reason why nothing written now is found after a restart; None if it is.

        Not for the event loop: it asks the file system.
        """
        if self._identify_files() == self._files:
            return None
        return (
            f"The spool {str(self._path)!r} was removed or replaced while the service ran. Restart "
            "the service; jobs that wait are lost."
        )

    async def open(self) -> None:
        """Open the file, making it if there is none.

        Raises:
            SchedulerUnavailable: it cannot be used.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def close(self) -> None:
        """Close the file once all steps are written, and release the lock."""
        while self._writer is not None:
            await self._writer
        if self._connection is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def run(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a step in a transaction, which it shares with others that are asked for now.

        Raises:
            SchedulerUnavailable: the file cannot be read or written, or is closed.
        """
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._steps.append((step, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await future  # type: ignore[return-value]

    async def empty_journal(self) -> None:
        """Overwrite what the journal still holds, as far as the file system lets it."""
        assert self._connection is not None  # noqa: S101
        loop, statement = asyncio.get_running_loop(), "PRAGMA wal_checkpoint(TRUNCATE)"
        with contextlib.suppress(sqlite3.Error):
            await loop.run_in_executor(self._thread, self._connection.execute, statement)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._steps:
            batch, self._steps = self._steps, []
            try:
                results = await loop.run_in_executor(self._thread, self._run_batch, batch)
            except RuntimeError:
                closed = SchedulerUnavailable("The spool is closed: this service is ending.")
                results = [closed] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                _set_result(future, result, self._path)
        self._writer = None

    def _run_batch(self, batch: Sequence[tuple[_Step, object]]) -> list[object]:
        """Return the result or the error of each step."""
        try:
            return self._commit(batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
        # A step that fails, because it is large for example, fails no other step.
        return [result for alone in batch for result in self._run_batch([alone])]

    def _commit(self, batch: Sequence[tuple[_Step, object]]) -> list[object]:
        connection = self._connection
        assert connection is not None  # noqa: S101
        # A transaction that only reads takes no lock and syncs nothing.
        connection.execute("BEGIN")
        try:
            results = [step(connection) for step, _ in batch]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return results

    def _open_lock(self) -> int:
        self._directory.mkdir(0o700, parents=True, exist_ok=True)
        # Whoever can open a file can hold its lock.
        self._directory.chmod(0o700)
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
        return descriptor

    def _identify_files(self) -> list[tuple[int, int]] | None:
        try:
            found = [os.stat(self._directory / name) for name in ("lock", "spool.db")]
        except OSError:
            return None
        return [(file.st_dev, file.st_ino) for file in found]

    def _open(self) -> None:
        try:
            # SQLite gives its other files the permissions of this one.
            os.close(os.open(self._path, os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = connect(self._path)
            self._files = self._identify_files()
        except (sqlite3.Error, OSError) as error:
            raise SchedulerUnavailable(
                f"The spool {str(self._path)!r} cannot be used: {error}."
            ) from error


def _set_result(future: asyncio.Future[object], result: object, path: Path) -> None:
    if future.done():
        return
    if isinstance(result, sqlite3.Error):
        is_full = getattr(result, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        kind = NothingWritten if is_full else SchedulerUnavailable
        result = kind(f"The spool {str(path)!r} cannot be used: {result}.")
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
