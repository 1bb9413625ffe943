"""Changes of state: GFD.231's steps, what polling misses, and two exceptions."""

import re
from pathlib import Path

import pytest

from hpcq.domain.states import TRANSITIONS, WAITS_AGAIN, JobState, may_move

PAGE = Path(__file__).parents[3] / "docs" / "life.md"

Q, QH, R, S = JobState.QUEUED, JobState.QUEUED_HELD, JobState.RUNNING, JobState.SUSPENDED
RQ, RQH = JobState.REQUEUED, JobState.REQUEUED_HELD
U, D, F = JobState.UNDETERMINED, JobState.DONE, JobState.FAILED

# The arrows of GFD.231, figure 3, without those from and to UNDETERMINED.
ARROWS = {
    Q: {QH, R, F},
    QH: {Q, F},
    R: {S, RQ, RQH, D, F},
    S: {R, RQ, RQH, F},
    RQ: {RQH, R, F},
    RQH: {RQ, F},
    D: set[JobState](),
    F: set[JobState](),
}


def reachable(state: JobState) -> set[JobState]:
    """Return the states that may show at the next poll, after any number of steps."""
    found: set[JobState] = set()
    ahead = set(ARROWS[state])
    while ahead:
        step = ahead.pop()
        if step not in found:
            found.add(step)
            ahead |= ARROWS[step]
    return found - {state}


@pytest.mark.parametrize("state", [Q, QH, R, S, RQ, RQH])
def test_transitions_drmaa2_and_undetermined(
    state: JobState,
) -> None:
    assert TRANSITIONS[state] == reachable(state) | {U}


def test_transitions_from_undetermined() -> None:
    assert TRANSITIONS[U] == set(JobState) - {U}


def test_transitions_from_final_state() -> None:
    assert TRANSITIONS[D] == {RQ, RQH}
    assert TRANSITIONS[F] == {RQ, RQH, U}


def test_transitions_each_state() -> None:
    assert set(TRANSITIONS) == set(JobState)
    for state in JobState:
        assert may_move(state, state)
        assert state not in TRANSITIONS[state]


@pytest.mark.parametrize("state", [R, S, RQ, RQH, D, F])
def test_transitions_running_to_queued(state: JobState) -> None:
    for waiting, again in WAITS_AGAIN.items():
        assert not may_move(state, waiting)
        assert may_move(state, again)


def rows(heading: str) -> dict[str, str]:
    """The two columns of the first table below a heading of docs/life.md."""
    text = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {first.strip(" `"): second for first, second in cells}


def test_documentation_each_state() -> None:
    assert list(rows("States")) == [s for s in JobState if s is not U] + ["UNDETERMINED"]


def test_documentation_table() -> None:
    documented = {
        JobState(first): set(re.findall(r"`([A-Z_]+)`", second))
        for first, second in rows("Changes of state").items()
    }
    assert documented == TRANSITIONS
