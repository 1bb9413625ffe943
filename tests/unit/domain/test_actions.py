"""Actions and the states that they need."""

import pytest

from hpcq.domain.actions import Action, check_state, has_effect_already
from hpcq.domain.errors import WrongState
from hpcq.domain.states import JobState


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("state", [JobState.DONE, JobState.FAILED])
def test_action_on_finished_job(action: Action, state: JobState) -> None:
    with pytest.raises(WrongState, match=f"Only a .*; this one is {state}"):
        check_state(action, state)


@pytest.mark.parametrize("action", Action)
def test_action_on_job_in_unknown_state(action: Action) -> None:
    check_state(action, JobState.UNDETERMINED)


@pytest.mark.parametrize("action", Action)
def test_action_repeated(action: Action) -> None:
    for state in JobState:
        if has_effect_already(action, state):
            check_state(action, state)


@pytest.mark.parametrize("action", [Action.HOLD, Action.RELEASE])
def test_hold_started_array(action: Action) -> None:
    check_state(action, JobState.RUNNING, is_array=True)
    with pytest.raises(WrongState):
        check_state(action, JobState.RUNNING)
    with pytest.raises(WrongState):
        check_state(action, JobState.DONE, is_array=True)


def test_signal_repeated() -> None:
    assert not any(has_effect_already(Action.SIGNAL, state) for state in JobState)
