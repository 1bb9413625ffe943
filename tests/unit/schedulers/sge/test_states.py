import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain.states import FailureKind, JobState, Stage
from hpcq.schedulers.sge.states import failure_of, signal_of, state_of


@pytest.mark.parametrize(
    ("word", "state", "stage"),
    [
        ("qw", JobState.QUEUED, None),
        ("hqw", JobState.QUEUED_HELD, None),
        ("Rq", JobState.REQUEUED, None),  # seen between two scheduling runs
        ("Rqw", JobState.REQUEUED, None),
        ("hRwq", JobState.REQUEUED_HELD, None),  # the manual's spelling
        ("hRqw", JobState.REQUEUED_HELD, None),  # the screen's
        ("t", JobState.RUNNING, Stage.DISPATCHING),
        ("Rt", JobState.RUNNING, Stage.DISPATCHING),
        ("r", JobState.RUNNING, None),
        ("Rr", JobState.RUNNING, None),
        ("hr", JobState.RUNNING, None),
        ("s", JobState.SUSPENDED, None),
        ("S", JobState.SUSPENDED, None),
        ("T", JobState.SUSPENDED, None),
        ("tS", JobState.SUSPENDED, None),
        ("dr", JobState.RUNNING, Stage.CANCELLING),
        ("dt", JobState.RUNNING, Stage.CANCELLING),
        ("dRr", JobState.RUNNING, Stage.CANCELLING),
        ("dqw", JobState.QUEUED, Stage.CANCELLING),
        ("dS", JobState.SUSPENDED, Stage.CANCELLING),
        ("Eqw", JobState.QUEUED_HELD, None),
        ("Ehqw", JobState.QUEUED_HELD, None),
        ("EhRqw", JobState.REQUEUED_HELD, None),
    ],
)
def test_state_letters(word: str, state: JobState, stage: Stage | None) -> None:
    said = state_of(word)
    assert (said.state, said.stage) == (state, stage)


@pytest.mark.parametrize("word", ["", "x", "qx", "qq", "rw", "P", "z"])
def test_state_unlisted_word(word: str) -> None:
    said = state_of(word)
    assert said.state is JobState.UNDETERMINED
    assert repr(word) in (said.reason or "")


@given(st.text())
def test_state_any_word(word: str) -> None:
    assert state_of(word).state in JobState


def test_failure_of_job_never_started() -> None:
    assert not failure_of(28).ran
    assert failure_of(28).kind is FailureKind.SCHEDULER_ERROR
    assert failure_of(19).kind is FailureKind.NODE_FAILURE
    assert failure_of(12345).kind is FailureKind.UNKNOWN


@pytest.mark.parametrize(("status", "signal"), [(0, None), (128, None), (137, 9), (152, 24)])
def test_signal_in_exit_status(status: int, signal: int | None) -> None:
    assert signal_of(status) == signal
