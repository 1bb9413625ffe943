"""The commands of actions."""

import pytest

from hpcq.domain.actions import Action, Signal
from hpcq.schedulers.pbs_family.actions import build_action


@pytest.mark.parametrize(
    ("action", "signal", "argv"),
    [
        (Action.HOLD, None, ("qhold",)),
        (Action.RELEASE, None, ("qrls",)),
        (Action.REQUEUE, None, ("qrerun",)),
        (Action.SUSPEND, None, ("qsig", "-s", "suspend")),
        (Action.RESUME, None, ("qsig", "-s", "resume")),
        (Action.SIGNAL, Signal.USR1, ("qsig", "-s", "SIGUSR1")),
    ],
)
def test_each_action_has_its_command(
    action: Action, signal: Signal | None, argv: tuple[str, ...]
) -> None:
    assert build_action(action, signal) == argv
