"""Ends by the accounting logs and by traces: what was recorded, and what else Torque may write."""

import re

import pytest
from tests.unit.schedulers.torque.recorded import recorded

from hpcq.domain.jobs import Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.pbs_family.values import parse_job_id
from hpcq.schedulers.torque.accounting import arrays_not_over, observe_lines, parse_tracejob

LINES = recorded("accounting.20261122").stdout.splitlines()
CANCELLED = FailureKind.CANCELLED


def _lines(job_id: str, *kinds: str) -> list[bytes]:
    """The recorded lines of a job, or those of the given kinds among them."""
    ours = [line for line in LINES if f";{job_id}.vm;".encode() in line]
    assert ours
    return [line for line in ours if not kinds or line.split(b";")[1].decode() in kinds]


def _end(lines: list[bytes]) -> Observation:
    observations, unreadable = observe_lines(lines)
    assert unreadable == []
    (seen,) = observations
    return seen


def test_deleted_while_running_exit_status_0() -> None:
    seen = _end(_lines("54"))
    assert (seen.state, seen.failure_kind, seen.exit_code) == (JobState.FAILED, CANCELLED, 0)
    assert seen.state_reason == "It was deleted by root@vm while it ran."
    assert seen.start_time is not None


def test_deleted_while_running_exit_status_271() -> None:
    seen = _end(_lines("886"))
    assert (seen.failure_kind, seen.exit_code, seen.exit_signal) == (CANCELLED, None, 15)
    assert seen.state_reason == "It was deleted by alice@vm while it ran."


def test_deleted_while_queued_by_administrator() -> None:
    lines = [line.replace(b"alice@vm", b"root@vm") for line in _lines("887")]
    seen = _end(lines)
    assert (seen.failure_kind, seen.exit_code, seen.exit_signal) == (CANCELLED, None, None)
    assert (seen.start_time, seen.usage) == (None, None)
    assert seen.state_reason == "It was deleted by root@vm before it started."


def test_deleted_at_time_limit() -> None:
    lines = [re.sub(rb"Exit_status=0 ", b"Exit_status=-11 ", line) for line in _lines("54")]
    assert _end(lines).failure_kind is FailureKind.TIME_LIMIT


def test_abort_unmet_dependency() -> None:
    seen = _end(_lines("843"))
    assert (seen.state, seen.failure_kind) == (JobState.FAILED, CANCELLED)
    assert (seen.start_time, seen.exit_code, seen.exit_signal) == (None, None, None)
    assert seen.state_reason is not None
    assert "deleted" not in seen.state_reason
    assert "depends on" in seen.state_reason


def test_abort_of_running_job() -> None:
    seen = _end(_lines("6124", "Q", "S", "A"))
    assert seen.failure_kind is FailureKind.SCHEDULER_ERROR
    assert seen.state_reason == "Torque aborted it while it ran."
    assert (seen.owner, seen.slots, seen.hosts) == ("alice", 3, ("vm",))
    assert seen.start_time is not None
    assert seen.usage is not None


def test_abort_after_deletion() -> None:
    seen = _end(_lines("6124"))
    assert (seen.failure_kind, seen.state_reason) == (
        CANCELLED,
        "It was deleted by root@vm while it ran.",
    )


def test_abort_before_restart() -> None:
    queued, started, ended = _lines("850")
    aborted = b"11/22/2026 22:27:13;A;850.vm;"
    assert _end([queued, aborted, started, ended]).exit_code == 3
    assert observe_lines([queued, started, aborted, started]) == ([], [])


def test_rerun_one_job() -> None:
    seen = _end(_lines("888"))
    assert (seen.state, seen.exit_code) == (JobState.DONE, 0)
    assert observe_lines(_lines("888", "Q", "S", "R")) == ([], [])


@pytest.mark.parametrize("garbage", [b"", b"?", b"-1:-2", b"1e999", b"9" * 40, b"\xff", b"None"])
def test_end_record_unreadable_figure(garbage: bytes) -> None:
    line = _lines("886", "E")[0]
    names = re.findall(rb" ([A-Za-z_.]+)=", line)
    assert len(names) > 15
    for name in names:
        if name != b"Exit_status":
            spoilt = re.sub(rb" %s=\S*" % re.escape(name), b" %s=%s" % (name, garbage), line)
            seen = _end([spoilt])
            assert (seen.native_id, seen.exit_signal) == ("886", 15), name


def test_array_not_over_until_all_jobs_ended() -> None:
    ended = [line for line in LINES if b";45[" in line]
    assert arrays_not_over(ended) == set()
    still = [line for line in ended if b";E;45[2]" not in line]
    assert arrays_not_over(still) == {"45"}
    assert arrays_not_over(_lines("850")) == set()


def test_array_deleted_with_waiting_jobs() -> None:
    lines = [line for line in LINES if b";46[" in line]
    assert arrays_not_over(lines) == {"46"}
    assert {seen.native_id for seen in observe_lines(lines)[0]} == {"46[0]", "46[1]"}
    observations, unreadable = observe_lines(lines, gone={"46"})
    assert unreadable == []
    assert len(observations) == 10
    assert {(seen.failure_kind, seen.start_time is None) for seen in observations} == {
        (CANCELLED, False),
        (CANCELLED, True),
    }


TRACE = b"""
Job: 7.srv

11/22/2026 22:30:20.635 S    enqueuing into batch, state 1 hop 1
%s
11/22/2026 22:30:22.369 S    Exit_status=3 resources_used.cput=0
11/22/2026 22:30:23.000 S    dequeuing from batch, state COMPLETE
"""


@pytest.mark.parametrize(
    "line",
    [
        b"11/22/2026 22:30:21.000 S    Not sending email:\n" + b" " * 26 + b"User wants none",
        b"11/22/2026 22:30:21.000 S    Not sending email:\n" + b" " * 26,
        b"11/22/2026 22:30:21.000 S    Not sending email:\n" + b" " * 26 + b"\n" + b" " * 30,
        b"11/22/2026 22:30:21.000 S    Not sending email:\r\n" + b"\t" * 26 + b"\r",
    ],
    ids=["text", "blank", "two blank", "tabs"],
)
def test_tracejob_continuation_line(line: bytes) -> None:
    seen = parse_tracejob(TRACE % line, parse_job_id("7"))
    assert seen is not None
    assert seen.exit_code == 3


def test_tracejob_deleted_while_running() -> None:
    seen = parse_tracejob(recorded("tracejob.complete-deleted").stdout, parse_job_id("886"))
    assert seen is not None
    assert (seen.failure_kind, seen.state_reason) == (CANCELLED, "It was deleted while it ran.")
