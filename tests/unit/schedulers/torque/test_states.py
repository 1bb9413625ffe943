"""State letters, holds and exit statuses."""

import pytest

from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.schedulers.torque.states import outcome_of, state_of


@pytest.mark.parametrize(
    ("letter", "state", "stage"),
    [
        ("Q", JobState.QUEUED, None),
        ("H", JobState.QUEUED_HELD, None),
        ("W", JobState.QUEUED, None),
        ("T", JobState.QUEUED, Stage.DISPATCHING),
        ("R", JobState.RUNNING, None),
        ("E", JobState.RUNNING, Stage.EXITING),
        ("S", JobState.SUSPENDED, None),
        ("X", JobState.UNDETERMINED, None),
        ("", JobState.UNDETERMINED, None),
    ],
)
def test_state_letters(letter: str, state: JobState, stage: Stage | None) -> None:
    word = state_of(letter)
    assert (word.state, word.stage) == (state, stage)


def test_state_restarted_job_waiting() -> None:
    assert state_of("Q", start_count=1).state is JobState.REQUEUED
    assert state_of("H", "u", start_count=2).state is JobState.REQUEUED_HELD
    assert state_of("R", start_count=2).state is JobState.RUNNING


@pytest.mark.parametrize(
    ("holds", "depend", "reason", "code"),
    [
        ("u", "", "It is held by its owner.", ReasonCode.HELD_BY_USER),
        (
            "uos",
            "",
            "It is held by its owner, by an operator, by the system.",
            ReasonCode.HELD_BY_OPERATOR,
        ),
        (
            "s",
            "afterok:1.vm",
            "It waits for the jobs that it depends on.",
            ReasonCode.WAITING_FOR_DEPENDENCY,
        ),
        ("s", "beforeok:1.vm", "It is held by the system.", ReasonCode.HELD_BY_SYSTEM),
        ("l", "", "It waits until fewer jobs of its array run.", ReasonCode.LIMIT_REACHED),
        ("n", "", "It is held.", None),
    ],
)
def test_hold_types(holds: str, depend: str, reason: str, code: ReasonCode | None) -> None:
    word = state_of("H", holds, depend)
    assert (word.reason, word.code) == (reason, code)
    assert state_of("H", holds, depend, start_count=1).code is code


@pytest.mark.parametrize(
    ("status", "kind", "code", "signal"),
    [
        (0, None, 0, None),
        (3, FailureKind.NON_ZERO_EXIT, 3, None),
        (128, FailureKind.NON_ZERO_EXIT, 128, None),
        (137, FailureKind.SIGNAL, None, 9),
        (143, FailureKind.SIGNAL, None, 15),
        (193, FailureKind.NON_ZERO_EXIT, 193, None),
        (254, FailureKind.NON_ZERO_EXIT, 254, None),
        (255, FailureKind.NON_ZERO_EXIT, 255, None),
        (265, FailureKind.CANCELLED, None, 9),
        (271, FailureKind.CANCELLED, None, 15),
        (267, FailureKind.SIGNAL, None, 11),
        (299, FailureKind.SIGNAL, None, 9),
        (305, FailureKind.SIGNAL, None, 15),
        (-1, FailureKind.SCHEDULER_ERROR, None, None),
        (-4, FailureKind.NODE_FAILURE, None, None),
        (-10, FailureKind.OUT_OF_MEMORY, None, None),
        (-11, FailureKind.TIME_LIMIT, None, None),
        (-12, FailureKind.TIME_LIMIT, None, None),
        (-99, FailureKind.UNKNOWN, None, None),
        (None, FailureKind.UNKNOWN, None, None),
    ],
)
def test_exit_statuses(
    status: int | None, kind: FailureKind | None, code: int | None, signal: int | None
) -> None:
    outcome = outcome_of(status, started=True)
    assert (outcome.failure_kind, outcome.exit_code, outcome.exit_signal) == (kind, code, signal)
    assert (outcome.reason is None) == (kind is None)


@pytest.mark.parametrize("status", [None, 0, 1, 271])
def test_exit_status_never_started(status: int | None) -> None:
    outcome = outcome_of(status, started=False)
    assert (outcome.failure_kind, outcome.exit_code, outcome.exit_signal) == (
        FailureKind.CANCELLED,
        None,
        None,
    )


@pytest.mark.parametrize("status", [129, 137, 143, 192])
def test_exit_status_wrapped_script(status: int) -> None:
    outcome = outcome_of(status, started=True, wrapped=True)
    assert (outcome.failure_kind, outcome.exit_code) == (FailureKind.NON_ZERO_EXIT, status)


def test_reason_full_sentence() -> None:
    outcomes = [outcome_of(status, started=True) for status in (*range(-99, 321), None)]
    reasons = [outcome.reason for outcome in (*outcomes, outcome_of(None, started=False))]
    reasons += [state_of(letter, "uosp").reason for letter in "QHWTRESX"]
    reasons += [state_of("H", holds, "afterok:1.vm").reason for holds in ("l", "s", "n")]
    for reason in filter(None, reasons):
        assert (reason[0].isupper(), reason[-1]) == (True, "."), reason
