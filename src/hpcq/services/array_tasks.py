"""Tasks of an array, ended together: by one command where the scheduler has one."""

import contextlib
from collections.abc import Collection, Mapping

from hpcq.domain.errors import JobNotFound
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.schedulers.abilities import CancelsTasks
from hpcq.schedulers.base import SchedulerBackend

__all__ = ["cancel_tasks", "waiting_task"]


async def cancel_tasks(
    backend: SchedulerBackend,
    array: NativeId,
    tasks: Mapping[int, NativeId],
    run_as: str | None = None,
) -> Collection[NativeId]:
    """End some tasks of an array; takes, returns and raises what `CancelsTasks` does."""
    if isinstance(backend, CancelsTasks):
        return await backend.cancel_tasks(array, tasks, run_as)
    never_began: set[NativeId] = set()
    for native_id in tasks.values():
        with contextlib.suppress(JobNotFound):
            if await backend.cancel(native_id, run_as):
                never_began.add(native_id)
    return never_began


def waiting_task(array: NativeId, number: int, native_id: NativeId) -> Observation:
    """Return the sight of a task that waits, for one that no listing tells apart."""
    return Observation(
        native_id=native_id,
        state=JobState.QUEUED,
        array_job_id=array,
        array_task_id=number,
    )
