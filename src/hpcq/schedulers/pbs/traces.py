"""Ends of jobs by ``tracejob``, where PBS keeps neither history nor accounting for this account."""

import asyncio
from collections.abc import Collection, Iterable, Sequence

from hpcq.domain.arrays import whole
from hpcq.domain.errors import CommandMissing, SchedulerError
from hpcq.domain.jobs import NativeId, Observation
from hpcq.schedulers.cli import CommandLine
from hpcq.schedulers.pbs.arrays import as_task
from hpcq.schedulers.pbs.commands import job_word
from hpcq.schedulers.pbs.records import Record
from hpcq.schedulers.pbs.trace import parse_tracejob
from hpcq.schedulers.pbs_family.values import parse_job_id

__all__ = ["Traces"]

_TRACED_AT_ONCE = 2
_TRACED_DAYS = 7
_ARRAYS_REMEMBERED = 1000
_TASKS_TRACED = 500
"""Of a larger array that left no record nobody tells the end: each task is a command."""


class Traces:
    """What ``tracejob`` finds in the server's log, and the tasks of arrays that it is asked about.

    Args:
        cli: runs commands.
        arrays: the jobs that are known to be arrays, as they become known.
    """

    def __init__(self, cli: CommandLine, arrays: Collection[NativeId]) -> None:
        self._cli = cli
        self._arrays = arrays
        self._tracing = asyncio.Semaphore(_TRACED_AT_ONCE)
        self._is_there = True
        self._tasks: dict[NativeId, dict[NativeId, Record | None]] = {}

    def expect(self, native_id: NativeId, tasks: Iterable[NativeId]) -> None:
        """Take note of the tasks of an array that was just submitted."""
        self._tasks[native_id] = dict.fromkeys(tasks)

    def remember(self, records: Iterable[Record]) -> None:
        """Take note of what a listing tells of the tasks of arrays."""
        listed: set[NativeId] = set()
        for record in records:
            seen = record.observation
            if seen.array_job_id is not None:
                array = NativeId(seen.array_job_id)
                listed.add(array)
                self._tasks.setdefault(array, {})[seen.native_id] = record
        gone = [array for array in self._tasks if array not in listed]
        for array in gone[: max(len(gone) - _ARRAYS_REMEMBERED, 0)]:
            del self._tasks[array]

    async def ended(self, missing: Sequence[NativeId]) -> list[Observation]:
        """Return how jobs ended that nothing else tells of; others are absent."""
        traced = await self._each(missing)
        for native_id in missing:
            if native_id in self._arrays and native_id not in traced:
                array = await self._whole(native_id)
                if array is not None:
                    traced[native_id] = array
        arrays = dict.fromkeys(
            NativeId(job.number)
            for job in map(parse_job_id, missing)
            if job.task and job.short not in traced
        )
        over = await self._each(arrays)
        known = (traced.get(native_id) or as_task(native_id, over) for native_id in missing)
        return [seen for seen in known if seen is not None]

    async def _whole(self, native_id: NativeId) -> Observation | None:
        """Return how an array ended by its tasks, for nothing is told of the whole.

        None where the end of a task is not known.
        """
        tasks = self._tasks.get(native_id, {})
        if not 0 < len(tasks) <= _TASKS_TRACED:
            return None
        over = {i: record.complete for i, record in tasks.items() if record and record.is_over}
        ended = over | await self._each(i for i in tasks if i not in over)
        return whole(native_id, list(ended.values())) if len(ended) == len(tasks) else None

    async def _each(self, ids: Iterable[NativeId]) -> dict[NativeId, Observation]:
        words = [job_word(native_id, self._arrays) for native_id in ids]
        found = await asyncio.gather(*map(self._one, words))
        return {seen.native_id: seen for seen in found if seen is not None}

    async def _one(self, word: str) -> Observation | None:
        """Ask how one job ended; what it fails to tell is not known."""
        if not self._is_there:
            return None
        try:
            async with self._tracing:
                argv = ("tracejob", "-n", str(_TRACED_DAYS), word)
                done = await self._cli.run(argv, listing=True)
        except CommandMissing:
            self._is_there = False
            return None
        except SchedulerError:
            return None
        if done.exit_code != 0:
            return None
        return parse_tracejob(done.stdout, parse_job_id(word).short)
