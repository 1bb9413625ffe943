"""Which of the waiting jobs start now: first in, first out, with bounded overtaking. Pure.

The first waiting job that does not fit is the *head*. Later jobs may start before it in two
ways, so that slots do not lie idle while it waits:

* **Backfill** (as in the EASY scheduler: Lifka, JSSPP 1995). When the wall time limits of the
  running jobs say when the head can start at the latest, a later job starts now if by its own
  limit it ends before that moment, or needs only slots that the head leaves free then. The head
  is not delayed by it, so this is not bounded.
* **Overtaking.** When that moment is not known, because a running job has no limit, at most
  `MAX_OVERTAKES` jobs start before the head. After that, slots are kept for it.

Every running job that has a limit ends, and the others are overtaken a bounded number of times:
each job starts once the jobs that run now have ended.

Only the next `BACKFILL_DEPTH` jobs are looked at, so that a long queue costs no more than a short
one (as Slurm's ``bf_max_job_test``).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

__all__ = ["BACKFILL_DEPTH", "MAX_OVERTAKES", "Choice", "Running", "Waiting", "choose"]

MAX_OVERTAKES = 16
"""How many jobs may start before one that waits for slots, when nobody knows how long."""

BACKFILL_DEPTH = 500
"""How many jobs behind the head are considered."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that could start.

    Attributes:
        job: its number; a smaller one came earlier.
        slots: how many it needs, at most what the machine has.
        limit_seconds: its wall time limit; None for none.
        overtaken: how many later jobs have already started before it.
    """

    job: int
    slots: int
    limit_seconds: float | None = None
    overtaken: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A job that holds slots.

    Attributes:
        slots: how many.
        seconds_left: until its wall time limit ends it, 0 when that is overdue; None for no limit.
    """

    slots: int
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do now.

    Attributes:
        start: the jobs to start, in this order.
        head: the first job that has to wait for slots; None when all start.
        overtakes: how many of ``start`` overtake the head without a promise that it loses nothing.
    """

    start: tuple[int, ...] = ()
    head: int | None = None
    overtakes: int = 0


def choose(waiting: Iterable[Waiting], running: Iterable[Running], total_slots: int) -> Choice:
    """Return which jobs start now.

    Args:
        waiting: the jobs that could start, earliest first; read only as far as needed.
        running: the jobs that hold slots.
        total_slots: slots of the machine.
    """
    holding = list(running)
    free = total_slots - sum(job.slots for job in holding)
    start: list[int] = []
    remaining = iter(waiting)
    for job in remaining:
        if job.slots > free:
            later = _fill(job, islice(remaining, BACKFILL_DEPTH), holding, free)
            return Choice((*start, *later.start), job.job, later.overtakes)
        free -= job.slots
        holding.append(Running(job.slots, job.limit_seconds))
        start.append(job.job)
    return Choice(tuple(start))


def _fill(head: Waiting, later: Iterator[Waiting], holding: list[Running], free: int) -> Choice:
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


def _reservation(holding: Iterable[Running], free: int, needed: int) -> tuple[float | None, int]:
    """Return in how many seconds the head can start at the latest, and what it leaves free then."""
    for job in sorted(holding, key=lambda job: _or_never(job.seconds_left)):
        if job.seconds_left is None:
            break
        free += job.slots
        if free >= needed:
            return job.seconds_left, free - needed
    return None, 0


def _or_never(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds
