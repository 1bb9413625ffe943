"""The spool: all jobs of this machine, queued, running or finished, in one SQLite file.

A transaction makes each step of a job's life durable, and steps requested at the same time share
one: at whatever moment the power fails, the file holds a legal state. ``AUTOINCREMENT`` gives the
numbers and never repeats one, not even that of a deleted job. Finished jobs stay in the same table,
outside the small index that a start reads.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from hpcq.domain.actions import Action
from hpcq.domain.errors import SchedulerUnavailable, WrongState
from hpcq.domain.jobs import Dependency, NativeId
from hpcq.domain.states import JobState
from hpcq.schedulers.local.dependencies import still_to_come
from hpcq.schedulers.local.files import Result, ShepherdStart
from hpcq.schedulers.local.job import Phase, SpoolRow, end_of, is_local, split_id, task_mark
from hpcq.schedulers.local.processes import holders, is_stopped, send

__all__ = ["Added", "NothingWritten", "Spool"]

_T = TypeVar("_T")
_Step = Callable[[sqlite3.Connection], _T]

_VERSION = 4
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
    result TEXT,
    started TEXT,
    request TEXT,
    array INTEGER,
    task INTEGER
);
CREATE INDEX job_active ON job (id) WHERE phase <> 'finished';
CREATE INDEX job_ended ON job (ended) WHERE phase = 'finished';
CREATE TABLE script (id INTEGER PRIMARY KEY REFERENCES job, content BLOB NOT NULL);
"""
_TASK_INDEXES = """
CREATE INDEX job_task ON job (array, task) WHERE array IS NOT NULL;
CREATE INDEX job_active_task ON job (array) WHERE array IS NOT NULL AND phase <> 'finished';
"""
# The steps from each version to the next.
_UPGRADES = (
    "ALTER TABLE job ADD COLUMN started TEXT;",
    "ALTER TABLE job ADD COLUMN request TEXT;",
    "ALTER TABLE job ADD COLUMN array INTEGER; ALTER TABLE job ADD COLUMN task INTEGER;"
    + _TASK_INDEXES,
)
# A task is as its array was asked for.
_ROWS = (
    "SELECT job.id, coalesce(whole.key, job.key), job.phase, job.attempt, job.boot_id,"
    " job.submitted, coalesce(whole.spec, job.spec), job.result, job.started,"
    " job.request, job.array, job.task FROM job LEFT JOIN job AS whole ON whole.id = job.array"
)
_IDS_PER_QUERY = 500
_FORGOTTEN_AT_ONCE = 500
_LOCK_PATIENCE_SECONDS = 5.0
_LOCK_PAUSE_SECONDS = 0.01


class NothingWritten(SchedulerUnavailable):
    """The disk is full, and the step was certainly not written."""

    reached_scheduler = False


class Added(NamedTuple):
    """The answer of the spool to a job that was to be added.

    Attributes:
        number: its number, or that of the job that has its key.
        is_new: whether it was added.
        waits_for: those of its dependencies that are still to be met, if it was added.
    """

    number: int
    is_new: bool
    waits_for: tuple[Dependency, ...] = ()


class Spool:
    """The file ``spool.db``, the lock on its directory, and the one thread that uses the file.

    One service at a time has the lock. Launchers share it (see `launcher`), so that no shepherd of
    an earlier service is on its way when the lock is free.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock: int | None = None
        self._files: list[tuple[int, int]] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hpcq-spool")
        self._connection: sqlite3.Connection | None = None
        self._steps: list[tuple[_Step[object], asyncio.Future[object]]] = []
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
        path = self._directory / "spool.db"
        if self._identify_files() == self._files:
            return None
        return (
            f"The spool {str(path)!r} was removed or replaced while the service ran. Restart the "
            "service; jobs that wait are lost."
        )

    async def open(self) -> list[SpoolRow]:
        """Open the file, making it if there is none, and return the jobs that are not finished.

        Raises:
            SchedulerUnavailable: it cannot be used.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._open)

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

    async def add(
        self,
        key: str,
        spec: str,
        script: bytes,
        submitted: float,
        phase: str,
        depends_on: Sequence[Dependency] = (),
        tasks: Sequence[int] = (),
    ) -> Added:
        """Add a job, and the tasks of an array, unless there is one with its key.

        The tasks have the numbers that follow that of the array.

        Raises:
            InvalidSpec: it depends on a job that is not known, or that did not end as required.
        """

        def step(connection: sqlite3.Connection) -> Added:
            known = connection.execute("SELECT id FROM job WHERE key = ?", (key,)).fetchone()
            if known is not None:
                return Added(int(known[0]), is_new=False)
            ends = _ends(connection, [one.native_id for one in depends_on])
            waits_for = still_to_come(depends_on, ends)
            number = connection.execute(
                "INSERT INTO job (key, phase, submitted, spec) VALUES (?, ?, ?, ?)",
                (key, phase, submitted, spec),
            ).lastrowid
            connection.execute("INSERT INTO script VALUES (?, ?)", (number, script))
            number = int(number or 0)
            connection.executemany(
                "INSERT INTO job (id, key, phase, submitted, spec, array, task)"
                " VALUES (?, ?, ?, ?, '', ?, ?)",
                (
                    (number + place, task_mark(key, task), phase, submitted, number, task)
                    for place, task in enumerate(tasks, start=1)
                ),
            )
            return Added(number, True, waits_for)

        return await self._do(step)

    async def script(self, number: int) -> bytes:
        """Return the script of a job that is not finished."""

        def step(connection: sqlite3.Connection) -> bytes:
            row = connection.execute("SELECT content FROM script WHERE id = ?", (number,))
            return bytes(row.fetchone()[0])

        return await self._do(step)

    async def dispatch(self, number: int, attempt: int, started: ShepherdStart) -> None:
        """Record that a job is to start now, and the shepherd that waits for this.

        Raises:
            WrongState: it is over.
        """
        values = (attempt, started["boot_id"], json.dumps(started), number)

        def step(connection: sqlite3.Connection) -> None:
            recorded = connection.execute(
                "UPDATE job SET phase = 'dispatched', attempt = ?, boot_id = ?, started = ?"
                " WHERE id = ? AND phase <> 'finished'",
                values,
            )
            if not recorded.rowcount:
                raise WrongState(f"Job {number} is over.")

        await self._do(step)

    async def move(self, numbers: Sequence[int], phase: str) -> None:
        """Record that jobs that have not started are held, or queued."""
        await self._do(
            lambda connection: connection.executemany(
                "UPDATE job SET phase = ? WHERE id = ? AND phase <> 'finished'",
                ((phase, number) for number in numbers),
            )
        )

    async def alter(self, number: int, spec: str) -> None:
        """Record what is asked for a job, or an array, that has not started."""
        await self._do(
            lambda connection: connection.execute(
                "UPDATE job SET spec = ? WHERE id = ?", (spec, number)
            )
        )

    async def request(self, number: int, action: Action | None) -> None:
        """Record what was last requested of a job that runs."""
        await self._do(
            lambda connection: connection.execute(
                "UPDATE job SET request = ? WHERE id = ? AND phase = 'dispatched'", (action, number)
            )
        )

    async def put_back(self, number: int) -> bool:
        """Put a job into the queue again whose run is over, if that is what was last requested.

        Returns:
            Whether it is there; also when this is repeated, because nobody knows what was written.
        """

        def step(connection: sqlite3.Connection) -> bool:
            connection.execute(
                "UPDATE job SET phase = 'queued', request = NULL"
                " WHERE id = ? AND phase = 'dispatched' AND request = ?",
                (number, Action.REQUEUE),
            )
            query = "SELECT phase = 'queued' FROM job WHERE id = ?"
            return bool(connection.execute(query, (number,)).fetchone()[0])

        return await self._do(step)

    async def withdraw_requeue(self, number: int) -> None:
        """Let a job end that is to be requeued, also if it is back here and nowhere else."""
        await self._do(
            lambda connection: connection.execute(
                "UPDATE job SET phase = 'dispatched', request = NULL"
                " WHERE id = ? AND phase IN ('queued', 'dispatched')",
                (number,),
            )
        )

    async def finish(self, numbers: Sequence[int], result: Result) -> None:
        """Record the same end of some jobs; with the last of its tasks an array ends."""

        def step(connection: sqlite3.Connection) -> None:
            ids = [(number,) for number in numbers]
            end = (result["end_time"], json.dumps(result))
            connection.executemany(
                "UPDATE job SET phase = 'finished', ended = ?, result = ? WHERE id = ?",
                ((*end, number) for number in numbers),
            )
            connection.executemany("DELETE FROM script WHERE id = ?", ids)
            query = "SELECT array FROM job WHERE id = ? AND array IS NOT NULL"
            for array in {row for one in ids for row in connection.execute(query, one)}:
                _finish_array(connection, *array)

        await self._do(step)

    async def find(self, key: str) -> int | None:
        """Return the number of the job with this key."""

        def step(connection: sqlite3.Connection) -> int | None:
            row = connection.execute("SELECT id FROM job WHERE key = ?", (key,)).fetchone()
            return None if row is None else int(row[0])

        return await self._do(step)

    async def finished(self, ids: Sequence[NativeId]) -> list[SpoolRow]:
        """Return those of these jobs that are finished, and of arrays all finished tasks."""
        numbers = list(map(split_id, ids))
        jobs = [number for number, task in numbers if task is None]
        # Those of an array that is asked for are found with it.
        arrays = set(jobs)
        tasks = [one for one in numbers if one[1] is not None and one[0] not in arrays]

        def step(connection: sqlite3.Connection) -> list[SpoolRow]:
            rows: list[SpoolRow] = []
            # An array that is being forgotten may leave some of its tasks for a moment.
            over = (
                f"{_ROWS} WHERE job.phase = 'finished'"
                " AND (job.array IS NULL OR whole.id IS NOT NULL)"
            )
            for first in range(0, len(jobs), _IDS_PER_QUERY):
                some = jobs[first : first + _IDS_PER_QUERY]
                marks = ",".join("?" * len(some))
                for condition in ("job.array IS NULL AND job.id", "job.array"):
                    query = f"{over} AND {condition} IN ({marks})"
                    rows += [SpoolRow(*row) for row in connection.execute(query, some)]
            query = f"{over} AND job.array = ? AND job.task = ?"
            for one in tasks:
                rows += [SpoolRow(*row) for row in connection.execute(query, one)]
            return list({row.id: row for row in rows}.values())

        return await self._do(step)

    async def ends(self, ids: Sequence[NativeId]) -> dict[NativeId, JobState | None]:
        """Return how jobs ended, None for one that is not over; unknown ones are absent."""
        return await self._do(lambda connection: _ends(connection, ids)) if ids else {}

    async def forget(self, before: float) -> int:
        """Delete some of the jobs that ended before a moment; return their number, 0 at the end.

        The tasks of an array stay as long as the array, and go after it.
        Their arguments and environments are overwritten in the file, not only released.
        """

        def step(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "DELETE FROM job WHERE id IN"
                " (SELECT id FROM job WHERE phase = 'finished' AND ended < :before AND NOT EXISTS"
                " (SELECT 1 FROM job AS whole WHERE whole.id = job.array) LIMIT :most)",
                {"before": before, "most": _FORGOTTEN_AT_ONCE},
            ).rowcount

        deleted = await self._do(step)
        if deleted and self._connection is not None:
            loop, empty_journal = asyncio.get_running_loop(), "PRAGMA wal_checkpoint(TRUNCATE)"
            # The journal still holds the deleted content.
            with contextlib.suppress(sqlite3.Error):
                await loop.run_in_executor(self._thread, self._connection.execute, empty_journal)
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
            try:
                results = await loop.run_in_executor(self._thread, self._run_batch, batch)
            except RuntimeError:
                closed = SchedulerUnavailable("The spool is closed: this service is ending.")
                results = [closed] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                _set_result(future, result)
        self._writer = None

    def _run_batch(self, batch: Sequence[tuple[_Step[object], object]]) -> list[object]:
        """Return the result or the error of each step."""
        try:
            return self._commit(batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
        # A step that fails, because it is large for example, fails no other step.
        return [result for alone in batch for result in self._run_batch([alone])]

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

    def _open(self) -> list[SpoolRow]:
        try:
            # SQLite gives its other files the permissions of this one.
            os.close(os.open(self._directory / "spool.db", os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = _connect(self._directory / "spool.db")
            query = f"{_ROWS} WHERE job.phase <> 'finished' ORDER BY job.id"
            rows = [SpoolRow(*row) for row in self._connection.execute(query)]
            self._files = self._identify_files()
            return rows
        except (sqlite3.Error, OSError) as error:
            raise SchedulerUnavailable(
                f"The spool {str(self._directory / 'spool.db')!r} cannot be used: {error}."
            ) from error


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
    if version < _VERSION:
        upgrade = " ".join(_UPGRADES[version - 1 :])
        steps = _SCHEMA + _TASK_INDEXES if version == 0 else upgrade
        connection.executescript(f"BEGIN; {steps} PRAGMA user_version = {_VERSION}; COMMIT;")
    return connection


def _ends(
    connection: sqlite3.Connection, ids: Iterable[NativeId]
) -> dict[NativeId, JobState | None]:
    query = "SELECT phase, result FROM job WHERE "
    ends: dict[NativeId, JobState | None] = {}
    for native_id in filter(is_local, ids):
        number, task = split_id(native_id)
        if task is None:
            found = connection.execute(query + "id = ? AND array IS NULL", (number,))
        else:
            found = connection.execute(query + "array = ? AND task = ?", (number, task))
        for phase, result in found:
            ends[native_id] = end_of(json.loads(result)) if phase == Phase.FINISHED else None
    return ends


def _finish_array(connection: sqlite3.Connection, array: int) -> None:
    """Record the end of an array if all its tasks are over; it failed if one of them did."""
    active = "SELECT 1 FROM job WHERE array = ? AND phase <> 'finished' LIMIT 1"
    if connection.execute(active, (array,)).fetchone() is not None:
        return
    results = connection.execute("SELECT result FROM job WHERE array = ? ORDER BY task", (array,))
    ends: list[Result] = [json.loads(text) for (text,) in results]
    decisive = next((end for end in ends if end["failure_kind"] is not None), ends[0])
    last = max(end["end_time"] for end in ends)
    connection.execute(
        "UPDATE job SET phase = 'finished', ended = ?, result = ? WHERE id = ?",
        (last, json.dumps({**decisive, "end_time": last, "usage": None}), array),
    )
    connection.execute("DELETE FROM script WHERE id = ?", (array,))


def _set_result(future: asyncio.Future[object], result: object) -> None:
    if future.done():
        return
    if isinstance(result, sqlite3.Error):
        is_full = getattr(result, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        kind = NothingWritten if is_full else SchedulerUnavailable
        result = kind(f"The spool cannot be used: {result}.")
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
