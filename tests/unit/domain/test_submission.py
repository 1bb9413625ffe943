import subprocess
import sys
from dataclasses import fields, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
from tests.unit.services.kit import T0

from hpcq.domain import job_changes, submission
from hpcq.domain.jobs import (
    ArrayRange,
    Dependency,
    DependencyCondition,
    Gpus,
    JobRecord,
    JobSpec,
    JobUid,
    MailEvent,
    NativeId,
    Outputs,
)
from hpcq.domain.states import JobState
from hpcq.domain.submission import IdempotencyKey

SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")
AFTER_FIRST = Dependency(
    native_id=NativeId("1"),
    uid=JobUid("00000000-0000-4000-8000-000000000002"),
    condition=DependencyCondition.ANY,
)
OTHERS: dict[str, list[Any]] = {
    "name": ["other", "Study", "study "],
    "working_directory": ["/srv/"],
    "script_file": ["/srv/run2.sh"],
    "args": [("a",), ("",), ("a", "b"), ("a b",), ("a,b",), ("\udce9",)],
    "slots": [2, 10],
    "queue": ["all.q", ""],
    "account": ["p1"],
    "priority": [0, 1, -1],
    "wall_time_limit_seconds": [60],
    "memory_limit_bytes": [1 << 30],
    "environment": [{"A": "1"}, {"A": "2"}, {"B": "1"}, {"A": "1", "B": "1"}, {"A": ""}],
    "stdout_path": ["out"],
    "stderr_path": ["out"],
    "hold": [True],
    "depends_on": [(AFTER_FIRST,), (AFTER_FIRST, replace(AFTER_FIRST, native_id=NativeId("2")))],
    "outputs": [Outputs(stdout="/srv/out", stderr=None)],
    "has_queue_time_limit": [True],
    "run_as": ["ana"],
    "is_mailed_here": [True],
    "script": ["true", "false"],
    "nodes": [1, 2],
    "slots_per_node": [1, 2],
    "cpus_per_task": [1, 2],
    "gpus": [Gpus(count=1), Gpus(count=2), Gpus(count=1, type="a100")],
    "exclusive": [True],
    "qos": ["high"],
    "project": ["p1"],
    "reservation": ["r1"],
    "constraints": [("fast",), ("fast", "big")],
    "mail_to": ["ana"],
    "options": [("-x",), ("-x", "-y"), ("-x -y",)],
    "mail_on": [(MailEvent.END,), (MailEvent.END, MailEvent.FAIL)],
    "array": [ArrayRange(first=1, last=2), ArrayRange(first=1, last=2, max_running=1)],
}
UID = JobUid("00000000-0000-4000-8000-000000000001")
LATER = T0 + timedelta(minutes=1)


def fingerprint(**changes: Any) -> str:
    return IdempotencyKey.of("key", replace(SPEC, **changes)).fingerprint


def intended(*, is_promised: bool = True, **changes: Any) -> JobRecord:
    return submission.intent(UID, replace(SPEC, **changes), T0, by="me", is_promised=is_promised)


def test_fingerprint_cases_cover_fields() -> None:
    assert OTHERS.keys() == {f.name for f in fields(JobSpec)}


def test_fingerprint_each_difference() -> None:
    changes = [{name: value} for name, values in OTHERS.items() for value in values]
    found = [fingerprint(**change) for change in ({}, *changes)]
    assert len(set(found)) == len(found)


def test_fingerprint_variable_order() -> None:
    one, other = {"A": "1", "B": "2"}, MappingProxyType({"B": "2", "A": "1"})
    assert fingerprint(environment=one) == fingerprint(environment=other)


def test_fingerprint_defaults() -> None:
    assert fingerprint(environment={}, args=(), hold=False, queue=None) == fingerprint()


def test_fingerprint_key_text() -> None:
    assert IdempotencyKey.of("another", SPEC).fingerprint == fingerprint()


def test_fingerprint_other_process() -> None:
    code = (
        "from hpcq.domain.jobs import JobSpec; from hpcq.domain.submission import IdempotencyKey;"
        "print(IdempotencyKey.of('key', JobSpec(name='study', working_directory='/srv',"
        "script_file='/srv/run.sh', environment={'B': '2', 'A': '1'})).fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == fingerprint(environment={"A": "1", "B": "2"})


@pytest.mark.parametrize(
    ("hold", "state"), [(False, JobState.QUEUED), (True, JobState.QUEUED_HELD)]
)
def test_intent_state(hold: bool, state: JobState) -> None:
    record = intended(hold=hold)
    assert (record.state, record.native_id) == (state, None)
    assert record.hand_over is not None
    assert (record.hand_over.by, record.hand_over.attempts) == ("me", 1)


def test_submitted_no_hand_over() -> None:
    record = submission.submitted(intended(), NativeId("7"), LATER)
    assert (record.native_id, record.hand_over, record.state) == ("7", None, JobState.QUEUED)
    assert submission.submitted(record, NativeId("8"), LATER) == record


def test_submitted_cancel_request_kept() -> None:
    asked = job_changes.cancel_requested(intended(), LATER)
    assert submission.submitted(asked, NativeId("7"), LATER).hand_over is not None


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("now", [True, False])
def test_unclear_submission_promise_kept(before: bool, now: bool) -> None:
    record = submission.mark_unclear(
        intended(is_promised=before), "Why?", LATER, is_promised=now, refusal="No."
    )
    assert record.state is JobState.UNDETERMINED
    assert record.hand_over is not None
    assert record.hand_over.is_promised == (before or now)
    assert (record.hand_over.uncertain_since, record.hand_over.refusal) == (LATER, "No.")


def test_hand_over_repeated() -> None:
    open_ = submission.mark_unclear(intended(), "Why?", LATER, is_promised=True)
    again = submission.handed_over_again(open_, SPEC, LATER, by="another")
    assert again.hand_over is not None
    assert (again.hand_over.attempts, again.hand_over.by) == (2, "another")
    assert (again.hand_over.uncertain_since, again.state) == (None, JobState.QUEUED)


def test_submitted_job_unchanged() -> None:
    taken = submission.submitted(intended(), NativeId("7"), LATER)
    assert submission.failed(taken, "No.", LATER) == taken
    assert submission.mark_unclear(taken, "Why?", LATER, is_promised=True) == taken
    assert submission.handed_over_again(taken, SPEC, LATER, by="me") == taken
    assert submission.promised(taken) == taken
