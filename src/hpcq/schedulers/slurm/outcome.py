"""Outcome of a job: from a state word and an exit status to a failure and its reason."""

from dataclasses import replace

from hpcq.domain.jobs import Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.meanings import Outcome
from hpcq.schedulers.slurm.states import describe_reason, describe_signal, meaning_of

__all__ = ["NEVER_SATISFIED", "is_refused", "outcome_of", "recognise_memory_kill"]

_LAST_SIGNAL = 64
_LAUNCH_FAILED = 53
"""FAILED with 0:53 and no signal sent: slurmstepd could not open the output file or enter the
working directory (seen in 22.05; SLURM_ERROR codes of ``slurmstepd/mgr.c``)."""
_MEMORY_KILL = 9
NEVER_SATISFIED = "DependencyNeverSatisfied"
"""Slurm's reason for a job that it ends because the job it depends on did not end as required."""


def outcome_of(
    state: str,
    code: int,
    signal: int,
    *,
    has_run: bool = True,
    by: str | None = None,
    waited_for: str = "",
) -> Outcome:
    """Return how a job ended.

    Args:
        state: the state's word, without ``by UID``.
        code: the left side of ExitCode.
        signal: the right side of ExitCode, of the job or else of its script; 0 for none.
        has_run: whether it ever had a host: else no exit status is believed.
        by: the uid that cancelled it.
        waited_for: the reason beside the state, for which it waited last.
    """
    meaning = meaning_of(state)
    if meaning.state is JobState.DONE:
        return Outcome(exit_code=code if has_run else None)
    # 125 and the like are Slurm's own marks, not signals (OUT_OF_MEMORY is 0:125).
    real_signal = signal if has_run and 0 < signal <= _LAST_SIGNAL else None
    exit_code = code or None if has_run else None
    if meaning.failure_kind is not None:
        reason = meaning.reason
        if by is not None:
            reason = f"It was cancelled by the user with uid {by}."
        elif not has_run and waited_for == NEVER_SATISFIED:
            reason = f"{describe_reason(waited_for)}."
        return Outcome(meaning.failure_kind, reason, exit_code, real_signal)
    if not has_run:
        why = describe_reason(waited_for)
        reason = "Slurm could not run it as it was asked to" + (f": {why}." if why else ".")
        return Outcome(FailureKind.SCHEDULER_ERROR, reason)
    if signal == _LAUNCH_FAILED and not code:
        return Outcome(
            FailureKind.SCHEDULER_ERROR,
            "Slurm could not start it: its working directory or its output file cannot be opened.",
        )
    if real_signal is not None:
        reason = f"It was ended by {describe_signal(real_signal)}."
        return Outcome(FailureKind.SIGNAL, reason, None, real_signal)
    if code:
        return Outcome(FailureKind.NON_ZERO_EXIT, f"It exited with {code}.", code)
    return Outcome(FailureKind.UNKNOWN, "Slurm says that it failed, and no more.")


def is_refused(seen: Observation) -> bool:
    """Return whether a job is what Slurm keeps of one that it did not take.

    sbatch then says no, yet a job with a number is left behind, ``FAILED``, which never had a host
    (BadConstraints; seen in 22.05).
    """
    return seen.native_state == "FAILED" and seen.hosts is None


def recognise_memory_kill(seen: Observation) -> Observation:
    """Return the end of a job, with its memory as the reason if that ended it.

    Without cgroups (``JobAcctGatherParams=OverMemoryKill``) Slurm says ``FAILED`` and ``0:9`` of
    such a job, as of any that was killed; its greatest sampled memory tells (seen in 22.05).
    """
    peak = None if seen.usage is None else seen.usage.max_memory_bytes
    if (
        seen.failure_kind is FailureKind.SIGNAL
        and seen.exit_signal == _MEMORY_KILL
        and peak is not None
        and seen.memory_limit_bytes is not None
        and peak > seen.memory_limit_bytes
    ):
        return replace(
            seen,
            failure_kind=FailureKind.OUT_OF_MEMORY,
            state_reason="It used more memory than its limit.",
        )
    return seen
