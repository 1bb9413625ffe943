"""Efficiency of jobs that have ended."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hpcq.domain import job_merge, submission
from hpcq.domain.efficiency import Efficiency, efficiency_of
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
ENDED = Observation(
    native_id=NativeId("9"),
    state=JobState.DONE,
    start_time=T0,
    end_time=T0 + timedelta(seconds=100),
    slots=8,
    memory_limit_bytes=4000,
    usage=Usage(cpu_seconds=632.0, max_memory_bytes=1000.0),
)


def foreign(**fields: object) -> JobRecord:
    return job_merge.foreign_record("1", replace(ENDED, **fields), T0)  # type: ignore[arg-type]


def test_efficiency_used_over_reserved() -> None:
    assert efficiency_of(foreign()) == Efficiency(cpu=0.79, memory=0.25)


def test_efficiency_from_requested_slots() -> None:
    spec = JobSpec(name="a", working_directory="/", script_file="/a", slots=16)
    spec = replace(spec, memory_limit_bytes=2000)
    intent = submission.intent(JobUid.new(), spec, T0, by="test", is_promised=False)
    record = job_merge.observe(submission.submitted(intent, NativeId("9"), T0), ENDED, T0)
    assert efficiency_of(record) == Efficiency(cpu=0.395, memory=0.5)


def test_efficiency_above_one() -> None:
    assert efficiency_of(foreign(slots=1)) == Efficiency(cpu=6.32, memory=0.25)


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.QUEUED, JobState.UNDETERMINED])
def test_efficiency_running_job(state: JobState) -> None:
    assert efficiency_of(foreign(state=state)) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"usage": None}, Efficiency()),
        ({"usage": Usage(cpu_seconds=float("inf"))}, Efficiency()),
        ({"memory_limit_bytes": None}, Efficiency(cpu=0.79)),
        ({"slots": None}, Efficiency(memory=0.25)),
        ({"end_time": T0}, Efficiency(memory=0.25)),
        ({"start_time": None}, Efficiency(memory=0.25)),
        (
            {"state": JobState.FAILED, "failure_kind": FailureKind.TIME_LIMIT},
            Efficiency(0.79, 0.25),
        ),
        ({"is_array": True}, Efficiency()),
        ({"slots": 10**400, "memory_limit_bytes": 10**400}, Efficiency()),
    ],
)
def test_efficiency_unknown_part(fields: dict[str, object], expected: Efficiency) -> None:
    assert efficiency_of(foreign(**fields)) == expected
