import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hpcq.domain import job_changes, job_merge, submission
from hpcq.domain.contradictions import Contradiction
from hpcq.domain.events import EventDraft, EventKind, contradiction_event, diff, usage_event
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState, Stage

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
ID = NativeId("155")
UID = JobUid("3d6f7a52-0c0b-4b7e-9b57-6d1f3b9a7c11")
SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


INTENT = submission.intent(UID, SPEC, T0, by="test", is_promised=False)
TAKEN = submission.submitted(INTENT, ID, after(1))
RUNNING = job_merge.observe(
    TAKEN,
    Observation(native_id=ID, state=JobState.RUNNING, native_state="r", start_time=after(4)),
    after(5),
)
ENDED = job_merge.observe(
    RUNNING,
    Observation(
        native_id=ID,
        state=JobState.FAILED,
        failure_kind=FailureKind.NON_ZERO_EXIT,
        exit_code=3,
        end_time=after(9),
    ),
    after(10),
)


def kinds(old: JobRecord | None, new: JobRecord) -> list[EventKind]:
    return [happening.kind for happening in diff(old, new, after(20))]


def test_diff_intent() -> None:
    assert diff(None, INTENT, T0) == ()


def test_diff_job_gets_id() -> None:
    (happening,) = diff(INTENT, TAKEN, after(1))
    assert (happening.uid, happening.kind, happening.at) == (UID, "job.submitted", after(1))
    assert (happening.data["jobId"], happening.data["state"]) == ("155", "QUEUED")


def test_diff_foreign_job_first_seen() -> None:
    seen = Observation(native_id=ID, state=JobState.RUNNING, submit_time=T0, owner="ana")
    record = job_merge.foreign_record("1", seen, T0)
    assert kinds(None, record) == [EventKind.SUBMITTED]


def test_diff_job_ended() -> None:
    (happening,) = diff(RUNNING, ENDED, after(10))
    assert happening.kind is EventKind.STATE
    assert happening.data == {
        "jobId": "155",
        "from": "RUNNING",
        "state": "FAILED",
        "status": "STOPPED",
        "nativeState": None,
        "stateReason": None,
        "reasonCode": "NON_ZERO_EXIT",
        "failureKind": "NON_ZERO_EXIT",
        "exitCode": 3,
        "exitSignal": None,
        "startTime": "2026-01-05T12:00:04.000Z",
        "endTime": "2026-01-05T12:00:09.000Z",
        "lastStatusUpdateTime": "2026-01-05T12:00:09.000Z",
        "submittedBy": None,
        "cancelRequestedBy": None,
    }


def test_diff_submission_refused() -> None:
    failed = submission.failed(INTENT, "unknown queue", after(1))
    (happening,) = diff(INTENT, failed, after(1))
    assert (happening.kind, happening.data["jobId"]) == (EventKind.STATE, None)
    assert happening.data["failureKind"] == "SCHEDULER_ERROR"


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (RUNNING, []),
        (RUNNING.changed(confirmed_at=after(9)), []),
        (RUNNING.changed(stage=Stage.EXITING), [EventKind.STATE]),
        (job_changes.cancel_requested(RUNNING, after(6)), [EventKind.STATE]),
        (RUNNING.changed(removed_at=after(6)), [EventKind.DELETED]),
        (ENDED.changed(removed_at=after(20)), [EventKind.STATE, EventKind.DELETED]),
    ],
)
def test_diff_each_change(new: JobRecord, expected: list[EventKind]) -> None:
    assert kinds(RUNNING, new) == expected


def test_diff_cause_changed_after_end() -> None:
    assert ENDED.seen is not None
    killed = ENDED.changed(seen=replace(ENDED.seen, failure_kind=FailureKind.SIGNAL))
    blamed = job_changes.cancel_requested(killed, after(11))
    (happening,) = diff(killed, blamed, after(11))
    assert (happening.kind, happening.data["failureKind"]) == (EventKind.STATE, "CANCELLED")


def test_diff_job_removed_once() -> None:
    removed = ENDED.changed(removed_at=after(20))
    assert kinds(removed, removed) == []


CONTRADICTION = Contradiction(
    uid=UID,
    native_id=ID,
    held=JobState.DONE,
    said=JobState.RUNNING,
    native_state="R",
    reason="It had ended.",
)


@pytest.mark.parametrize(
    "happening",
    [
        *diff(INTENT, TAKEN, after(1)),
        *diff(RUNNING, ENDED, after(10)),
        usage_event(RUNNING, Usage(cpu_seconds=1.5, memory_bytes=2**30, sampled_at=T0), after(6)),
        contradiction_event(CONTRADICTION, after(11)),
    ],
)
def test_event_data_plain_json(happening: EventDraft) -> None:
    assert json.loads(json.dumps(happening.data)) == happening.data
    assert all(type(value) in (str, int, float, type(None)) for value in happening.data.values())


def test_sample_event_wire_fields() -> None:
    usage = Usage(cpu_seconds=1.5, memory_bytes=2**30, sampled_at=T0)
    data = usage_event(RUNNING, usage, after(6)).data
    assert (data["cpuSeconds"], data["instantTotalMemory"]) == (1.5, 1.0)
    assert (data["timeInstant"], data["processIO"]) == ("2026-01-05T12:00:00.000Z", None)


def test_contradiction_event_both_states() -> None:
    happening = contradiction_event(CONTRADICTION, after(11))
    assert (happening.uid, happening.kind) == (UID, EventKind.CONTRADICTION)
    assert happening.data == {
        "jobId": "155",
        "state": "DONE",
        "said": "RUNNING",
        "nativeState": "R",
        "reason": "It had ended.",
    }
