"""The states of a job: DRMAA2's, the steps between them, and the wire's words for them.

DRMAA2 (GFD.231, section 8.1) draws a job's states and the steps between them. This service looks
at a scheduler now and then, and may miss states in between, so a row of `TRANSITIONS` holds
whatever can be reached by those steps: a job seen in the queue may next be seen at its end.
"""

from collections.abc import Mapping
from enum import StrEnum

__all__ = [
    "TRANSITIONS",
    "WAITS_AGAIN",
    "FailureKind",
    "JobState",
    "JobStatus",
    "ReasonCode",
    "Stage",
    "may_move",
    "status_of",
]


class JobState(StrEnum):
    """The state of a job (DRMAA2, GFD.231, section 4.1)."""

    UNDETERMINED = "UNDETERMINED"
    """Unknown at present; the reason is kept beside the state."""
    QUEUED = "QUEUED"
    QUEUED_HELD = "QUEUED_HELD"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    REQUEUED = "REQUEUED"
    REQUEUED_HELD = "REQUEUED_HELD"
    DONE = "DONE"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """True when the job is over; only a scheduler that puts it back ends this."""
        return self in _FINAL

    @property
    def is_queued(self) -> bool:
        """True when the job waits to be started, held or not."""
        return self in _WAITING

    @property
    def is_held(self) -> bool:
        """True when it waits and is not to be started before it is released."""
        return self in _HELD


_FINAL = frozenset({JobState.DONE, JobState.FAILED})
_WAITING = frozenset(
    {JobState.QUEUED, JobState.QUEUED_HELD, JobState.REQUEUED, JobState.REQUEUED_HELD}
)
_HELD = frozenset({JobState.QUEUED_HELD, JobState.REQUEUED_HELD})

_QUEUED, _QUEUED_HELD = JobState.QUEUED, JobState.QUEUED_HELD
_REQUEUED, _REQUEUED_HELD = JobState.REQUEUED, JobState.REQUEUED_HELD
_RUNNING, _SUSPENDED = JobState.RUNNING, JobState.SUSPENDED
_UNDETERMINED, _DONE, _FAILED = JobState.UNDETERMINED, JobState.DONE, JobState.FAILED

# The place of any job that is not over is unknown while the scheduler does not tell.
_LATER = frozenset({_RUNNING, _SUSPENDED, _REQUEUED, _REQUEUED_HELD, _DONE, _FAILED, _UNDETERMINED})

TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    _QUEUED: _LATER | {_QUEUED_HELD},
    _QUEUED_HELD: _LATER | {_QUEUED},
    # What ran once waits again from then on: never QUEUED, see `WAITS_AGAIN`.
    _RUNNING: _LATER - {_RUNNING},
    _SUSPENDED: _LATER - {_SUSPENDED},
    _REQUEUED: _LATER - {_REQUEUED},
    _REQUEUED_HELD: _LATER - {_REQUEUED_HELD},
    # Whatever is heard next of it is the truth.
    _UNDETERMINED: (_LATER | {_QUEUED, _QUEUED_HELD}) - {_UNDETERMINED},
    # DRMAA2 lets nothing follow. Schedulers do: `scontrol requeue` of a finished job, or a node
    # that is found to have failed, has the same job run again.
    _DONE: frozenset({_REQUEUED, _REQUEUED_HELD}),
    # As above; and a submission that was given up can turn out to have been taken.
    _FAILED: frozenset({_REQUEUED, _REQUEUED_HELD, _UNDETERMINED}),
}
"""From each state, the others that may be seen next; to stay is no transition."""

WAITS_AGAIN: Mapping[JobState, JobState] = {_QUEUED: _REQUEUED, _QUEUED_HELD: _REQUEUED_HELD}
"""Names of the queued states of a job that has run before: Slurm shows both as PENDING."""


def may_move(old: JobState, new: JobState) -> bool:
    """Return whether a job in one state may be seen in the other next; it may always stay.

    >>> may_move(JobState.QUEUED, JobState.DONE)
    True
    >>> may_move(JobState.DONE, JobState.RUNNING)
    False
    """
    return new is old or new in TRANSITIONS[old]


class Stage(StrEnum):
    """A finer point inside a state, as far as the wire status needs one."""

    DISPATCHING = "DISPATCHING"
    """Given to a host, not running yet: SGE ``t``, Slurm ``CONFIGURING``, PBS ``T``."""
    EXITING = "EXITING"
    """Ran, being cleaned up: PBS ``E``, Slurm ``COMPLETING``."""
    CANCELLING = "CANCELLING"
    """The scheduler has been told to end it: SGE ``dr``, ``dqw``."""


class JobStatus(StrEnum):
    """The ``status`` of the base contract."""

    START_REQUESTED = "START_REQUESTED"
    STARTING = "STARTING"
    ENABLED = "ENABLED"
    RUNNING = "RUNNING"
    PROTECTED = "PROTECTED"
    DISABLED = "DISABLED"
    STOP_REQUESTED = "STOP_REQUESTED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    UNKNOWN = "UNKNOWN"


class FailureKind(StrEnum):
    """Why a job is ``FAILED``."""

    NON_ZERO_EXIT = "NON_ZERO_EXIT"
    SIGNAL = "SIGNAL"
    TIME_LIMIT = "TIME_LIMIT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CANCELLED = "CANCELLED"
    NODE_FAILURE = "NODE_FAILURE"
    SCHEDULER_ERROR = "SCHEDULER_ERROR"
    UNKNOWN = "UNKNOWN"


class ReasonCode(StrEnum):
    """The reason for which a job waits, or never started; the same on every scheduler."""

    WAITING_FOR_RESOURCES = "WAITING_FOR_RESOURCES"
    """Too few slots, or too little of something else that it asks for, are free."""
    WAITING_FOR_PRIORITY = "WAITING_FOR_PRIORITY"
    """Other jobs come first."""
    WAITING_FOR_DEPENDENCY = "WAITING_FOR_DEPENDENCY"
    DEPENDENCY_NEVER_SATISFIED = "DEPENDENCY_NEVER_SATISFIED"
    HELD_BY_USER = "HELD_BY_USER"
    HELD_BY_OPERATOR = "HELD_BY_OPERATOR"
    HELD_BY_SYSTEM = "HELD_BY_SYSTEM"
    """By the scheduler itself, most often after an error."""
    LIMIT_REACHED = "LIMIT_REACHED"
    """A limit on what runs at once, or on what was used before."""
    QUEUE_CLOSED = "QUEUE_CLOSED"
    NOT_BEFORE_TIME = "NOT_BEFORE_TIME"
    """A time has to come first."""
    NODES_UNAVAILABLE = "NODES_UNAVAILABLE"
    CANNOT_RUN = "CANNOT_RUN"
    """It asks for more than there is, or for what it may not have."""
    REQUEUED = "REQUEUED"
    """It ran before, and nothing more is known."""


def status_of(
    state: JobState, stage: Stage | None = None, *, cancel_requested: bool = False
) -> JobStatus:
    """Return the wire status of a job.

    Args:
        state: the job's state.
        stage: the scheduler's finer word, when it gave one.
        cancel_requested: whether this service has asked the scheduler to end the job.

    >>> status_of(JobState.RUNNING, Stage.EXITING)
    <JobStatus.STOPPING: 'STOPPING'>
    """
    if state is JobState.UNDETERMINED:
        return JobStatus.UNKNOWN
    if state.is_final:
        return JobStatus.STOPPED
    cancelling = cancel_requested or stage is Stage.CANCELLING
    if state.is_queued and cancelling:
        return JobStatus.STOP_REQUESTED
    if state.is_queued:
        return JobStatus.STARTING if stage is Stage.DISPATCHING else JobStatus.START_REQUESTED
    if cancelling or stage is Stage.EXITING:
        return JobStatus.STOPPING
    if state is JobState.SUSPENDED:
        return JobStatus.DISABLED
    return JobStatus.STARTING if stage is Stage.DISPATCHING else JobStatus.RUNNING
