"""Meanings of Torque's state letters, holds and exit statuses."""

from collections.abc import Mapping
from dataclasses import replace

from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.schedulers.meanings import Outcome, StateMeaning

__all__ = ["WRAPPED_SIGNAL", "outcome_of", "state_of"]


# qstat(1B) of 6.1.3, "STATE". C is `outcome_of`'s.
_STATES: Mapping[str, StateMeaning] = {
    "Q": StateMeaning(JobState.QUEUED),
    "H": StateMeaning(JobState.QUEUED_HELD),
    "W": StateMeaning(
        JobState.QUEUED,
        reason="It waits for the time before which it is not to start.",
        code=ReasonCode.NOT_BEFORE_TIME,
    ),
    "T": StateMeaning(
        JobState.QUEUED, Stage.DISPATCHING, reason="It is on its way to another queue or server."
    ),
    "R": StateMeaning(JobState.RUNNING),
    "E": StateMeaning(JobState.RUNNING, Stage.EXITING),
    "S": StateMeaning(JobState.SUSPENDED, reason="It was suspended by Torque."),
}
# qhold(1B), "-h hold_list".
_HOLDS = {
    "u": ("by its owner", ReasonCode.HELD_BY_USER),
    "o": ("by an operator", ReasonCode.HELD_BY_OPERATOR),
    "s": ("by the system", ReasonCode.HELD_BY_SYSTEM),
    "p": ("because its owner's password failed", ReasonCode.HELD_BY_SYSTEM),
}


_WEIGHTS = (ReasonCode.HELD_BY_USER, ReasonCode.HELD_BY_SYSTEM, ReasonCode.HELD_BY_OPERATOR)


def state_of(letter: str, holds: str = "", depend: str = "", start_count: int = 0) -> StateMeaning:
    """Return what a state of a job that has not ended says; an unlisted one is UNDETERMINED.

    Args:
        letter: ``job_state``.
        holds: ``Hold_Types``: letters, ``n`` for none.
        depend: ``depend``: a system hold of such a job is that of its dependency.
        start_count: how often it was started; one that waits again was put back.

    >>> state_of("H", holds="o").code
    <ReasonCode.HELD_BY_OPERATOR: 'HELD_BY_OPERATOR'>
    """
    word = _STATES.get(letter)
    if word is None:
        return StateMeaning(
            JobState.UNDETERMINED, reason=f"Torque's state {letter[:20]!r} is not a known one."
        )
    if letter == "H" and holds == "l":
        reason = "It waits until fewer jobs of its array run."
        word = StateMeaning(JobState.QUEUED, reason=reason, code=ReasonCode.LIMIT_REACHED)
    elif letter == "H":
        word = _hold(holds, depend)
    if start_count > 0 and word.state is JobState.QUEUED:
        return replace(word, state=JobState.REQUEUED)
    if start_count > 0 and word.state is JobState.QUEUED_HELD:
        return replace(word, state=JobState.REQUEUED_HELD)
    return word


def _hold(holds: str, depend: str) -> StateMeaning:
    held = JobState.QUEUED_HELD
    if "s" in holds and "after" in depend:
        reason = "It waits for the jobs that it depends on."
        return StateMeaning(held, reason=reason, code=ReasonCode.WAITING_FOR_DEPENDENCY)
    kinds = [_HOLDS[letter] for letter in holds if letter in _HOLDS]
    if not kinds:
        return StateMeaning(held, reason="It is held.")
    reason = f"It is held {', '.join(words for words, _ in kinds)}."
    # Whoever may lift the strongest hold decides.
    code = max((code for _, code in kinds), key=_WEIGHTS.index)
    return StateMeaning(held, reason=reason, code=code)


_ERROR = FailureKind.SCHEDULER_ERROR
# Torque's pbs_job.h, JOB_EXEC_*; -11 and -12 recorded.
_NEGATIVE: Mapping[int, tuple[FailureKind, str]] = {
    -1: (_ERROR, "It could not be started, before its files were set up"),
    -2: (_ERROR, "It could not be started, after its files were set up"),
    -3: (_ERROR, "It could not be started, and was to be tried again"),
    -4: (FailureKind.NODE_FAILURE, "It was aborted when its host started anew"),
    -5: (FailureKind.NODE_FAILURE, "It was aborted when its host started anew (checkpointed)"),
    -6: (FailureKind.NODE_FAILURE, "It was aborted when its host started anew (migrated)"),
    -7: (_ERROR, "Its checkpoint could not be restarted"),
    -8: (_ERROR, "Its command could not be executed"),
    -9: (_ERROR, "Its output or error file could not be opened"),
    -10: (FailureKind.OUT_OF_MEMORY, "It was ended because it exceeded its memory limit"),
    -11: (FailureKind.TIME_LIMIT, "It was ended at its wall time limit"),
    -12: (FailureKind.TIME_LIMIT, "It was ended at its CPU time limit"),
    -13: (_ERROR, "Its control group could not be set up"),
    -14: (_ERROR, "Its prologue failed"),
}
_BAD_SHELL = 254
_LAST_SIGNAL = 64
_BY_TORQUE = 256
_DELETED_BY = (9, 15)
WRAPPED_SIGNAL = 34
"""The wrapper adds this to a signal that ended the script; 15 alone would be a deletion."""
_BY_WRAPPER = range(_BY_TORQUE + WRAPPED_SIGNAL + 1, _BY_TORQUE + _LAST_SIGNAL + 1)


def outcome_of(exit_status: int | None, *, started: bool, wrapped: bool = False) -> Outcome:
    """Return how a job in state C, or in an accounting record of its end, ended.

    Args:
        exit_status: as printed. None for one that was deleted while it waited.
        started: whether it ever ran; of one that did not, no exit status is believed but those
            by which Torque says that it could not be started.
        wrapped: whether a wrapper of ours ran the script. It tells a signal apart from an exit
            status of 128 and more; without it Torque's shell tells both alike, and the signal is
            by far the more frequent.
    """
    if exit_status is not None and exit_status < 0:
        kind, words = _NEGATIVE.get(exit_status, (FailureKind.UNKNOWN, "Torque ended it"))
        return Outcome(kind, f"{words} (exit status {exit_status}).")
    if not started:
        return Outcome(FailureKind.CANCELLED, "It was deleted before it started.")
    if exit_status is None:
        return Outcome(FailureKind.UNKNOWN, "Torque does not say how it ended.")
    if exit_status == 0:
        return Outcome(exit_code=0)
    if exit_status in _BY_WRAPPER:
        return _ended_by(exit_status - _BY_TORQUE - WRAPPED_SIGNAL)
    if exit_status >= _BY_TORQUE:
        signal = exit_status - _BY_TORQUE
        if signal in _DELETED_BY:
            reason = f"It was deleted, or ended by signal {signal} (exit status {exit_status})."
            return Outcome(FailureKind.CANCELLED, reason, exit_signal=signal)
        return _ended_by(signal)
    if 128 < exit_status <= 128 + _LAST_SIGNAL and not wrapped:
        return _ended_by(exit_status - 128)
    hint = ", as a job does whose shell could not be started" if exit_status == _BAD_SHELL else ""
    reason = f"It exited with {exit_status}{hint}."
    return Outcome(FailureKind.NON_ZERO_EXIT, reason, exit_status)


def _ended_by(signal: int) -> Outcome:
    return Outcome(FailureKind.SIGNAL, f"It was ended by signal {signal}.", exit_signal=signal)
