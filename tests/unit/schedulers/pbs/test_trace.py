"""The end of a job from ``tracejob``, for accounts that may not read the accounting."""

from datetime import UTC, datetime

import pytest
from tests.unit.schedulers.pbs.recorded import recorded

from hpcq.domain.jobs import NativeId
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.pbs.tracejob import parse_tracejob

_DONE = (JobState.DONE, None, 0, None)
_CANCELLED = (JobState.FAILED, FailureKind.CANCELLED, None, None)
_HOPELESS = _CANCELLED


@pytest.mark.parametrize(
    ("case", "job", "end"),
    [
        ("as-ordinary-user", "36", _DONE),
        ("finished-ok", "141", _DONE),
        ("finished-exit3", "142", (JobState.FAILED, FailureKind.NON_ZERO_EXIT, 3, None)),
        ("finished-exit255", "144", (JobState.FAILED, FailureKind.NON_ZERO_EXIT, 255, None)),
        ("finished-signal9", "143", (JobState.FAILED, FailureKind.SIGNAL, None, 9)),
        ("finished-walltime-killed", "145", (JobState.FAILED, FailureKind.TIME_LIMIT, None, None)),
        ("finished-deleted-running", "146", (JobState.FAILED, FailureKind.CANCELLED, None, 15)),
        ("finished-deleted-queued", "148", _CANCELLED),
        ("finished-deleted-held", "149", _CANCELLED),
        ("dep-afterok-of-failed", "161", _HOPELESS),
        ("afterok-unknown", "159", _HOPELESS),
        ("afterok-finished-failed", "157", _HOPELESS),
        ("dep-afterany-of-failed", "162", _DONE),
        ("subjob", "5283[2]", (JobState.FAILED, FailureKind.NON_ZERO_EXIT, 7, None)),
    ],
)
def test_tracejob_ends(
    case: str, job: str, end: tuple[JobState, FailureKind | None, int | None, int | None]
) -> None:
    seen = parse_tracejob(recorded(f"tracejob.{case}").stdout, NativeId(job))
    assert seen is not None
    assert (seen.state, seen.failure_kind, seen.exit_code, seen.exit_signal) == end


def test_tracejob_usage_times_and_names() -> None:
    seen = parse_tracejob(recorded("tracejob.as-ordinary-user").stdout, NativeId("36"))
    assert seen is not None
    assert (seen.owner, seen.name, seen.queue) == ("alice", "runjob", "workq")
    assert seen.usage is not None
    assert (seen.usage.cpu_seconds, seen.usage.max_memory_bytes) == (0, 4312 * 1024)
    moments = [datetime(2026, 11, 22, 21, 57, 10), datetime(2026, 11, 22, 22, 2, 11)]
    assert [seen.start_time, seen.end_time] == [moment.astimezone(UTC) for moment in moments]


@pytest.mark.parametrize(("case", "job"), [("running", "146"), ("array", "5283")])
def test_tracejob_without_end(case: str, job: str) -> None:
    assert parse_tracejob(recorded(f"tracejob.{case}").stdout, NativeId(job)) is None


def test_tracejob_other_job() -> None:
    assert parse_tracejob(recorded("tracejob.finished-ok").stdout, NativeId("14")) is None
    assert parse_tracejob(recorded("tracejob.subjob").stdout, NativeId("5283[1]")) is None


def test_tracejob_rerun_job() -> None:
    told = recorded("tracejob.finished-exit3").stdout
    put_back = b"11/22/2026 22:30:00  S    Job Rerun at request of root@pbshead\n"
    assert parse_tracejob(told + put_back, NativeId("142")) is None
