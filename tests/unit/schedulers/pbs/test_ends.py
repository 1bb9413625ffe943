"""Ends of jobs: each event has one meaning, whichever of PBS's sources tells of it."""

import re

import pytest
from tests.unit.schedulers.pbs.recorded import DELIMITER, as_dsv, read, recorded

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.meanings import Outcome
from hpcq.schedulers.pbs.accounting import parse_accounting
from hpcq.schedulers.pbs.arrays import whole_of
from hpcq.schedulers.pbs.parse import Reader
from hpcq.schedulers.pbs.states import outcome_of, state_of
from hpcq.schedulers.pbs.tracejob import parse_tracejob

_CANCELLED = (JobState.FAILED, FailureKind.CANCELLED)
_ACCOUNTED = recorded("accounting.selected-jobs").stdout.splitlines()


def _ended(text: bytes) -> Observation:
    (record,) = read(text).records
    return record.complete


def _accounted(lines: list[bytes], job: str = "146") -> Observation:
    listing = parse_accounting(lines, [NativeId(job)])
    assert listing.unreadable == []
    (seen,) = listing.observations
    return seen


def _how(end: Observation | Outcome) -> tuple[object, object, object]:
    return end.failure_kind, end.exit_code, end.exit_signal


def test_end_deleted_while_running_exit_status_0() -> None:
    told = recorded("qstat-x-f-json.finished-deleted-running").stdout
    seen = _ended(told.replace(b'"Exit_status":\t271', b'"Exit_status":\t0'))
    assert (seen.state, seen.failure_kind) == _CANCELLED
    assert (seen.exit_code, seen.exit_signal) == (0, None)
    assert seen.state_reason == "It was deleted by alice@pbshead."


def test_end_substate_91_without_comment() -> None:
    told = recorded("qstat-x-f-json.finished-deleted-running").stdout
    told = re.sub(rb'"comment":.*\n\t*', b"", told.replace(b":\t271", b":\t0"))
    assert b"comment" not in told
    seen = _ended(told)
    assert (seen.state, seen.failure_kind) == _CANCELLED


def test_end_accounting_deleted_exit_status_0() -> None:
    lines = [line.replace(b"Exit_status=271", b"Exit_status=0") for line in _ACCOUNTED]
    seen = _accounted(lines)
    assert (seen.state, seen.failure_kind) == _CANCELLED
    assert (seen.exit_code, seen.state_reason) == (0, "It was deleted by alice@pbshead.")


def test_end_accounting_deleted_by_administrator() -> None:
    by_root = [
        line.replace(b"requestor=alice@pbshead", b"requestor=root@pbshead") for line in _ACCOUNTED
    ]
    seen = _accounted(by_root)
    assert (seen.failure_kind, seen.state_reason) == (
        FailureKind.CANCELLED,
        "It was deleted by root@pbshead.",
    )


@pytest.mark.parametrize("time", [b"22220:21", b"25:00:00", b"::::::::"])
def test_end_tracejob_no_time(time: bytes) -> None:
    told = recorded("tracejob.finished-deleted-running").stdout
    changed = re.sub(rb"[0-9]{2}:[0-9]{2}:[0-9]{2}", time, told)
    with pytest.raises(OutputParseError, match="no time"):
        parse_tracejob(changed, NativeId("146"))


def test_end_tracejob_deleted_exit_status_0() -> None:
    told = recorded("tracejob.finished-deleted-running").stdout
    seen = parse_tracejob(told.replace(b"Exit_status=271", b"Exit_status=0"), NativeId("146"))
    assert seen is not None
    assert (seen.state, seen.failure_kind) == _CANCELLED


@pytest.mark.parametrize("job", ["157", "159", "161"])
def test_end_accounting_dependency_failed(job: str) -> None:
    seen = _accounted(_ACCOUNTED, job)
    assert (seen.state, seen.failure_kind) == _CANCELLED
    assert (seen.start_time, seen.exit_code) == (None, None)
    assert seen.state_reason == "It never began: what it depends on did not end as it has to."


@pytest.mark.parametrize("case", ["dep-afterok-of-failed", "afterok-unknown"])
def test_end_history_dependency_failed(case: str) -> None:
    seen = _ended(recorded(f"qstat-x-f-json.{case}").stdout)
    assert (seen.state, seen.failure_kind) == _CANCELLED
    assert (seen.start_time, seen.exit_code) == (None, None)
    assert seen.state_reason == "It never began: what it depends on did not end as it has to."


@pytest.mark.parametrize("case", ["queued", "held"])
def test_end_history_deleted_before_start(case: str) -> None:
    seen = _ended(recorded(f"qstat-x-f-json.finished-deleted-{case}").stdout)
    assert (seen.state, seen.failure_kind) == _CANCELLED
    assert (seen.start_time, seen.exit_code, seen.exit_signal) == (None, None, None)
    traced = recorded(f"tracejob.finished-deleted-{case}").stdout
    told = parse_tracejob(traced, seen.native_id)
    assert told is not None
    assert (told.state, told.failure_kind) == _CANCELLED
    assert (told.start_time, told.exit_code) == (None, None)


def test_end_removed_by_administrator_while_queued() -> None:
    line = b"11/22/2026 22:04:36;D;148.pbshead;requestor=root@pbshead"
    seen = _accounted([line], "148")
    assert (seen.failure_kind, seen.exit_code) == (FailureKind.CANCELLED, None)
    assert seen.state_reason == "It was deleted by root@pbshead before it began."


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (137, (FailureKind.NON_ZERO_EXIT, 137, None)),
        (143, (FailureKind.NON_ZERO_EXIT, 143, None)),
        (254, (FailureKind.NON_ZERO_EXIT, 254, None)),
        (255, (FailureKind.NON_ZERO_EXIT, 255, None)),
        (265, (FailureKind.SIGNAL, None, 9)),
        (271, (FailureKind.SIGNAL, None, 15)),
        (-29, (FailureKind.TIME_LIMIT, None, None)),
        (-28, (FailureKind.TIME_LIMIT, None, None)),
        (-27, (FailureKind.OUT_OF_MEMORY, None, None)),
    ],
)
def test_end_by_status(status: int, how: tuple[object, object, object]) -> None:
    assert _how(outcome_of(status)) == how


def test_end_shell_not_executable() -> None:
    reason = outcome_of(254, began=True).reason
    assert reason is not None
    assert "cannot be executed" in reason


def test_reason_full_sentence() -> None:
    outcomes = [outcome_of(status) for status in (*range(-99, 321), None)]
    outcomes += [
        outcome_of(None, substate="91"),
        outcome_of(None, has_dependency=True),
        outcome_of(0, comment="x and exceeded resource mem"),
        outcome_of(0, comment="x and terminated by alice@pbshead"),
        outcome_of(265, asked={"walltime": "1"}, used={"walltime": "2"}),
    ]
    reasons = [outcome.reason for outcome in outcomes]
    reasons += [state_of(letter).reason for letter in "BEHMQRSTUWZ"]
    for reason in filter(None, [*reasons, state_of("Q", has_run=True).reason]):
        assert (reason[0].isupper(), reason[-1]) == (True, "."), reason


@pytest.mark.parametrize(
    ("status", "asked", "used", "kind"),
    [
        (271, {"walltime": "00:01:00"}, {"walltime": "00:01:03"}, FailureKind.TIME_LIMIT),
        (265, {"walltime": "00:01:00"}, {"walltime": "00:01:03"}, FailureKind.TIME_LIMIT),
        (271, {"walltime": "00:01:00"}, {"walltime": "00:00:59"}, FailureKind.SIGNAL),
        (262, {"walltime": "00:01:00"}, {"walltime": "00:01:03"}, FailureKind.SIGNAL),
        (280, {"cput": "10"}, {"cput": "00:00:00"}, FailureKind.TIME_LIMIT),
        (280, {}, {"cput": "00:00:10"}, FailureKind.SIGNAL),
        (265, {"cput": "600"}, {"cput": "09:55", "walltime": "10:10"}, FailureKind.TIME_LIMIT),
        (265, {"cput": "600"}, {"cput": "05:00", "walltime": "10:10"}, FailureKind.SIGNAL),
        (265, {"cput": "600"}, {"cput": "09:55", "walltime": "09:59"}, FailureKind.SIGNAL),
    ],
)
def test_end_by_signal_at_limit(
    status: int, asked: dict[str, str], used: dict[str, str], kind: FailureKind
) -> None:
    end = outcome_of(status, asked=asked, used=used)
    assert _how(end) == (kind, None, status - 256)


def test_end_by_cpu_time_limit() -> None:
    seen = _ended(recorded("qstat-x-f-json.finished-cput-killed").stdout)
    assert _how(seen) == (FailureKind.TIME_LIMIT, None, 9)


def test_end_of_array_one_task_failed() -> None:
    told = recorded("qstat-x-t-f-json.array-finished").stdout
    told = told.replace(b'"Exit_status":\t1', b'"Exit_status":\t0', 1)
    told = told.replace(b"and terminated by alice@pbshead", b"and finished")
    told = told.replace(b'"Exit_status":\t271', b'"Exit_status":\t0')
    told = told.replace(b'"substate":\t91', b'"substate":\t92')
    array, *tasks = (record.complete for record in read(told).records)
    assert array.state is JobState.DONE
    whole = whole_of(array, tasks)
    assert (whole.state, _how(whole)) == (
        JobState.FAILED,
        (FailureKind.NON_ZERO_EXIT, 7, None),
    )


_FIGURES = ["cput", "mem", "walltime", "ncpus", "vmem", "cpupercent"]


@pytest.mark.parametrize("name", _FIGURES)
@pytest.mark.parametrize("figure", ["-", "", "12zz", "1:2:3:4:5", "-5", "9" * 30])
def test_end_usage_unreadable(name: str, figure: str) -> None:
    lines = [
        re.sub(
            rf"resources_used.{name}=\S*".encode(), f"resources_used.{name}={figure}".encode(), x
        )
        for x in _ACCOUNTED
    ]
    seen = _accounted(lines, "142")
    assert (seen.state, seen.exit_code) == (JobState.FAILED, 3)
    assert seen.usage is not None
    traced = parse_tracejob(
        re.sub(
            rf"resources_used.{name}=\S*".encode(),
            f"resources_used.{name}={figure}".encode(),
            recorded("tracejob.finished-exit3").stdout,
        ),
        NativeId("142"),
    )
    assert traced is not None
    assert (traced.exit_code, traced.usage is not None) == (3, True)
    told = as_dsv(recorded("qstat-x-f-json.finished-exit3").stdout)
    pattern = rf"(?<=\x1fresources_used\.{name}=)[^\x1f]*"
    (record,) = (
        Reader(None).read(re.sub(pattern.encode(), figure.encode(), told), DELIMITER, None).records
    )
    listed = record.complete
    assert (listed.exit_code, listed.usage is not None) == (3, True)


def test_end_tracejob_wrapped_line() -> None:
    told = recorded("tracejob.finished-exit3").stdout
    torn = told.replace(
        b" resources_used.ncpus", b"\n                          resources_used.ncpus"
    )
    seen = parse_tracejob(torn, NativeId("142"))
    assert seen is not None
    assert (seen.exit_code, seen.name) == (3, "exit3")
