"""The queue: waiting jobs, and which of them start now. First in, first out, bounded overtaking.

The first waiting job that does not fit is the *head*. Later jobs may start before it in two
ways, so that slots do not lie idle while it waits:

* **Backfill** (as in the EASY scheduler: Lifka, JSSPP 1995). The wall time limits of the running
  jobs may say when the head can start at the latest. A later job then starts now if its own limit
  ends it before that moment, or if it needs only slots that the head leaves free then. The head
  is not delayed, so this is not bounded.
* **Overtaking.** When that moment is not known, because a running job has no limit, at most
  `MAX_OVERTAKES` jobs start before the head. After that, slots are kept for the head.

Every running job that has a limit ends, and the others are overtaken a bounded number of times:
each job starts once the jobs that run now have ended.

Only the next `BACKFILL_DEPTH` jobs are looked at, so that a long queue costs no more than a short
one (as Slurm's ``bf_max_job_test``).
"""

import bisect
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from hpcq.domain.states import ReasonCode
from hpcq.schedulers.local.arrays import Turns
from hpcq.schedulers.local.job import LocalJob

__all__ = [
    "BACKFILL_DEPTH",
    "MAX_OVERTAKES",
    "PLANNED_JOBS",
    "Choice",
    "JobQueue",
    "RunningJob",
    "WaitingJob",
    "choose",
    "plan",
]

MAX_OVERTAKES = 16
"""The most jobs that start before the head when the moment it can start at is not known."""

BACKFILL_DEPTH = 500
"""The number of jobs behind the head that are considered."""

PLANNED_JOBS = 100
"""The number of jobs, the first in the queue, whose start is estimated."""


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that could start.

    Attributes:
        job: its number; a smaller one came earlier.
        slots: the slots it needs, at most those of the machine.
        limit_seconds: its wall time limit; None for none.
        overtaken: the number of later jobs that have already started before it.
    """

    job: int
    slots: int
    limit_seconds: float | None = None
    overtaken: int = 0


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that holds slots.

    Attributes:
        slots: the slots it holds.
        seconds_left: time until its wall time limit, 0 when that is overdue; None for no limit.
    """

    slots: int
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The jobs that start now.

    Attributes:
        start: their numbers, in the order to start them.
        head: the first job that has to wait for slots; None when all start.
        overtakes: the number of jobs in ``start`` that may delay the head.
    """

    start: tuple[int, ...] = ()
    head: int | None = None
    overtakes: int = 0


def choose(
    waiting: Iterable[WaitingJob], running: Iterable[RunningJob], total_slots: int
) -> Choice:
    """Choose the jobs that start now.

    Args:
        waiting: the jobs that could start, earliest first; read only as far as needed.
        running: the jobs that hold slots.
        total_slots: the slots of the machine.
    """
    holding = list(running)
    free = total_slots - sum(job.slots for job in holding)
    start: list[int] = []
    remaining = iter(waiting)
    for job in remaining:
        if job.slots > free:
            later = _backfill(job, islice(remaining, BACKFILL_DEPTH), holding, free)
            return Choice((*start, *later.start), job.job, later.overtakes)
        free -= job.slots
        holding.append(RunningJob(job.slots, job.limit_seconds))
        start.append(job.job)
    return Choice(tuple(start))


def _backfill(
    head: WaitingJob, later: Iterator[WaitingJob], holding: list[RunningJob], free: int
) -> Choice:
    moment, spare = _reservation(holding, free, head.slots)
    allowed = MAX_OVERTAKES - head.overtaken
    start: list[int] = []
    overtakes = 0
    while free > 0 and (moment is not None or overtakes < allowed):
        job = next(later, None)
        if job is None:
            break
        if job.slots > free:
            continue
        if moment is None:
            overtakes += 1
        elif job.limit_seconds is None or job.limit_seconds > moment:
            if job.slots > spare:
                continue
            spare -= job.slots
        start.append(job.job)
        free -= job.slots
    return Choice(tuple(start), head.job, overtakes)


def _reservation(holding: Iterable[RunningJob], free: int, needed: int) -> tuple[float | None, int]:
    """Return the seconds until the head can start at the latest, and the slots free beside it."""
    ends = ((math.inf if job.seconds_left is None else job.seconds_left, job) for job in holding)
    for seconds, job in sorted(ends, key=lambda end: end[0]):
        if seconds == math.inf:
            break
        free += job.slots
        if free >= needed:
            return seconds, free - needed
    return None, 0


def plan(
    waiting: Iterable[WaitingJob], running: Iterable[RunningJob], total_slots: int
) -> dict[int, float]:
    """Return the seconds until each waiting job starts, if every job runs to its time limit.

    A job that has to wait for one without a limit is left out, and so are those behind the first
    `PLANNED_JOBS`.

    Args:
        waiting: the jobs that could start, earliest first.
        running: the jobs that hold slots.
        total_slots: the slots of the machine.
    """
    queue = list(islice(waiting, PLANNED_JOBS))
    ends = [(job.seconds_left, job.slots) for job in running]
    starts: dict[int, float] = {}
    now = 0.0
    while queue:
        holding = [RunningJob(n, None if end is None else end - now) for end, n in ends]
        chosen = set(choose(queue, holding, total_slots).start)
        for job in queue:
            if job.job in chosen:
                starts[job.job] = now
                limit = job.limit_seconds
                ends.append((None if limit is None else now + limit, job.slots))
        queue = [job for job in queue if job.job not in chosen]
        following = min((end for end, _ in ends if end is not None), default=None)
        if following is None:
            break
        now = following
        ends = [(end, slots) for end, slots in ends if end is None or end > now]
    return starts


class JobQueue:
    """The queued jobs, by number. A job that comes back takes the place it had.

    A job that asks for more slots than the machine has waits outside the queue, so that no other
    job waits for it. The service took it when the machine had more slots; the next start of the
    service looks again.
    """

    def __init__(self, total_slots: int) -> None:
        self._total_slots = total_slots
        self._jobs: dict[int, LocalJob] = {}
        self._numbers: list[int] = []
        self._turns = Turns()

    def add(self, job: LocalJob) -> None:
        """Put a job in its place, or outside if it cannot start with the slots there are.

        A task of an array whose turn has not come yet waits outside, too.
        """
        if job.spec.slots > self._total_slots:
            job.note = (
                f"It asks for {job.spec.slots} slots and the machine has {self._total_slots} "
                "now. It waits until INTERNAL_SCHEDULER_MAX_SLOTS is as large, or until it is "
                "deleted; other jobs go before it."
            )
            job.note_code = ReasonCode.CANNOT_RUN
            return
        if self._turns.take(job):
            self._place(job)

    def slots_of(self, job: LocalJob) -> int:
        """Return the slots that a job holds while it runs: all of them if no other may run."""
        return self._total_slots if job.spec.exclusive else job.spec.slots

    def keep(self, job: LocalJob) -> None:
        """Count a job as started that an earlier service has started."""
        self._turns.keep(job)

    def discard(self, job: LocalJob) -> None:
        """Take a job out, if it is there, or let others know that it runs no longer."""
        if job.number in self._jobs:
            self._pop(job.number)
        following = self._turns.give_back(job)
        if following is not None:
            self._place(following)

    def discard_all(self, jobs: Sequence[LocalJob]) -> None:
        """Take out many jobs, earliest first: from the back, where that moves no others."""
        for job in reversed(jobs):
            self.discard(job)

    def take(self, holding: Iterable[LocalJob]) -> list[LocalJob]:
        """Take out the jobs that start now, given those that hold slots."""
        choice = choose(self._waiting(), self._running(holding), self._total_slots)
        if choice.head is not None:
            self._jobs[choice.head].overtaken += choice.overtakes
        return [self._pop(number) for number in choice.start]

    def plan(self, holding: Iterable[LocalJob]) -> dict[int, float]:
        """Return the seconds until queued jobs start, by number; see `plan`."""
        return plan(self._waiting(), self._running(holding), self._total_slots)

    def _place(self, job: LocalJob) -> None:
        bisect.insort(self._numbers, job.number)
        self._jobs[job.number] = job

    def _pop(self, number: int) -> LocalJob:
        del self._numbers[bisect.bisect_left(self._numbers, number)]
        return self._jobs.pop(number)

    def _waiting(self) -> Iterator[WaitingJob]:
        for job in map(self._jobs.__getitem__, self._numbers):
            limit = job.spec.wall_time_limit_seconds
            yield WaitingJob(job.number, self.slots_of(job), limit, job.overtaken)

    def _running(self, holding: Iterable[LocalJob]) -> Iterator[RunningJob]:
        for job in holding:
            # The limit of a job that was ever suspended does not say when it ends.
            limit = job.spec.wall_time_limit_seconds if job.request is None else None
            spent = 0.0 if job.began is None else time.monotonic() - job.began
            left = None if limit is None else max(0.0, limit - spent)
            yield RunningJob(self.slots_of(job), left)
