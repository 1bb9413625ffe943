"""Arrays, whole although Torque forgets their jobs one by one."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from hpcq.domain.arrays import tasks_by_array
from hpcq.domain.jobs import NativeId, Observation
from hpcq.schedulers.pbs_family.accounting import AccountingLogs
from hpcq.schedulers.torque.accounting import observe_lines
from hpcq.schedulers.torque.parse import array_of

__all__ = ["Arrays"]


class Arrays:
    """Remembers which jobs are arrays, and the jobs of each.

    Torque forgets each of an array's jobs a while after that job's own end.

    Args:
        logs: where the ends are looked for that no listing has shown.
    """

    def __init__(self, logs: AccountingLogs) -> None:
        self._logs = logs
        self._tasks: dict[NativeId, dict[NativeId, Observation]] = {}

    @property
    def ids(self) -> Collection[NativeId]:
        """The arrays of the last listing, and those submitted since."""
        return self._tasks.keys()

    def add(self, native_id: NativeId) -> None:
        """Remember an array that no listing has shown yet."""
        self._tasks.setdefault(native_id, {})

    async def complete(self, seen: Sequence[Observation]) -> list[Observation]:
        """Return the same, arrays with those of their jobs that Torque has forgotten already.

        They are remembered from earlier listings and, before the array is taken for over, looked
        for in the accounting logs.

        Args:
            seen: a listing of the whole queue, which is remembered.
        """
        arrays = tasks_by_array(seen).items()
        tasks = {number: {one.native_id: one for one in ours} for number, ours in arrays}
        listed = {number: len(ours) for number, ours in tasks.items()}
        for number, ours in tasks.items():
            before = self._tasks.get(number, {})
            tasks[number] = {**{i: o for i, o in before.items() if o.state.is_final}, **ours}
            if all(o.state.is_final for o in ours.values()) and not _are_over(before):
                tasks[number] = {**await self._accounted(number), **tasks[number]}
        self._tasks = tasks
        completed = {
            number: array_of(number, [*ours.values()])
            for number, ours in tasks.items()
            if len(ours) > listed[number]
        }
        return [
            replace(completed[o.native_id], submission_key=o.submission_key)
            if o.native_id in completed
            else o
            for o in seen
        ]

    async def _accounted(self, number: NativeId) -> dict[NativeId, Observation]:
        """Return the ends of an array's jobs by the accounting logs, as far as they are open."""
        try:
            lines = await asyncio.to_thread(self._logs.lines, [number])
        except OSError:
            return {}
        ends = observe_lines(lines)[0]
        return {seen.native_id: seen for seen in ends if seen.array_job_id == number}


def _are_over(tasks: Mapping[NativeId, Observation]) -> bool:
    return bool(tasks) and all(task.state.is_final for task in tasks.values())
