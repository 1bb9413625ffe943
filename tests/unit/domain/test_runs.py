"""The run of a job that an end belongs to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hpcq.domain import job_merge, runs, submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation
from hpcq.domain.states import JobState

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")
ID = NativeId("9")


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def taken() -> JobRecord:
    intent = submission.intent(JobUid.new(), SPEC, T0, by="test", is_promised=False)
    return submission.submitted(intent, ID, after(1))


def array(state: JobState, **fields: object) -> Observation:
    return Observation(native_id=ID, state=state, array_job_id="9", **fields)  # type: ignore[arg-type]


def ended(start: float, end: float) -> Observation:
    return array(JobState.DONE, start_time=after(start), end_time=after(end), exit_code=0)


def test_array_tasks_in_turn_ends() -> None:
    record = job_merge.observe(taken(), array(JobState.RUNNING, start_time=after(4)), after(5))
    record = job_merge.observe(record, array(JobState.RUNNING, start_time=after(20)), after(21))
    assert record.seen is not None
    assert (record.seen.start_time, record.earlier_start) == (after(4), None)
    assert not runs.is_of_earlier_run(record, ended(4, 30))
    assert job_merge.observe(record, ended(4, 30), after(31)).state is JobState.DONE


def test_array_between_tasks() -> None:
    record = job_merge.observe(taken(), array(JobState.RUNNING, start_time=after(4)), after(5))
    record = job_merge.observe(record, array(JobState.QUEUED, submit_time=after(1)), after(19))
    assert record.state is JobState.RUNNING
    assert job_merge.observe(record, ended(4, 30), after(31)).state is JobState.DONE


@pytest.mark.parametrize("submitted", [None, after(-4), after(3)])
def test_job_rescheduled_within_seconds(submitted: datetime | None) -> None:
    seen = Observation(native_id=ID, state=JobState.RUNNING, start_time=after(4))
    record = job_merge.observe(taken(), seen, after(5))
    # Its host's clock says that it began a little earlier than the queue does.
    record = job_merge.observe(record, replace(seen, start_time=after(7)), after(8))
    over = replace(
        seen,
        state=JobState.DONE,
        submit_time=submitted,
        start_time=after(5),
        end_time=after(15),
        exit_code=0,
    )
    assert not runs.is_of_earlier_run(record, over)
    assert job_merge.observe(record, over, after(16)).state is JobState.DONE


def test_end_before_known_start_of_earlier_run() -> None:
    seen = Observation(native_id=ID, state=JobState.RUNNING, start_time=after(4))
    record = job_merge.observe(taken(), seen, after(5))
    record = job_merge.observe(record, replace(seen, start_time=after(20)), after(21))
    over = replace(seen, state=JobState.DONE, start_time=after(4), end_time=after(19), exit_code=0)
    assert runs.is_of_earlier_run(record, over)
    assert job_merge.observe(record, over, after(22)) is record


def test_job_cancelled_in_second_of_requeue() -> None:
    run = Observation(native_id=ID, state=JobState.RUNNING, start_time=after(4))
    record = job_merge.observe(taken(), run, after(4.4))
    waiting = Observation(native_id=ID, state=JobState.REQUEUED, submit_time=after(4))
    record = job_merge.observe(record, waiting, after(4.6))
    over = Observation(native_id=ID, state=JobState.FAILED, submit_time=after(4), end_time=after(4))
    assert runs.newest(record, [over]) == over
