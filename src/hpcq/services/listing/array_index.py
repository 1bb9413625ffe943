"""An index of the tasks of arrays, with the state of each.

An array that was submitted here is named by its uid, any other by the scheduler's id.
"""

from collections import Counter
from collections.abc import Collection, Container, Mapping

from hpcq.domain.jobs import JobRecord, JobUid, NativeId
from hpcq.domain.states import JobState

__all__ = ["ArrayIndex", "name_of"]

_Name = JobUid | NativeId


def name_of(array: JobRecord) -> _Name | None:
    """Return the name of an array."""
    return array.uid if array.submitted_here else array.native_id


class ArrayIndex:
    """The tasks of all arrays in the table.

    A task that was submitted here stays as long as its array is in the table, though it has left
    itself; any other stays as long as it is in the queue.
    """

    def __init__(self) -> None:
        self._states: dict[_Name, dict[JobUid, JobState]] = {}
        self._counts: dict[_Name, Counter[JobState]] = {}
        self._changed: set[_Name] = set()

    def note(
        self, before: JobRecord | None, after: JobRecord | None, entries: Container[JobUid]
    ) -> None:
        """Take in a change of a job in the table.

        Args:
            before: the job; None for a new one.
            after: the same; None for one that has left.
            entries: the jobs in the table.
        """
        record = after or before
        if record is None:
            return
        array = _array_of(record)
        if array is not None:
            self._changed.add(array)
            if after is not None:
                states = self._states.setdefault(array, {})
                counts = self._counts.setdefault(array, Counter())
                if after.uid in states:
                    counts[states[after.uid]] -= 1
                states[after.uid] = after.state
                counts[after.state] += 1
            elif not isinstance(array, JobUid) or array not in entries:
                self._forget(array, [record.uid])
        elif record.is_array and (name := name_of(record)) is not None:
            self._changed.add(name)
            if after is None:
                self._forget(name, [uid for uid in self.tasks_of(name) if uid not in entries])

    def remember(self, array: JobUid, tasks: Mapping[JobUid, JobState]) -> None:
        """Take in the states of tasks that are not in the table, of an array that is to be."""
        states = self._states[array] = {**tasks, **self._states.get(array, {})}
        self._counts[array] = Counter(states.values())

    def pop_changed(self) -> Collection[_Name]:
        """Return the arrays that changed since the last call, by themselves or by their tasks."""
        changed, self._changed = self._changed, set()
        return changed

    def counts(self, name: _Name) -> Mapping[JobState, int]:
        """Return how many tasks of an array are known to be in each state."""
        # A count of every task would take long with each of the changes of a large array.
        return {state: count for state, count in self._counts.get(name, {}).items() if count}

    def tasks_of(self, name: _Name) -> Collection[JobUid]:
        """Return the tasks of an array, also those that have left the table."""
        return self._states.get(name, {}).keys()

    def _forget(self, array: _Name, tasks: Collection[JobUid]) -> None:
        states = self._states.get(array, {})
        for uid in tasks:
            if uid in states:
                self._counts[array][states.pop(uid)] -= 1
        if not states:
            self._states.pop(array, None)
            self._counts.pop(array, None)


def _array_of(task: JobRecord) -> _Name | None:
    """Return the name of the array that a job is a task of; None for any other job."""
    seen = task.seen
    if task.parent_uid is not None or seen is None:
        return task.parent_uid
    if seen.array_task_id is None or seen.array_job_id is None:
        return None
    return NativeId(seen.array_job_id)
