"""Explanations of jobs that wait or failed."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hpcq.domain import job_changes, job_merge, submission
from hpcq.domain.actions import Action
from hpcq.domain.explanation import explain, reason_code
from hpcq.domain.jobs import (
    Dependency,
    DependencyCondition,
    JobRecord,
    JobSpec,
    JobUid,
    NativeId,
    Observation,
)
from hpcq.domain.states import FailureKind, JobState, ReasonCode

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
ID = NativeId("9")
WAITS = Observation(
    native_id=ID,
    state=JobState.QUEUED,
    queue="batch",
    slots=16,
    state_reason="The scheduler's sentence.",
    reason_code=ReasonCode.WAITING_FOR_RESOURCES,
)
SPEC = JobSpec(name="a", working_directory="/", script_file="/a", slots=16)


def seen(**fields: object) -> JobRecord:
    return job_merge.foreign_record("1", replace(WAITS, **fields), T0)  # type: ignore[arg-type]


def ours(observation: Observation, **fields: object) -> JobRecord:
    spec = replace(SPEC, **fields)  # type: ignore[arg-type]
    intent = submission.intent(JobUid.new(), spec, T0, by="test", is_promised=False)
    return job_merge.observe(submission.submitted(intent, ID, T0), observation, T0)


def failed(kind: FailureKind, **fields: object) -> Observation:
    end = replace(WAITS, state=JobState.FAILED, failure_kind=kind, reason_code=None)
    return replace(end, start_time=T0, end_time=T0, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "It waits until what it asks for is free: 16 slots in the queue 'batch'."),
        ({"slots": 1}, "It waits until what it asks for is free: 1 slot in the queue 'batch'."),
        (
            {"slots": None, "queue": None},
            "It waits until what it asks for is free: its resources.",
        ),
        (
            {"reason_code": ReasonCode.WAITING_FOR_DEPENDENCY, "depends_on": ("7", "8")},
            "It waits for other jobs: 7, 8.",
        ),
        (
            {"reason_code": ReasonCode.QUEUE_CLOSED},
            "It waits because no jobs are started in the queue 'batch'.",
        ),
        (
            {"reason_code": ReasonCode.HELD_BY_USER, "state": JobState.QUEUED_HELD},
            "It is held by a user until it is released.",
        ),
        (
            {"reason_code": None, "state": JobState.REQUEUED},
            "It ran before, and waits to be run again in the queue 'batch'.",
        ),
        # The scheduler's own package knows more than a sentence for all would say.
        ({"reason_code": None}, "The scheduler's sentence."),
        ({"reason_code": ReasonCode.HELD_BY_SYSTEM}, "The scheduler's sentence."),
        (
            {"queue": "{slots}"},
            "It waits until what it asks for is free: 16 slots in the queue '{slots}'.",
        ),
    ],
)
def test_explanation_waiting_job(fields: dict[str, object], sentence: str) -> None:
    assert explain(seen(**fields)) == sentence


def test_explanation_requested_dependencies() -> None:
    waits = replace(WAITS, reason_code=ReasonCode.WAITING_FOR_DEPENDENCY)
    condition = DependencyCondition.ANY
    first = Dependency(native_id=NativeId("7"), uid=JobUid.new(), condition=condition)
    assert explain(ours(waits, depends_on=(first,))) == "It waits for other jobs: 7."


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (failed(FailureKind.NON_ZERO_EXIT, exit_code=3), "It ended with exit code 3."),
        (failed(FailureKind.SIGNAL, exit_signal=9), "It was ended by signal 9."),
        (
            failed(FailureKind.OUT_OF_MEMORY, memory_limit_bytes=4 << 30),
            "It ran out of its memory limit of 4 GB.",
        ),
        (failed(FailureKind.OUT_OF_MEMORY), "The scheduler's sentence."),
        (failed(FailureKind.NODE_FAILURE), "The scheduler's sentence."),
        (failed(FailureKind.CANCELLED), "The scheduler's sentence."),
    ],
)
def test_explanation_failed_job(end: Observation, sentence: str) -> None:
    record = job_merge.foreign_record("1", end, T0)
    assert explain(record) == sentence
    assert reason_code(record) is end.failure_kind


def test_explanation_cancelled_job_by_whom() -> None:
    asked = job_changes.cancel_requested(ours(WAITS), T0, by="ana")
    record = job_merge.observe(asked, failed(FailureKind.CANCELLED), T0)
    assert explain(record) == "It was cancelled by ana."


def test_explanation_dependency_not_met() -> None:
    code = ReasonCode.DEPENDENCY_NEVER_SATISFIED
    end = replace(failed(FailureKind.CANCELLED), start_time=None, reason_code=code)
    record = job_merge.foreign_record("1", end, T0)
    assert reason_code(record) is code
    assert (explain(record) or "").startswith("It never started: a job that it depends on")


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.DONE])
def test_explanation_no_code(state: JobState) -> None:
    record = seen(state=state, reason_code=None, state_reason=None)
    assert (reason_code(record), explain(record)) == (None, None)


def test_explanation_held_before_scheduler_reports() -> None:
    waits = ours(WAITS)
    held = job_changes.acted_on(waits, Action.HOLD, T0)
    assert reason_code(held) is ReasonCode.HELD_BY_USER
    said = replace(WAITS, state=JobState.QUEUED_HELD, reason_code=ReasonCode.HELD_BY_USER)
    observed = job_merge.observe(waits, said, T0)
    released = job_changes.acted_on(observed, Action.RELEASE, T0)
    assert reason_code(released) is None


def test_explanation_estimate_while_waiting() -> None:
    waits = ours(replace(WAITS, start_estimate=T0))
    assert waits.seen is not None
    assert waits.seen.start_estimate == T0
    ran = job_merge.observe(waits, replace(WAITS, state=JobState.RUNNING, start_time=T0), T0)
    assert ran.seen is not None
    assert ran.seen.start_estimate is None
