"""Arrays: the whole besides its tasks, and the tasks whose turn it is to run."""

import bisect
import operator
from collections.abc import Sequence

from hpcq.domain.arrays import summarize_array
from hpcq.domain.jobs import Observation
from hpcq.domain.states import JobState, ReasonCode
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.spool_row import end_of

__all__ = ["LocalArray", "Turns"]


class LocalArray:
    """An array that is not over.

    Attributes:
        whole: the array itself; no job that could start.
        tasks: all its tasks by their numbers in it, those that are over too.
    """

    def __init__(self, whole: LocalJob) -> None:
        self.whole = whole
        self.tasks: dict[int, LocalJob] = {}
        self._left = 0
        self._parts: Sequence[Observation] = ()
        self._observation: Observation | None = None

    def add(self, task: LocalJob) -> None:
        """Add a task."""
        assert task.task is not None  # noqa: S101
        self.tasks[task.task] = task
        self._left += task.result is None

    def on_end(self) -> JobState | None:
        """Note that one more task is over; return the state of the array once all are."""
        self._left -= 1
        if self._left:
            return None
        ends = {end_of(task.result) for task in self.tasks.values() if task.result is not None}
        return JobState.FAILED if JobState.FAILED in ends else JobState.DONE

    def observe(self, tasks: Sequence[Observation]) -> Observation:
        """Return the array as the service sees it; the same object until a task changes.

        Args:
            tasks: all its tasks, as the service sees them.
        """
        before = self._parts
        is_known = len(before) == len(tasks) and all(map(operator.is_, before, tasks))
        if self._observation is None or not is_known:
            self._observation = summarize_array(self.whole.native_id, tasks)
            self._parts = tasks
        return self._observation


class Turns:
    """The tasks of arrays that may start: of each array as many as may run at the same time.

    The others wait for their turn outside the queue, so that no other job waits for them.
    """

    def __init__(self) -> None:
        self._taken: dict[int, set[int]] = {}
        self._waiting: dict[int, list[int]] = {}
        self._jobs: dict[int, LocalJob] = {}

    def take(self, job: LocalJob) -> bool:
        """Return whether a job may start; if not, it waits for its turn."""
        limit = _limit(job)
        if job.array is None or limit is None:
            return True
        taken = self._taken.setdefault(job.array, set())
        if len(taken) < limit:
            taken.add(job.number)
            return True
        bisect.insort(self._waiting.setdefault(job.array, []), job.number)
        self._jobs[job.number] = job
        job.note = f"It waits until fewer than {limit} tasks of its array run."
        job.note_code = ReasonCode.LIMIT_REACHED
        return False

    def keep(self, job: LocalJob) -> None:
        """Let a job that runs already have its turn."""
        if job.array is not None and _limit(job) is not None:
            self._taken.setdefault(job.array, set()).add(job.number)

    def give_back(self, job: LocalJob) -> LocalJob | None:
        """Let a job wait for its turn no longer, or give its turn back; return who may start now.

        Harmless for a job that has no turn.
        """
        if job.array is None or job.array not in self._taken:
            return None
        taken, waiting = self._taken[job.array], self._waiting.get(job.array, [])
        following = None
        if self._jobs.pop(job.number, None) is not None:
            del waiting[bisect.bisect_left(waiting, job.number)]
        elif job.number in taken:
            taken.remove(job.number)
            if waiting and len(taken) < (_limit(job) or 0):
                following = self._jobs.pop(waiting.pop(0))
                following.note = following.note_code = None
                following.changed()
                taken.add(following.number)
        if not taken:
            del self._taken[job.array]
            self._waiting.pop(job.array, None)
        return following


def _limit(job: LocalJob) -> int | None:
    return None if job.spec.array is None else job.spec.array.max_running
