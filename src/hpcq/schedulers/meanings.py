"""Meanings of a scheduler's own words: of a state, and of the end of a job."""

from dataclasses import dataclass, replace

from hpcq.domain.jobs import Observation
from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage

__all__ = ["Outcome", "StateMeaning"]


@dataclass(frozen=True, slots=True)
class StateMeaning:
    """Meaning of one of a scheduler's state words.

    Attributes:
        state: the DRMAA2 state.
        stage: the finer point of it.
        failure_kind: for FAILED; None where the exit status decides.
        reason: for a person, where the word alone says it.
        code: the same for a program.
    """

    state: JobState
    stage: Stage | None = None
    failure_kind: FailureKind | None = None
    reason: str | None = None
    code: ReasonCode | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """End of a job.

    Attributes:
        failure_kind: None for success.
        reason: for a person; None for success.
        exit_code: the script's, where it ended by itself.
        exit_signal: the signal that ended it.
        code: what more than the kind of failure a program can be told.

    >>> Outcome(FailureKind.NON_ZERO_EXIT, exit_code=3).state
    <JobState.FAILED: 'FAILED'>
    """

    failure_kind: FailureKind | None = None
    reason: str | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    code: ReasonCode | None = None

    @property
    def state(self) -> JobState:
        """DONE for success, else FAILED."""
        return JobState.DONE if self.failure_kind is None else JobState.FAILED

    def apply(self, seen: Observation) -> Observation:
        """Return a job with this end."""
        return replace(
            seen,
            state=self.state,
            state_reason=self.reason,
            reason_code=self.code,
            failure_kind=self.failure_kind,
            exit_code=self.exit_code,
            exit_signal=self.exit_signal,
        )
