"""States and ends of OAR's jobs.

Sources: the checks of ``jobs.state`` in ``pg_structure.sql``, and ``check_end_of_job`` in
``OAR/IO.pm``, both of OAR 2.5.9, and the recordings in ``tests/recorded``.
"""

import signal
from collections.abc import Sequence

from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.schedulers.meanings import Outcome, StateMeaning

__all__ = ["outcome_of", "state_of"]

_STATES = {
    "Waiting": StateMeaning(JobState.QUEUED),
    # A job is inserted in this state, and becomes Waiting a moment later.
    "Hold": StateMeaning(
        JobState.QUEUED_HELD,
        reason="It is held until it is released.",
        code=ReasonCode.HELD_BY_USER,
    ),
    # An advance reservation that the scheduler has not confirmed.
    "toAckReservation": StateMeaning(JobState.QUEUED),
    "toLaunch": StateMeaning(JobState.QUEUED, Stage.DISPATCHING),
    "Launching": StateMeaning(JobState.RUNNING, Stage.DISPATCHING),
    "Running": StateMeaning(JobState.RUNNING),
    "Suspended": StateMeaning(JobState.SUSPENDED, reason="It is suspended."),
    "Resuming": StateMeaning(
        JobState.SUSPENDED, reason="It waits for its resources to be free again."
    ),
    "Finishing": StateMeaning(JobState.RUNNING, Stage.EXITING),
    "toError": StateMeaning(JobState.QUEUED, Stage.CANCELLING, reason="OAR gives it up."),
    # What they mean is in the exit code and the events, see `outcome_of`.
    "Terminated": StateMeaning(JobState.DONE),
    "Error": StateMeaning(JobState.FAILED),
}


def state_of(word: str) -> StateMeaning:
    """Return the meaning of a state; a word that is not known is UNDETERMINED."""
    unknown = StateMeaning(
        JobState.UNDETERMINED, reason=f"OAR's state {word!r} is not a known one."
    )
    return _STATES.get(word, unknown)


# Events of jobs that end in Error, the more telling first: a job past its wall time is deleted too.
_EVENTS = (
    ("WALLTIME", FailureKind.TIME_LIMIT, "It reached its wall time."),
    ("WORKING_DIRECTORY", FailureKind.SCHEDULER_ERROR, "Its directory could not be entered."),
    ("OUTPUT_FILES", FailureKind.SCHEDULER_ERROR, "Its output files could not be opened."),
    ("FRAG_JOB_REQUEST", FailureKind.CANCELLED, "It was deleted."),
    ("BESTEFFORT_KILL", FailureKind.CANCELLED, "It gave way to another job (besteffort)."),
    ("PING_CHECKER_NODE_SUSPECTED", FailureKind.NODE_FAILURE, "Its node did not answer."),
    ("CPUSET_ERROR", FailureKind.NODE_FAILURE, "Its node could not set up its processors."),
    ("EXTERMINATE_JOB", FailureKind.NODE_FAILURE, "Its node did not confirm its end."),
    ("LAUNCHING_OAREXEC_TIMEOUT", FailureKind.NODE_FAILURE, "Its node did not start it in time."),
    ("EXIT_VALUE_OAREXEC", FailureKind.NODE_FAILURE, "Its node could not run it."),
    ("USER_SHELL", FailureKind.NODE_FAILURE, "Its node does not know its owner."),
    ("PROLOGUE_ERROR", FailureKind.SCHEDULER_ERROR, "The site's prologue failed."),
    ("EPILOGUE_ERROR", FailureKind.SCHEDULER_ERROR, "The site's epilogue failed."),
    ("SERVER_PROLOGUE", FailureKind.SCHEDULER_ERROR, "The server's prologue failed."),
    ("SERVER_EPILOGUE", FailureKind.SCHEDULER_ERROR, "The server's epilogue failed."),
)


def outcome_of(word: str, wait_status: int | None, events: Sequence[str]) -> Outcome:
    """Return how a job ended.

    Args:
        word: ``Terminated`` or ``Error``.
        wait_status: what waitpid(2) said of the job's shell; None where it never ran.
        events: the types of the job's events.
    """
    code, number = _taken_apart(wait_status)
    if word == "Error":
        for name, kind, reason in _EVENTS:
            if any(event.startswith(name) for event in events):
                return Outcome(kind, reason, code, number)
        reason = "OAR reports an error and no cause."
        return Outcome(FailureKind.SCHEDULER_ERROR, reason, code, number)
    if number is not None:
        reason = f"It was ended by signal {_name(number)}."
        return Outcome(FailureKind.SIGNAL, reason, exit_signal=number)
    if code is None:
        return Outcome(FailureKind.UNKNOWN, "OAR does not tell its exit status.")
    if code != 0:
        return Outcome(FailureKind.NON_ZERO_EXIT, f"It exited with {code}.", code)
    return Outcome(exit_code=0)


def _taken_apart(wait_status: int | None) -> tuple[int | None, int | None]:
    if wait_status is None:
        return None, None
    number = wait_status & 0x7F
    return (None, number) if number else (wait_status >> 8 & 0xFF, None)


def _name(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)
