"""Transitions between states, as data.

DRMAA2 (GFD.231, section 8.1) draws a job's states and the steps between them. This service looks
at a scheduler now and then, and may miss states in between, so a row holds whatever can be
reached by those steps: a job seen in the queue may next be seen at its end.
"""

from collections.abc import Mapping

from hpcq.domain.states import JobState

__all__ = ["TRANSITIONS", "WAITS_AGAIN", "may_move"]

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
"""What a queued state is called once the job has run: Slurm shows both as PENDING."""


def may_move(old: JobState, new: JobState) -> bool:
    """Return whether a job in one state may be seen in the other next; it may always stay."""
    return new is old or new in TRANSITIONS[old]
