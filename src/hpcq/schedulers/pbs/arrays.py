"""Arrays and their tasks: what the records of one say of the other; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hpcq.domain.arrays import summarize_array
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.pbs.qstat_job import Record
from hpcq.schedulers.pbs_family.values import parse_job_id

__all__ = ["as_task", "whole_of", "with_tasks"]


def as_task(native_id: NativeId, ended: Mapping[NativeId, Observation]) -> Observation | None:
    """Return how a task ended that PBS has no record of, although its array is over.

    Args:
        native_id: the task: ``9[2]``.
        ended: arrays that are over, by their ids.
    """
    job = parse_job_id(native_id)
    array = ended.get(NativeId(job.number))
    if not job.task or array is None:
        return None
    is_deleted = array.failure_kind is FailureKind.CANCELLED and array.start_time is None
    return Observation(
        native_id=native_id,
        state=JobState.FAILED,
        native_state=array.native_state,
        state_reason=array.state_reason if is_deleted else "Its array ended before it began.",
        reason_code=array.reason_code if is_deleted else None,
        failure_kind=FailureKind.CANCELLED,
        name=array.name,
        owner=array.owner,
        queue=array.queue,
        submit_time=array.submit_time,
        end_time=array.end_time,
        array_job_id=job.array_job_id,
        array_task_id=job.array_task_id,
    )


def with_tasks(records: Iterable[Record]) -> list[Record]:
    """Return the jobs of an answer, whole arrays with the hosts and the usage of their tasks.

    PBS holds a whole array, and calls the tasks that wait in it queued (recording
    qstat-t.array-held).
    """
    records = list(records)
    arrays = [record.observation for record in records if record.is_array]
    held = {str(array.native_id): array for array in arrays if array.state.is_held}
    records = [_held_with(held, record) for record in records]
    tasks: dict[str, list[Observation]] = {}
    for record in records:
        if record.observation.array_job_id is not None:
            tasks.setdefault(record.observation.array_job_id, []).append(record.complete)
    return [
        _with(record, tasks.get(record.observation.native_id, ())) if record.is_array else record
        for record in records
    ]


def _held_with(held: Mapping[str, Observation], record: Record) -> Record:
    seen = record.observation
    array = held.get(seen.array_job_id or "")
    if array is None or seen.state is not JobState.QUEUED:
        return record
    waits = replace(
        seen,
        state=array.state,
        state_reason=array.state_reason,
        reason_code=array.reason_code,
    )
    return replace(record, observation=waits)


def _with(array: Record, tasks: Sequence[Observation]) -> Record:
    if not tasks:
        return array
    seen = array.observation
    together = summarize_array(seen.native_id, tasks)
    return replace(array, observation=replace(seen, hosts=together.hosts), usage=together.usage)


def whole_of(array: Observation, tasks: Sequence[Observation]) -> Observation:
    """Return how an array ended, by its own record and those of its tasks.

    Args:
        array: has ended.
        tasks: those that have ended; none where nothing is known of them.
    """
    ended = [task for task in tasks if task.state.is_final]
    if not ended:
        return array
    of_tasks = summarize_array(array.native_id, ended)
    # A task that is not among them may be the one that failed.
    if array.state is JobState.FAILED and of_tasks.state is not JobState.FAILED:
        return replace(array, usage=of_tasks.usage)
    return replace(
        array,
        state=of_tasks.state,
        state_reason=of_tasks.state_reason,
        failure_kind=of_tasks.failure_kind,
        exit_code=of_tasks.exit_code,
        exit_signal=of_tasks.exit_signal,
        hosts=of_tasks.hosts,
        usage=of_tasks.usage,
    )
