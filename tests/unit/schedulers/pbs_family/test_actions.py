"""The commands of actions."""

from dataclasses import replace

import pytest

from hpcq.domain.actions import Action, Signal
from hpcq.domain.job_changes import CHANGEABLE
from hpcq.domain.jobs import JobSpec
from hpcq.schedulers.pbs_family.actions import build_action, build_alteration

SPEC = JobSpec(name="study", working_directory="/w", script_file="/w/s.sh")


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
def test_action_commands(action: Action, signal: Signal | None, argv: tuple[str, ...]) -> None:
    assert build_action(action, signal) == argv


def test_alteration_qmove_and_qalter() -> None:
    spec = replace(SPEC, queue="long", account="pem", priority=-5)
    assert build_alteration(spec, frozenset(CHANGEABLE), "study", ["walltime=60"]) == [
        ("qmove", "long"),
        ("qalter", "-N", "study", "-A", "pem", "-p", "-5", "-l", "walltime=60"),
    ]
    assert build_alteration(spec, {"queue"}, "study", []) == [("qmove", "long")]
    assert build_alteration(SPEC, {"priority"}, "study", []) == [("qalter", "-p", "0")]
