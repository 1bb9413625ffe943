"""Commands of Torque and OpenPBS for one job: qhold(1B), qrls(1B), qrerun(8), qsig(1B), qalter(1B).

They are built without the job, which stands behind them.
"""

from collections.abc import Sequence, Set

from hpcq.domain.actions import Action, Signal
from hpcq.domain.jobs import JobSpec

__all__ = ["ACTIONS", "build_action", "build_alteration"]

ACTIONS = frozenset(Action)


def build_action(action: Action, signal: Signal | None) -> tuple[str, ...]:
    """Return the argv of an action.

    ``qsig`` takes ``suspend`` and ``resume`` in the place of a signal.

    Args:
        action: the action.
        signal: for `Action.SIGNAL`.
    """
    match action:
        case Action.HOLD:
            return ("qhold",)
        case Action.RELEASE:
            return ("qrls",)
        case Action.REQUEUE:
            return ("qrerun",)
    return ("qsig", "-s", action if signal is None else f"SIG{signal}")


def build_alteration(
    spec: JobSpec, fields: Set[str], name: str, limits: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return the commands that change a queued job: ``qmove``, then ``qalter``.

    ``qalter`` changes all or nothing. It comes last: its limits have to be those of the new queue.

    Args:
        spec: the job as it is to be.
        fields: those of its fields that change.
        name: its name, as the scheduler takes it.
        limits: values of ``-l``.
    """
    options: list[str] = []
    if "name" in fields:
        options += ["-N", name]
    if "account" in fields and spec.account is not None:
        options += ["-A", spec.account]
    if "priority" in fields:
        options += ["-p", str(spec.priority or 0)]
    for limit in limits:
        options += ["-l", limit]
    commands = [("qalter", *options)] if options else []
    if "queue" in fields and spec.queue is not None:
        commands.insert(0, ("qmove", spec.queue))
    return commands
