"""The load of queues, from jobs and the scheduler's figures."""

from dataclasses import replace
from datetime import UTC, datetime

from hpcq.domain import job_merge
from hpcq.domain.jobs import JobRecord, NativeId, Observation
from hpcq.domain.queue_load import QueueFigures, QueueLoad, queue_loads
from hpcq.domain.states import JobState

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
BATCH = QueueFigures(name="batch", slots_total=64, slots_used=40)
LONG = QueueFigures(name="long", slots_total=None, slots_used=None)


def job(number: int, state: JobState, queue: str | None = "batch", **fields: object) -> JobRecord:
    seen = Observation(native_id=NativeId(str(number)), state=state, queue=queue, slots=4)
    return job_merge.foreign_record("1", replace(seen, **fields), T0)  # type: ignore[arg-type]


def test_load_by_queue() -> None:
    records = [
        job(1, JobState.RUNNING, "long"),
        job(2, JobState.SUSPENDED, "long", slots=None),
        job(3, JobState.QUEUED, "long"),
        job(4, JobState.QUEUED_HELD, "batch"),
        job(5, JobState.REQUEUED, "batch", slots=16),
        job(6, JobState.DONE, "batch"),
        job(7, JobState.UNDETERMINED, "batch"),
        job(8, JobState.QUEUED, "elsewhere"),
        job(9, JobState.QUEUED, None),
    ]
    assert queue_loads([BATCH, LONG], records) == [
        QueueLoad(
            queue="batch",
            slots_total=64,
            slots_used=40,
            slots_queued=20,
            jobs_running=0,
            jobs_queued=2,
        ),
        QueueLoad(
            queue="long",
            slots_total=None,
            slots_used=5,
            slots_queued=4,
            jobs_running=2,
            jobs_queued=1,
        ),
    ]


def test_load_only_queue_with_unassigned_jobs() -> None:
    (load,) = queue_loads([BATCH], [job(1, JobState.QUEUED, None)])
    assert (load.slots_queued, load.jobs_queued) == (4, 1)


def test_load_array_tasks() -> None:
    array = job(9, JobState.RUNNING, is_array=True)
    ids = ((NativeId("9[1]"), JobState.RUNNING), (NativeId("9[2]"), JobState.QUEUED))
    tasks = [
        job(9, state, native_id=native_id, array_job_id="9", array_task_id=number)
        for number, (native_id, state) in enumerate(ids, 1)
    ]
    (load,) = queue_loads([BATCH], [array, *tasks])
    assert (load.jobs_running, load.jobs_queued, load.slots_queued) == (1, 1, 4)
    (alone,) = queue_loads([BATCH], [array])
    assert (alone.jobs_running, alone.jobs_queued) == (1, 0)
