"""Causes of an end that only this service knows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hpcq.domain import job_changes, job_merge, submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState, Stage

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
ID = NativeId("9")
RUNS = Observation(native_id=ID, state=JobState.RUNNING, start_time=T0)


def running(seen: Observation = RUNS, **fields: object) -> JobRecord:
    spec = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh", **fields)  # type: ignore[arg-type]
    intent = submission.intent(JobUid.new(), spec, T0, by="test", is_promised=False)
    return job_merge.observe(submission.submitted(intent, ID, T0), seen, T0)


def killed(seconds: float = 60, signal: int = 9, peak: float | None = None) -> Observation:
    return replace(
        RUNS,
        state=JobState.FAILED,
        failure_kind=FailureKind.SIGNAL,
        exit_signal=signal,
        end_time=T0 + timedelta(seconds=seconds),
        usage=Usage(max_memory_bytes=peak),
    )


@pytest.mark.parametrize(
    ("fields", "end", "kind"),
    [
        ({"wall_time_limit_seconds": 60}, killed(60), FailureKind.TIME_LIMIT),
        ({"wall_time_limit_seconds": 60}, killed(59), FailureKind.SIGNAL),
        ({"wall_time_limit_seconds": 60}, killed(60, signal=11), FailureKind.SIGNAL),
        ({"memory_limit_bytes": 1000}, killed(peak=950), FailureKind.OUT_OF_MEMORY),
        ({"memory_limit_bytes": 1000}, killed(peak=500), FailureKind.SIGNAL),
        ({"memory_limit_bytes": 1000}, killed(), FailureKind.SIGNAL),
        ({}, killed(), FailureKind.SIGNAL),
    ],
)
def test_killed_at_limit_from_record(
    fields: dict[str, Any], end: Observation, kind: FailureKind
) -> None:
    record = job_merge.observe(running(**fields), end, T0)
    assert record.failure_kind is kind


def test_killed_at_script_limit_from_queue() -> None:
    record = running(replace(RUNS, wall_time_limit_seconds=60))
    assert job_merge.observe(record, killed(61), T0).failure_kind is FailureKind.TIME_LIMIT


def test_killed_by_own_signal_in_state_dr() -> None:
    # Grid Engine shows a job whose own process a signal ended so, for a moment after its end.
    record = running(replace(RUNS, native_state="dr", stage=Stage.CANCELLING))
    lost = job_changes.vanished(record, "It left the queue.", last_seen=T0, at=T0)
    assert job_merge.observe(lost, killed(), T0).failure_kind is FailureKind.SIGNAL


def test_exit_status_of_job_being_cancelled() -> None:
    record = running(replace(RUNS, stage=Stage.CANCELLING))
    end = replace(killed(), failure_kind=FailureKind.NON_ZERO_EXIT, exit_code=3, exit_signal=None)
    assert job_merge.observe(record, end, T0).failure_kind is FailureKind.NON_ZERO_EXIT
