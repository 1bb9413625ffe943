"""Arrays and heterogeneous jobs as wholes, besides Slurm's tasks and components."""

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from hpcq.domain.arrays import summarize_array, tasks_by_array
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.slurm.accounting import AccountedJobs

__all__ = ["ArraySummaries", "ended_arrays"]

_MOST_LEFT = 20_000
"""So many tasks that left the queue while they waited are remembered, the newest."""


@dataclass(slots=True)
class _Known:
    """One array in the newest listing.

    Attributes:
        tasks: those that were in the queue.
        whole: what that made of the array.
        began: when its first task did; those that are over leave the queue.
    """

    tasks: Sequence[Observation]
    whole: Observation
    began: datetime | None


class ArraySummaries:
    """Summaries of arrays, by what a listing of the queue says of their tasks.

    The summary of an array whose tasks did not change is the same object again.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, datetime | None], _Known] = {}
        self._left_waiting: dict[NativeId, Observation] = {}

    def add(self, observations: Sequence[Observation]) -> list[Observation]:
        """Return the observations and, after them, one for each array of their tasks."""
        known, self._known = self._known, {}
        for parent, tasks in tasks_by_array(observations).items():
            key = (parent, tasks[0].submit_time)
            self._known[key] = _look_again(known.get(key), parent, tasks)
        self._remember_those_that_left(known, observations)
        return [*observations, *(one.whole for one in self._known.values())]

    def complete(
        self, ids: Collection[NativeId], observations: Sequence[Observation]
    ) -> list[Observation]:
        """Return the observations and one for each array among the ids.

        All tasks of those that are in the queue are among the observations.
        """
        parts = {i: tasks for i, tasks in tasks_by_array(observations).items() if i in ids}
        known = (self._known.get((i, tasks[0].submit_time)) for i, tasks in parts.items())
        looks = (
            _look_again(before, parent, tasks)
            for before, (parent, tasks) in zip(known, parts.items(), strict=True)
        )
        return [*observations, *(one.whole for one in looks)]

    def cancelled_while_waiting(
        self, ids: Collection[NativeId], told: Collection[NativeId], history: AccountedJobs
    ) -> list[Observation]:
        """Return the tasks that were cancelled one by one while they waited.

        Neither the controller nor accounting keeps a word of such a task (seen in 22.05), while
        accounting has a record of each that began.

        Args:
            ids: tasks, or whole arrays.
            told: tasks that are known from elsewhere.
            history: what accounting tells of the arrays that they belong to.
        """
        asked = set(ids)
        return [
            replace(
                one,
                state=JobState.FAILED,
                native_state="CANCELLED",
                state_reason="It was cancelled before it began.",
                failure_kind=FailureKind.CANCELLED,
            )
            for one in self._left_waiting.values()
            if (one.native_id in asked or one.array_job_id in asked)
            and one.native_id not in told
            and one.array_job_id in history.known
            and one.native_id not in history.unfinished
        ]

    def _remember_those_that_left(
        self,
        known: Mapping[tuple[str, datetime | None], _Known],
        observations: Sequence[Observation],
    ) -> None:
        present = {one.native_id for one in observations if one.array_job_id is not None}
        for one in (task for before in known.values() for task in before.tasks):
            if one.state.is_queued and one.native_id not in present:
                self._left_waiting[one.native_id] = one
        for native_id in present & self._left_waiting.keys():
            del self._left_waiting[native_id]
        for native_id in list(self._left_waiting)[:-_MOST_LEFT]:
            del self._left_waiting[native_id]


def _look_again(before: _Known | None, parent: NativeId, tasks: Sequence[Observation]) -> _Known:
    old = () if before is None else before.tasks
    if before is not None and len(old) == len(tasks) and all(map(operator.is_, old, tasks)):
        return before
    seen = summarize_array(parent, tasks)
    starts = [seen.start_time, None if before is None else before.began]
    began = min((start for start in starts if start is not None), default=None)
    # Some tasks are over, others wait: it runs, although no task does at this moment.
    state = JobState.RUNNING if began is not None and seen.state.is_queued else seen.state
    return _Known(tasks, replace(seen, state=state, start_time=began), began)


def ended_arrays(
    ids: Iterable[NativeId],
    ended: Sequence[Observation],
    history: AccountedJobs,
    seen: Sequence[Observation],
) -> list[Observation]:
    """Return the arrays among these ids that are over, all their tasks being so.

    Args:
        ids: what was asked for.
        ended: tasks that are over.
        history: what accounting tells.
        seen: what the controller tells of all tasks that it still knows.
    """
    over = {one.native_id for one in ended}
    unfinished = {*history.unfinished, *(o.array_job_id for o in seen if o.native_id not in over)}
    parts = tasks_by_array(ended)
    return [
        summarize_array(native_id, parts[native_id])
        for native_id in ids
        if native_id in parts and native_id not in over and native_id not in unfinished
    ]
