"""Tasks of an array, ended together: by one command where the scheduler has one."""

import contextlib
from collections.abc import Collection, Mapping

from hpcq.domain.errors import JobNotFound
from hpcq.domain.jobs import NativeId
from hpcq.schedulers.base import CancelsTasks, SchedulerBackend

__all__ = ["cancel_tasks"]


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
