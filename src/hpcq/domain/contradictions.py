"""Contradictions: observations that no legal life of a job explains.

`hpcq.domain.job_merge.observe` leaves the record as it is then.
"""

from dataclasses import dataclass

from hpcq.domain import runs
from hpcq.domain.identity import same_job
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.domain.states import JobState

__all__ = ["Contradiction", "find_contradiction"]

_NOT_SAID = (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """Something a scheduler said of a job that no legal life explains.

    Attributes:
        held: the state that the record has, and keeps.
        said: the state in the scheduler's answer.
        native_state: the scheduler's raw word for it.
        reason: why it cannot be, in words.
    """

    uid: JobUid
    native_id: NativeId
    held: JobState
    said: JobState
    native_state: str | None
    reason: str


def find_contradiction(record: JobRecord, seen: Observation) -> Contradiction | None:
    """Return what is impossible about an observation, or None when a legal life explains it.

    `observe` leaves the record as it is. A run of the job that is known to be over is none, nor
    is a submission that was given up and turns up.

    Args:
        record: the job whose key the observation carries, or whose id.
        seen: from the queue, from accounting or from details.
    """
    reason = _impossible(record, seen)
    if reason is None:
        return None
    return Contradiction(
        uid=record.uid,
        native_id=seen.native_id,
        held=record.state,
        said=seen.state,
        native_state=seen.native_state,
        reason=reason,
    )


def _impossible(record: JobRecord, seen: Observation) -> str | None:
    if record.submitted_here and seen.submission_key == record.key and not same_job(record, seen):
        return (
            f"The job {seen.native_id} carries the key of this one, to which the scheduler had "
            f"given the id {record.native_id}."
        )
    if not record.state.is_final or record.native_id is None or not same_job(record, seen):
        return None
    if runs.is_of_earlier_run(record, seen) or runs.is_of_later_run(record, seen):
        return None
    if not seen.state.is_final:
        return (
            f"It had ended, as {record.state}, and is now said to be {seen.state}; nothing shows "
            "that it was put back into the queue."
        )
    held, said = _ending_of(record.seen), _ending_of(seen)
    differs = held != said and _NOT_SAID not in (held, said)
    if seen.state is record.state and not differs:
        return None
    return (
        f"It had ended, as {_in_words(record.state, held)}, and is now said to have ended as "
        f"{_in_words(seen.state, said)}."
    )


def _ending_of(seen: Observation | None) -> tuple[int | None, int | None]:
    return _NOT_SAID if seen is None else (seen.exit_code, seen.exit_signal)


def _in_words(state: JobState, ending: tuple[int | None, int | None]) -> str:
    code, signal = ending
    if signal is not None:
        return f"{state} by signal {signal}"
    return str(state) if code is None else f"{state} with exit code {code}"
