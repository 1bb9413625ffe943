"""The states of a job: DRMAA2's, the wire's, and the mapping between them."""

from enum import StrEnum

__all__ = ["FailureKind", "JobState", "JobStatus", "Stage", "status_of"]


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
        """True when a job never leaves this state."""
        return self in _FINAL

    @property
    def is_queued(self) -> bool:
        """True when the job waits to be started, held or not."""
        return self in _QUEUED


_FINAL = frozenset({JobState.DONE, JobState.FAILED})
_QUEUED = frozenset(
    {JobState.QUEUED, JobState.QUEUED_HELD, JobState.REQUEUED, JobState.REQUEUED_HELD}
)


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


def status_of(
    state: JobState, stage: Stage | None = None, *, cancel_requested: bool = False
) -> JobStatus:
    """Return the wire status of a job.

    Args:
        state: the job's state.
        stage: the scheduler's finer word, when it gave one.
        cancel_requested: whether this service has asked the scheduler to end the job.
    """
    if state is JobState.UNDETERMINED:
        return JobStatus.UNKNOWN
    if state.is_final:
        return JobStatus.STOPPED
    cancelling = cancel_requested or stage is Stage.CANCELLING
    if state.is_queued:
        return JobStatus.STOP_REQUESTED if cancelling else _queued_status(stage)
    if cancelling or stage is Stage.EXITING:
        return JobStatus.STOPPING
    if state is JobState.SUSPENDED:
        return JobStatus.DISABLED
    return JobStatus.STARTING if stage is Stage.DISPATCHING else JobStatus.RUNNING


def _queued_status(stage: Stage | None) -> JobStatus:
    return JobStatus.STARTING if stage is Stage.DISPATCHING else JobStatus.START_REQUESTED
