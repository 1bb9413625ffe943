"""Meanings of Slurm's words for where a job is, why it waits and how it ended.

Sources: squeue(1) and sacct(1), JOB STATE CODES and JOB REASON CODES, of 22.05 to 24.11;
``src/common/slurm_protocol_defs.c`` (``job_state_string``, ``job_reason_string``).
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.schedulers.meanings import Outcome, StateMeaning

__all__ = [
    "NEVER_SATISFIED",
    "STATES",
    "Reason",
    "meaning_of",
    "outcome_of",
    "reason_of",
]


def _failed(kind: FailureKind | None, reason: str | None = None) -> StateMeaning:
    return StateMeaning(JobState.FAILED, None, kind, reason)


STATES: Mapping[str, StateMeaning] = {
    # Waiting. The reason decides between QUEUED and QUEUED_HELD, see `meaning_of`.
    "PENDING": StateMeaning(JobState.QUEUED),
    # Held, because the reservation it asked for was deleted.
    "RESV_DEL_HOLD": StateMeaning(
        JobState.QUEUED_HELD,
        reason="Held: its reservation was deleted (RESV_DEL_HOLD).",
        code=ReasonCode.HELD_BY_SYSTEM,
    ),
    # Put back into the queue of another cluster of the federation.
    "REQUEUE_FED": StateMeaning(JobState.REQUEUED),
    # Put back into the queue and held, after an error or by an administrator.
    "REQUEUE_HOLD": StateMeaning(
        JobState.REQUEUED_HELD,
        reason="Put back into the queue and held (REQUEUE_HOLD).",
        code=ReasonCode.HELD_BY_SYSTEM,
    ),
    # Being put back; sacct keeps the run that was broken off under this word.
    "REQUEUED": StateMeaning(JobState.REQUEUED),
    # Requeued and held with a mark that the site gives certain exit codes
    # (RequeueExitHold in slurm.conf(5)).
    "SPECIAL_EXIT": StateMeaning(
        JobState.REQUEUED_HELD,
        reason="Put back and held for its exit code (SPECIAL_EXIT).",
        code=ReasonCode.HELD_BY_SYSTEM,
    ),
    # Nodes are allocated and being booted or prepared.
    "CONFIGURING": StateMeaning(JobState.QUEUED, Stage.DISPATCHING),
    # Nodes are being powered up for it (24.05).
    "POWER_UP_NODE": StateMeaning(JobState.QUEUED, Stage.DISPATCHING),
    "RUNNING": StateMeaning(JobState.RUNNING),
    # It is about to change size; its processes run.
    "RESIZING": StateMeaning(JobState.RUNNING),
    # It is being sent a signal; its processes run.
    "SIGNALING": StateMeaning(JobState.RUNNING),
    # Its run is given priority over all else (24.11).
    "EXPEDITING": StateMeaning(JobState.QUEUED, Stage.DISPATCHING),
    # The script is gone; processes and epilog are being cleaned up. The outcome is not out yet.
    "COMPLETING": StateMeaning(JobState.RUNNING, Stage.EXITING),
    # The burst buffer is being written back.
    "STAGE_OUT": StateMeaning(JobState.RUNNING, Stage.EXITING),
    # SIGSTOP, keeps its CPUs.
    "STOPPED": StateMeaning(JobState.SUSPENDED),
    # Gave its CPUs back.
    "SUSPENDED": StateMeaning(JobState.SUSPENDED),
    # All processes of the script exited with 0.
    "COMPLETED": StateMeaning(JobState.DONE),
    # A non-zero exit code, a signal or a failed launch: the exit status tells.
    "FAILED": _failed(None),
    "CANCELLED": _failed(FailureKind.CANCELLED, "It was cancelled."),
    "TIMEOUT": _failed(FailureKind.TIME_LIMIT, "It reached its time limit."),
    # It could not, or can no longer, end before its --deadline.
    "DEADLINE": _failed(FailureKind.TIME_LIMIT, "It passed its deadline."),
    "OUT_OF_MEMORY": _failed(FailureKind.OUT_OF_MEMORY, "It used more memory than its limit."),
    "NODE_FAIL": _failed(FailureKind.NODE_FAILURE, "A node it ran on failed."),
    # The node did not come up.
    "BOOT_FAIL": _failed(FailureKind.NODE_FAILURE, "The node could not be booted for it."),
    # slurmd could not start it (23.02).
    "LAUNCH_FAILED": _failed(FailureKind.SCHEDULER_ERROR, "Slurm could not start it on the node."),
    # Nodes could not be given the features it asked for (23.02).
    "RECONFIG_FAIL": _failed(
        FailureKind.SCHEDULER_ERROR, "The node could not be configured for it."
    ),
    # Ended to make room; where the site requeues instead, the word is REQUEUED.
    "PREEMPTED": _failed(FailureKind.CANCELLED, "It was ended to make room for another job."),
    # Another cluster of the federation runs it: this cluster does not show how it ends.
    "REVOKED": StateMeaning(
        JobState.UNDETERMINED, reason="Another cluster of the federation took it over (REVOKED)."
    ),
}

_HELD = frozenset(
    {
        "JobHeldUser",  # by --hold or its owner
        "JobHeldAdmin",  # by an administrator; the owner cannot release it
        "JobHoldMaxRequeue",  # requeued too often, MAX_BATCH_REQUEUE
        "launch_failed_requeued_held",  # its prolog failed
        "job_requeued_in_held_state",
        "reservation_deleted",
    }
)


@dataclass(frozen=True, slots=True)
class Reason:
    """Slurm's reason, in words and for a program."""

    words: str
    code: ReasonCode | None = None


_REASONS: Mapping[str, Reason] = {
    "AccountNotAllowed": Reason("Its account may not use the partition", ReasonCode.CANNOT_RUN),
    "AccountingPolicy": Reason(
        "A limit of its account or quality of service is reached", ReasonCode.LIMIT_REACHED
    ),
    "BadConstraints": Reason("Its constraints cannot be satisfied", ReasonCode.CANNOT_RUN),
    "BeginTime": Reason("Its earliest start time is not reached", ReasonCode.NOT_BEFORE_TIME),
    "BurstBufferOperation": Reason("A burst buffer operation failed"),
    "BurstBufferResources": Reason(
        "Waiting for burst buffer space", ReasonCode.WAITING_FOR_RESOURCES
    ),
    "BurstBufferStageIn": Reason("Its data are being staged in", ReasonCode.WAITING_FOR_RESOURCES),
    "Cleaning": Reason("Its previous run is being cleaned up", ReasonCode.REQUEUED),
    "DeadLine": Reason("It cannot end before its deadline", ReasonCode.CANNOT_RUN),
    "Dependency": Reason("Waiting for another job", ReasonCode.WAITING_FOR_DEPENDENCY),
    "DependencyNeverSatisfied": Reason(
        "The job it depends on did not end as required; it will never run",
        ReasonCode.DEPENDENCY_NEVER_SATISFIED,
    ),
    "FedJobLock": Reason("Waiting for the other clusters of the federation"),
    "FrontEndDown": Reason("No front-end node is available", ReasonCode.NODES_UNAVAILABLE),
    "InactiveLimit": Reason("It reached the system's limit of inactivity"),
    "InvalidAccount": Reason("Its account is not valid", ReasonCode.CANNOT_RUN),
    "InvalidQOS": Reason("Its quality of service is not valid", ReasonCode.CANNOT_RUN),
    "JobArrayTaskLimit": Reason(
        "As many tasks of its array run as may run at once", ReasonCode.LIMIT_REACHED
    ),
    "JobHeldAdmin": Reason("Held by an administrator", ReasonCode.HELD_BY_OPERATOR),
    "JobHeldUser": Reason("Held by its owner", ReasonCode.HELD_BY_USER),
    "JobHoldMaxRequeue": Reason("Held: it was put back too often", ReasonCode.HELD_BY_SYSTEM),
    "JobLaunchFailure": Reason("It could not be launched"),
    "Licenses": Reason("Waiting for a license", ReasonCode.WAITING_FOR_RESOURCES),
    "MaxMemPerLimit": Reason(
        "It asks for more memory than its limit allows", ReasonCode.CANNOT_RUN
    ),
    "MaxRequeue": Reason("It was put back too often"),
    "NodeDown": Reason("A node it needs is down", ReasonCode.NODES_UNAVAILABLE),
    "NonZeroExitCode": Reason("It exited with a non-zero code"),
    "OutOfMemory": Reason("It ran out of memory"),
    "PartitionConfig": Reason(
        "It asks for more than its partition has or allows", ReasonCode.CANNOT_RUN
    ),
    "PartitionDown": Reason("Its partition is down", ReasonCode.QUEUE_CLOSED),
    "PartitionInactive": Reason("Its partition is inactive", ReasonCode.QUEUE_CLOSED),
    "PartitionNodeLimit": Reason(
        "It asks for more nodes than its partition allows", ReasonCode.CANNOT_RUN
    ),
    "PartitionTimeLimit": Reason(
        "Its time limit exceeds that of its partition", ReasonCode.CANNOT_RUN
    ),
    "Priority": Reason(
        "Jobs with a higher priority wait for the same partition", ReasonCode.WAITING_FOR_PRIORITY
    ),
    "Prolog": Reason("The prolog runs"),
    "QOSNotAllowed": Reason(
        "Its quality of service may not use the partition", ReasonCode.CANNOT_RUN
    ),
    "QOSUsageThreshold": Reason(
        "Its quality of service requires more recent use", ReasonCode.LIMIT_REACHED
    ),
    "ReqNodeNotAvail": Reason("A node it asks for is not available", ReasonCode.NODES_UNAVAILABLE),
    "Reservation": Reason("Waiting for its reservation", ReasonCode.NOT_BEFORE_TIME),
    "ReservationDeleted": Reason("Its reservation was deleted", ReasonCode.HELD_BY_SYSTEM),
    "Resources": Reason("Waiting for resources", ReasonCode.WAITING_FOR_RESOURCES),
    "SchedDefer": Reason("Scheduling is put off"),
    "SystemFailure": Reason("Slurm, a file system or the network failed"),
    "TimeLimit": Reason("It reached its time limit"),
    "WaitingForScheduling": Reason("Slurm has not considered it yet"),
    "launch_failed_requeued_held": Reason(
        "Held: it could not be launched", ReasonCode.HELD_BY_SYSTEM
    ),
    "job_requeued_in_held_state": Reason(
        "Put back into the queue and held", ReasonCode.HELD_BY_SYSTEM
    ),
}

# QOSMaxCpuPerUserLimit, AssocGrpMemMinutes … are made up of scope, kind and resource; there are
# more than two hundred of them.
_LIMIT = re.compile(r"(?:(Assoc\w*|QOS\w*|Max\w+PerAccount)|(.*Limit))")

_SIGNALS: Mapping[int, str] = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    10: "SIGUSR1",
    11: "SIGSEGV",
    12: "SIGUSR2",
    13: "SIGPIPE",
    14: "SIGALRM",
    15: "SIGTERM",
    24: "SIGXCPU",
    25: "SIGXFSZ",
}
"""signal(7), x86; the numbers of the cluster's nodes, whatever this machine calls them."""


_LAST_SIGNAL = 64
_LAUNCH_FAILED = 53
"""FAILED with 0:53 and no signal sent: slurmstepd could not open the output file or enter the
working directory (seen in 22.05; SLURM_ERROR codes of ``slurmstepd/mgr.c``)."""
NEVER_SATISFIED = "DependencyNeverSatisfied"
"""Slurm's reason for a job that it ends because the job it depends on did not end as required."""


@functools.lru_cache(maxsize=1024)
def meaning_of(word: str, reason: str | None = None) -> StateMeaning:
    """Return the meaning of a state.

    Args:
        word: as squeue or sacct print it, without ``by UID``.
        reason: the reason column beside it.

    An unlisted word is UNDETERMINED; the caller keeps the word itself.

    >>> meaning_of("COMPLETING").stage
    <Stage.EXITING: 'EXITING'>
    """
    meaning = STATES.get(word)
    if meaning is None:
        return StateMeaning(JobState.UNDETERMINED, reason=f"Slurm calls its state {word!r}.")
    if word == "PENDING" and _normal(reason) in _HELD:
        return StateMeaning(JobState.QUEUED_HELD)
    return meaning


@functools.lru_cache(maxsize=1024)
def reason_of(reason: str | None) -> Reason | None:
    """Return why a job waits, in words with Slurm's own behind them; None for no reason.

    Args:
        reason: squeue's ``%r``; some carry free text behind a comma
            (``ReqNodeNotAvail, UnavailableNodes:n1``).
    """
    if reason is None or reason in {"", "None"}:
        return None
    word = _normal(reason.split(",", 1)[0])
    known = _REASONS.get(word)
    if known is None:
        limit = _LIMIT.fullmatch(word)
        if limit is None:
            return Reason(reason)
        whose = "the account or quality of service" if limit[1] else "the site"
        known = Reason(f"A limit of {whose} is reached", ReasonCode.LIMIT_REACHED)
    return Reason(f"{known.words} ({reason})", known.code)


def _describe_signal(number: int) -> str:
    """Return a signal for a person: ``SIGKILL (9)``."""
    name = _SIGNALS.get(number)
    return f"signal {number}" if name is None else f"{name} ({number})"


def _normal(reason: str | None) -> str:
    # Texts of several words are printed with blanks or with underscores, by version.
    return (reason or "").strip("() ").replace(" ", "_")


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

    >>> outcome_of("TIMEOUT", code=0, signal=15).failure_kind
    <FailureKind.TIME_LIMIT: 'TIME_LIMIT'>
    """
    meaning = meaning_of(state)
    waited = reason_of(waited_for)
    if meaning.state is JobState.DONE:
        return Outcome(exit_code=code if has_run else None)
    # 125 and the like are Slurm's own marks, not signals (OUT_OF_MEMORY is 0:125).
    real_signal = signal if has_run and 0 < signal <= _LAST_SIGNAL else None
    exit_code = code or None if has_run else None
    if meaning.failure_kind is not None:
        if by is not None:
            reason: str | None = f"It was cancelled by the user with uid {by}."
        elif not has_run and waited is not None and waited_for == NEVER_SATISFIED:
            return Outcome(meaning.failure_kind, f"{waited.words}.", code=waited.code)
        else:
            reason = meaning.reason
        return Outcome(meaning.failure_kind, reason, exit_code, real_signal)
    if not has_run:
        reason = "Slurm could not run it as it was asked to"
        reason += f": {waited.words}." if waited else "."
        return Outcome(FailureKind.SCHEDULER_ERROR, reason)
    if signal == _LAUNCH_FAILED and not code:
        return Outcome(
            FailureKind.SCHEDULER_ERROR,
            "Slurm could not start it: its working directory or its output file cannot be opened.",
        )
    if real_signal is not None:
        reason = f"It was ended by {_describe_signal(real_signal)}."
        return Outcome(FailureKind.SIGNAL, reason, None, real_signal)
    if code:
        return Outcome(FailureKind.NON_ZERO_EXIT, f"It exited with {code}.", code)
    return Outcome(FailureKind.UNKNOWN, "Slurm says that it failed, and no more.")
