"""Actions on a job in the queue, the states that they need, and the signals that a job can be sent.

Deleting is none of them: it works in every state.
"""

from collections.abc import Mapping
from enum import StrEnum

from hpcq.domain.errors import WrongState
from hpcq.domain.states import JobState

__all__ = ["Action", "Signal", "check_state", "has_effect_already"]


class Action(StrEnum):
    """An action on a job, by its name in paths and in `Capabilities.actions`."""

    HOLD = "hold"
    """Keep a queued job from starting."""
    RELEASE = "release"
    """Let a held job start."""
    REQUEUE = "requeue"
    """End a running job, and put it back into the queue under the same id."""
    SUSPEND = "suspend"
    """Stop the processes of a running job."""
    RESUME = "resume"
    """Let the processes of a suspended job go on."""
    SIGNAL = "signal"
    """Send a signal to a running job."""


class Signal(StrEnum):
    """A signal that a job can be sent; ``scancel`` and ``qsig`` know them by these names.

    ``STOP``, ``TSTP`` and ``CONT`` are absent: `Action.SUSPEND` and `Action.RESUME` are their
    place, of which the scheduler knows.
    """

    ABRT = "ABRT"
    ALRM = "ALRM"
    HUP = "HUP"
    INT = "INT"
    KILL = "KILL"
    QUIT = "QUIT"
    TERM = "TERM"
    URG = "URG"
    USR1 = "USR1"
    USR2 = "USR2"


_QUEUED = frozenset(state for state in JobState if state.is_queued)
_STARTED = frozenset({JobState.RUNNING, JobState.SUSPENDED})
_PUT_BACK = frozenset({JobState.REQUEUED, JobState.REQUEUED_HELD})
_NEEDED: Mapping[Action, frozenset[JobState]] = {
    Action.HOLD: _QUEUED,
    Action.RELEASE: _QUEUED,
    Action.REQUEUE: _STARTED | _PUT_BACK,
    Action.SUSPEND: _STARTED,
    Action.RESUME: _STARTED,
    Action.SIGNAL: frozenset({JobState.RUNNING}),
}
_HELD = frozenset(state for state in JobState if state.is_held)
_EFFECTS: Mapping[Action, frozenset[JobState]] = {
    Action.HOLD: _HELD,
    Action.RELEASE: _QUEUED - _HELD,
    Action.REQUEUE: _PUT_BACK,
    Action.SUSPEND: frozenset({JobState.SUSPENDED}),
    Action.RESUME: frozenset({JobState.RUNNING}),
}
_REFUSALS: Mapping[Action, str] = {
    Action.HOLD: "Only a queued job can be held",
    Action.RELEASE: "Only a queued job can be released",
    Action.REQUEUE: "Only a running or suspended job can be put back into the queue",
    Action.SUSPEND: "Only a running job can be suspended",
    Action.RESUME: "Only a suspended job can be resumed",
    Action.SIGNAL: "Only a running job can be sent a signal",
}


def check_state(action: Action, state: JobState, *, is_array: bool = False) -> None:
    """Return if an action makes sense for a job in this state, or its state is not known.

    Args:
        action: what is to be done.
        state: of the job.
        is_array: whether it is a whole array: of one that has begun some tasks may wait.

    Raises:
        WrongState: it makes none.
    """
    needed = _NEEDED[action] | (_STARTED if is_array else frozenset())
    if state is not JobState.UNDETERMINED and state not in needed:
        raise WrongState(f"{_REFUSALS[action]}; this one is {state}.")


def has_effect_already(action: Action, state: JobState) -> bool:
    """Return whether a job in this state is as the action would make it: repeating is harmless."""
    return state in _EFFECTS.get(action, frozenset())
