"""The spool: all jobs of this machine, queued, running or finished, in one SQLite file.

A transaction makes each step of a job's life durable, and steps requested at the same time share
one: at whatever moment the power fails, the file holds a legal state. ``AUTOINCREMENT`` gives the
numbers and never repeats one, not even that of a deleted job. Finished jobs stay in the same table,
outside the small index that a start reads.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hpcq.domain.actions import Action
from hpcq.domain.errors import WrongState
from hpcq.domain.jobs import Dependency, NativeId
from hpcq.domain.states import JobState
from hpcq.schedulers.local.dependencies import still_to_come
from hpcq.schedulers.local.files import Result, ShepherdStart
from hpcq.schedulers.local.ids import is_local, split_id, task_mark
from hpcq.schedulers.local.spool_file import SpoolFile
from hpcq.schedulers.local.spool_row import Phase, SpoolRow, end_of

__all__ = ["Added", "Spool"]

# A task is as its array was asked for.
_ROWS = (
    "SELECT job.id, coalesce(whole.key, job.key), job.phase, job.attempt, job.boot_id,"
    " job.submitted, coalesce(whole.spec, job.spec), job.result, job.started,"
    " job.request, job.array, job.task FROM job LEFT JOIN job AS whole ON whole.id = job.array"
)
_IDS_PER_QUERY = 500
_FORGOTTEN_AT_ONCE = 500


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


class Spool(SpoolFile):
    """The jobs in the file."""

    async def unfinished(self) -> list[SpoolRow]:
        """Return the jobs that are not finished, earliest first."""
        query = f"{_ROWS} WHERE job.phase <> 'finished' ORDER BY job.id"
        return await self.run(
            lambda connection: [SpoolRow(*row) for row in connection.execute(query)]
        )

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

        return await self.run(step)

    async def script(self, number: int) -> bytes:
        """Return the script of a job that is not finished."""

        def step(connection: sqlite3.Connection) -> bytes:
            row = connection.execute("SELECT content FROM script WHERE id = ?", (number,))
            return bytes(row.fetchone()[0])

        return await self.run(step)

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

        await self.run(step)

    async def move(self, numbers: Sequence[int], phase: str) -> None:
        """Record that jobs that have not started are held, or queued."""
        await self.run(
            lambda connection: connection.executemany(
                "UPDATE job SET phase = ? WHERE id = ? AND phase <> 'finished'",
                ((phase, number) for number in numbers),
            )
        )

    async def alter(self, number: int, spec: str) -> None:
        """Record what is asked for a job, or an array, that has not started."""
        await self.run(
            lambda connection: connection.execute(
                "UPDATE job SET spec = ? WHERE id = ?", (spec, number)
            )
        )

    async def request(self, number: int, action: Action | None) -> None:
        """Record what was last requested of a job that runs."""
        await self.run(
            lambda connection: connection.execute(
                "UPDATE job SET request = ? WHERE id = ? AND phase = 'dispatched'", (action, number)
            )
        )

    async def put_back(self, number: int) -> bool:
        """Put a job into the queue again whose run is over, if that is what was last requested.

        Returns:
            Whether it is there; also when this is repeated after a write with an unknown outcome.
        """

        def step(connection: sqlite3.Connection) -> bool:
            connection.execute(
                "UPDATE job SET phase = 'queued', request = NULL"
                " WHERE id = ? AND phase = 'dispatched' AND request = ?",
                (number, Action.REQUEUE),
            )
            query = "SELECT phase = 'queued' FROM job WHERE id = ?"
            return bool(connection.execute(query, (number,)).fetchone()[0])

        return await self.run(step)

    async def withdraw_requeue(self, number: int) -> None:
        """Let a job end that is to be requeued, also if it is back here and nowhere else."""
        await self.run(
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

        await self.run(step)

    async def find(self, key: str) -> int | None:
        """Return the number of the job with this key."""

        def step(connection: sqlite3.Connection) -> int | None:
            row = connection.execute("SELECT id FROM job WHERE key = ?", (key,)).fetchone()
            return None if row is None else int(row[0])

        return await self.run(step)

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

        return await self.run(step)

    async def ends(self, ids: Sequence[NativeId]) -> dict[NativeId, JobState | None]:
        """Return how jobs ended, None for one that is not over; unknown ones are absent."""
        return await self.run(lambda connection: _ends(connection, ids)) if ids else {}

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

        deleted = await self.run(step)
        if deleted:
            # The journal still holds the deleted content.
            await self.empty_journal()
        return deleted


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
