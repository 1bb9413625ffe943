"""Jobs that ended before they were started, whatever exit status is noted of them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from hpcq.domain import job_changes, job_merge, submission
from hpcq.domain.jobs import (
    Dependency,
    DependencyCondition,
    JobRecord,
    JobSpec,
    JobUid,
    NativeId,
    Observation,
)
from hpcq.domain.states import FailureKind, JobState

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")


def _ours() -> JobRecord:
    intent = submission.intent(JobUid.new(), SPEC, T0, by="test", is_promised=False)
    return submission.submitted(intent, NativeId("1"), T0)


def _end(**fields: Any) -> Observation:
    return Observation(
        native_id=NativeId("1"), state=JobState.FAILED, owner="ana", submit_time=T0, **fields
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        # Slurm's record of a submission that it refused: FAILED, BadConstraints, 1:0.
        ({"failure_kind": FailureKind.NON_ZERO_EXIT, "exit_code": 1}, "SCHEDULER_ERROR"),
        ({"failure_kind": FailureKind.SIGNAL, "exit_signal": 1}, "CANCELLED"),
        ({"failure_kind": FailureKind.CANCELLED, "exit_code": 0}, "CANCELLED"),
        ({"failure_kind": FailureKind.TIME_LIMIT, "exit_signal": 15}, "TIME_LIMIT"),
    ],
)
@pytest.mark.parametrize("is_ours", [True, False])
def test_exit_status_job_never_started(said: dict[str, Any], kind: str, is_ours: bool) -> None:
    seen = _end(end_time=T0, **said)
    record = (
        job_merge.observe(_ours(), seen, T0) if is_ours else job_merge.foreign_record("1", seen, T0)
    )
    assert record.seen is not None
    assert record.failure_kind == kind
    assert (record.seen.exit_code, record.seen.exit_signal) == (None, None)


def test_reason_dependency_impossible() -> None:
    waits = _ours()
    first = Dependency(
        native_id=NativeId("7"), uid=JobUid.new(), condition=DependencyCondition.SUCCESS
    )
    waits = waits.changed(spec=replace(SPEC, depends_on=(first,)))
    # What Slurm's accounting tells of it.
    seen = _end(failure_kind=FailureKind.CANCELLED, state_reason="It was cancelled.", end_time=T0)
    assert "a job that it depends on" in (job_merge.observe(waits, seen, T0).state_reason or "")
    deleted = job_changes.cancel_requested(waits, T0)
    assert job_merge.observe(deleted, seen, T0).state_reason == "It was cancelled."


@pytest.mark.parametrize("proof", [{"start_time": T0}, {"hosts": ("node1",)}])
def test_exit_status_job_with_host(proof: dict[str, Any]) -> None:
    seen = _end(failure_kind=FailureKind.NON_ZERO_EXIT, exit_code=3, **proof)
    record = job_merge.observe(_ours(), seen, T0)
    assert record.seen is not None
    assert (record.seen.exit_code, record.failure_kind) == (3, "NON_ZERO_EXIT")


def test_exit_status_job_seen_running() -> None:
    runs = Observation(native_id=NativeId("1"), state=JobState.RUNNING, owner="ana")
    seen = _end(failure_kind=FailureKind.NON_ZERO_EXIT, exit_code=3)
    record = job_merge.observe(job_merge.observe(_ours(), runs, T0), seen, T0)
    assert record.seen is not None
    assert record.seen.exit_code == 3
