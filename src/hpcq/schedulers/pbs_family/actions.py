"""Commands of Torque and OpenPBS for actions on a job: qhold(1B), qrls(1B), qrerun(8), qsig(1B)."""

from hpcq.domain.actions import Action, Signal

__all__ = ["ACTIONS", "build_action"]

ACTIONS = frozenset(Action)


def build_action(action: Action, signal: Signal | None) -> tuple[str, ...]:
    """Return the argv of an action, without the job.

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
