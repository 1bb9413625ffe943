"""Actions and the states that they need."""

import pytest

from hpcq.domain.actions import Action, check_state, has_effect_already
from hpcq.domain.errors import WrongState
from hpcq.domain.states import JobState


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("state", [JobState.DONE, JobState.FAILED])
def test_a_finished_job_takes_no_action(action: Action, state: JobState) -> None:
    with pytest.raises(WrongState, match=f"Only a .*; this one is {state}"):
        check_state(action, state)


@pytest.mark.parametrize("action", Action)
def test_a_job_in_an_unknown_state_is_left_to_the_scheduler(action: Action) -> None:
    check_state(action, JobState.UNDETERMINED)


@pytest.mark.parametrize("action", Action)
def test_an_action_can_be_repeated_where_it_has_its_effect(action: Action) -> None:
    for state in JobState:
        if has_effect_already(action, state):
            check_state(action, state)


@pytest.mark.parametrize("action", [Action.HOLD, Action.RELEASE])
def test_an_array_that_has_begun_can_be_held(action: Action) -> None:
    check_state(action, JobState.RUNNING, is_array=True)
    with pytest.raises(WrongState):
        check_state(action, JobState.RUNNING)
    with pytest.raises(WrongState):
        check_state(action, JobState.DONE, is_array=True)


def test_a_signal_always_has_a_new_effect() -> None:
    assert not any(has_effect_already(Action.SIGNAL, state) for state in JobState)
