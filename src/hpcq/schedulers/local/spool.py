"""The spool: every job of this machine, queued, running or finished, in one SQLite file.

One transaction makes each step of a job's life durable, and steps asked for at the same time
share one: whatever moment the power fails at, the file holds a legal state. Numbers are given by
``AUTOINCREMENT``, which never repeats one, deleted jobs included. Finished jobs stay in the same
table, outside the small index that a start reads.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hpcq.domain.errors import SchedulerUnavailable

__all__ = ["NothingWritten", "Phase", "Row", "Spool"]

_T = TypeVar("_T")
_Step = Callable[[sqlite3.Connection], _T]

_VERSION = 1
_SCHEMA = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    phase TEXT NOT NULL CHECK (phase IN ('held', 'queued', 'dispatched', 'finished')),
    attempt INTEGER NOT NULL DEFAULT 0,
    boot_id TEXT,
    submitted REAL NOT NULL,
    ended REAL,
    spec TEXT NOT NULL,
    result TEXT
);
CREATE INDEX job_active ON job (id) WHERE phase <> 'finished';
CREATE INDEX job_ended ON job (ended) WHERE phase = 'finished';
CREATE TABLE script (id INTEGER PRIMARY KEY REFERENCES job, content BLOB NOT NULL);
"""
_COLUMNS = "id, key, phase, attempt, boot_id, submitted, spec, result"
_IDS_PER_QUERY = 500
_FORGOTTEN_AT_ONCE = 500


class NothingWritten(SchedulerUnavailable):
    """The disk is full: what was to be written surely was not."""

    reached_scheduler = False


class Phase:
    """Where a job is, as far as the spool knows."""

    HELD = "held"
    QUEUED = "queued"
    DISPATCHED = "dispatched"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Row:
    """One job as the spool holds it; ``spec`` and ``result`` are JSON."""

    id: int
    key: str
    phase: str
    attempt: int
    boot_id: str | None
    submitted: float
    spec: str
    result: str | None


class Spool:
    """The file, and the one thread that uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hpcq-spool")
        self._connection: sqlite3.Connection | None = None
        self._steps: list[tuple[_Step[object], asyncio.Future[object]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> list[Row]:
        """Open the file, making it if there is none, and return the jobs that are not finished.

        Raises:
            SchedulerUnavailable: it cannot be used.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._open)

    async def close(self) -> None:
        """Close the file once what was asked for is done."""
        while self._writer is not None:
            await self._writer
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def add(
        self, key: str, spec: str, script: bytes, submitted: float, phase: str
    ) -> tuple[int, bool]:
        """Add a job; return its number, or that of the one with this key, and whether it is new."""

        def step(connection: sqlite3.Connection) -> tuple[int, bool]:
            known = connection.execute("SELECT id FROM job WHERE key = ?", (key,)).fetchone()
            if known is not None:
                return int(known[0]), False
            number = connection.execute(
                "INSERT INTO job (key, phase, submitted, spec) VALUES (?, ?, ?, ?)",
                (key, phase, submitted, spec),
            ).lastrowid
            connection.execute("INSERT INTO script VALUES (?, ?)", (number, script))
            return int(number or 0), True

        return await self._do(step)

    async def dispatch(self, number: int, attempt: int, boot_id: str) -> bytes:
        """Note that a job is about to be started; return its script."""

        def step(connection: sqlite3.Connection) -> bytes:
            connection.execute(
                "UPDATE job SET phase = 'dispatched', attempt = ?, boot_id = ? WHERE id = ?",
                (attempt, boot_id, number),
            )
            row = connection.execute("SELECT content FROM script WHERE id = ?", (number,))
            return bytes(row.fetchone()[0])

        return await self._do(step)

    async def move(self, number: int, phase: str) -> None:
        """Note that a job that has not started is held, or queued."""
        await self._do(
            lambda connection: connection.execute(
                "UPDATE job SET phase = ? WHERE id = ?", (phase, number)
            )
        )

    async def finish(self, number: int, ended: float, result: str) -> None:
        """Note how a job ended."""

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE job SET phase = 'finished', ended = ?, result = ? WHERE id = ?",
                (ended, result, number),
            )
            connection.execute("DELETE FROM script WHERE id = ?", (number,))

        await self._do(step)

    async def find(self, key: str) -> int | None:
        """Return the number of the job with this key."""

        def step(connection: sqlite3.Connection) -> int | None:
            row = connection.execute("SELECT id FROM job WHERE key = ?", (key,)).fetchone()
            return None if row is None else int(row[0])

        return await self._do(step)

    async def finished(self, numbers: Sequence[int]) -> list[Row]:
        """Return those of these jobs that are finished."""

        def step(connection: sqlite3.Connection) -> list[Row]:
            rows: list[Row] = []
            for first in range(0, len(numbers), _IDS_PER_QUERY):
                some = numbers[first : first + _IDS_PER_QUERY]
                marks = ",".join("?" * len(some))
                query = f"SELECT {_COLUMNS} FROM job WHERE phase = 'finished' AND id IN ({marks})"  # noqa: S608 - question marks
                rows += [Row(*row) for row in connection.execute(query, some)]
            return rows

        return await self._do(step)

    async def forget(self, before: float) -> int:
        """Delete some of the jobs that ended before a moment; return how many, 0 when none is left.

        Their arguments and environments are overwritten in the file, not only let go.
        """

        def step(connection: sqlite3.Connection) -> int:
            old = "SELECT id FROM job WHERE phase = 'finished' AND ended < ? LIMIT ?"
            deleted = connection.execute(
                f"DELETE FROM job WHERE id IN ({old})",  # noqa: S608 - two question marks
                (before, _FORGOTTEN_AT_ONCE),
            ).rowcount
            return deleted

        deleted = await self._do(step)
        if deleted:
            loop = asyncio.get_running_loop()
            # What was overwritten still stands in the journal.
            await loop.run_in_executor(self._thread, self._empty_journal)
        return deleted

    async def _do(self, step: _Step[_T]) -> _T:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._steps.append((step, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await future  # type: ignore[return-value]

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._steps:
            batch, self._steps = self._steps, []
            outcomes = await loop.run_in_executor(self._thread, self._carry_out, batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                _settle(future, outcome)
        self._writer = None

    def _carry_out(self, batch: Sequence[tuple[_Step[object], object]]) -> list[object]:
        """Return what each step returned or raised."""
        try:
            return self._commit(batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
        # One that fails, because it is large, say, takes no other with it.
        return [outcome for alone in batch for outcome in self._carry_out([alone])]

    def _commit(self, batch: Sequence[tuple[_Step[object], object]]) -> list[object]:
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

    def _open(self) -> list[Row]:
        try:
            self._connection = _connect(self._path)
            query = f"SELECT {_COLUMNS} FROM job WHERE phase <> 'finished' ORDER BY id"  # noqa: S608
            return [Row(*row) for row in self._connection.execute(query)]
        except sqlite3.Error as error:
            raise SchedulerUnavailable(
                f"The spool {str(self._path)!r} cannot be used: {error}."
            ) from error

    def _empty_journal(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # What is deleted is overwritten: arguments and environments may hold secrets.
    connection.execute("PRAGMA secure_delete = ON")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        connection.close()
        raise sqlite3.DatabaseError("it was written by a newer version of this service")
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
    return connection


def _settle(future: asyncio.Future[object], outcome: object) -> None:
    if future.done():
        return
    if isinstance(outcome, sqlite3.Error):
        is_full = getattr(outcome, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        kind = NothingWritten if is_full else SchedulerUnavailable
        outcome = kind(f"The spool cannot be used: {outcome}.")
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
