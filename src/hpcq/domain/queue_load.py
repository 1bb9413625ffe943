"""The load of queues: slots and jobs, as the known jobs and the scheduler's figures tell it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hpcq.domain.jobs import JobRecord
from hpcq.domain.states import JobState

__all__ = ["LoadPoint", "QueueFigures", "QueueLoad", "queue_loads"]

_RUNNING = frozenset({JobState.RUNNING, JobState.SUSPENDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """A scheduler's own figures of one queue; None for one that it does not tell."""

    name: str
    slots_total: int | None
    slots_used: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLoad:
    """The load of one queue at one moment.

    Attributes:
        slots_total, slots_used: as the scheduler tells them; ``slots_used`` else from the jobs.
        slots_queued: the slots of all jobs that wait, held or not.
    """

    queue: str
    slots_total: int | None
    slots_used: int
    slots_queued: int
    jobs_running: int
    jobs_queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """The mean load of a queue from a moment on, over the samples of one step."""

    at: datetime
    slots_total: float | None
    slots_used: float
    slots_queued: float
    jobs_running: float
    jobs_queued: float


def queue_loads(
    queues: Sequence[QueueFigures], records: Iterable[JobRecord]
) -> Sequence[QueueLoad]:
    """Return the load of each queue.

    A job that the scheduler has not put into a queue yet counts for the one it asked for, or for
    the only one that there is. An array counts by its tasks, those that are known one by one.

    Args:
        queues: all that the scheduler has.
        records: all known jobs.
    """
    alone = queues[0].name if len(queues) == 1 else None
    active = [r for r in records if r.state in _RUNNING or r.state.is_queued]
    arrays_told = {r.seen.array_job_id for r in active if r.seen and r.seen.array_task_id}
    slots: Counter[tuple[str | None, bool]] = Counter()
    jobs: Counter[tuple[str | None, bool]] = Counter()
    for record in active:
        if record.is_array and record.native_id in arrays_told:
            continue
        key = (_queue_of(record) or alone, record.state.is_queued)
        jobs[key] += 1
        slots[key] += _slots_of(record)
    return [
        QueueLoad(
            queue=queue.name,
            slots_total=queue.slots_total,
            slots_used=slots[queue.name, False] if queue.slots_used is None else queue.slots_used,
            slots_queued=slots[queue.name, True],
            jobs_running=jobs[queue.name, False],
            jobs_queued=jobs[queue.name, True],
        )
        for queue in queues
    ]


def _queue_of(record: JobRecord) -> str | None:
    seen = None if record.seen is None else record.seen.queue
    return seen or (None if record.spec is None else record.spec.queue)


def _slots_of(record: JobRecord) -> int:
    asked = None if record.spec is None else record.spec.slots
    return asked or (None if record.seen is None else record.seen.slots) or 1
