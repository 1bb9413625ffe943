"""Meanings of PBS's state letters and exit statuses."""

import re
from collections.abc import Mapping

from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.schedulers.meanings import Outcome, StateMeaning
from hpcq.schedulers.pbs_family.values import parse_duration, read_figure

__all__ = ["hold_of", "is_over", "outcome_of", "state_of"]


# qstat(1B), "Job States"; each but M and U was seen on 23.06 (recordings).
_MEANINGS: dict[str, StateMeaning] = {
    "B": StateMeaning(JobState.RUNNING, reason="At least one task of the array has begun."),
    "E": StateMeaning(JobState.RUNNING, Stage.EXITING),
    "H": StateMeaning(JobState.QUEUED_HELD),
    "M": StateMeaning(
        JobState.UNDETERMINED, reason="It was moved to another server, which was not asked."
    ),
    "Q": StateMeaning(JobState.QUEUED),
    "R": StateMeaning(JobState.RUNNING),
    "S": StateMeaning(JobState.SUSPENDED, reason="It was suspended by PBS or by an operator."),
    "T": StateMeaning(
        JobState.QUEUED, Stage.DISPATCHING, reason="It is on its way to another queue."
    ),
    "U": StateMeaning(
        JobState.SUSPENDED, reason="It is suspended while somebody uses the workstation."
    ),
    "W": StateMeaning(
        JobState.QUEUED,
        reason="It waits for the time that it was submitted for.",
        code=ReasonCode.NOT_BEFORE_TIME,
    ),
}
_REQUEUED = {
    JobState.QUEUED: JobState.REQUEUED,
    JobState.QUEUED_HELD: JobState.REQUEUED_HELD,
}
_TERMINATED = "91"  # JOB_SUBSTATE_TERMINATED: deleted by someone


def is_over(letter: str) -> bool:
    """Return whether a job in this state has ended: ``F``, and ``X`` for a task of an array."""
    return letter in ("F", "X")


def state_of(letter: str, *, has_run: bool = False) -> StateMeaning:
    """Return what a state of ``qstat`` says of a job that has not ended.

    Args:
        letter: ``job_state``.
        has_run: whether a run of it was counted before (``run_count``), which makes a waiting
            job one that was put back.
    """
    meaning = _MEANINGS.get(letter)
    if meaning is None:
        return StateMeaning(
            JobState.UNDETERMINED, reason=f"PBS's state {letter!r} is not a known one."
        )
    if has_run and meaning.state in _REQUEUED:
        state, reason = _REQUEUED[meaning.state], "It ran before and was put back."
        return StateMeaning(state, meaning.stage, reason=reason, code=meaning.code)
    return meaning


_HOLDS = (
    ("u", "It is held by its owner.", ReasonCode.HELD_BY_USER),
    ("o", "It is held by an operator.", ReasonCode.HELD_BY_OPERATOR),
    ("s", "It is held by PBS.", ReasonCode.HELD_BY_SYSTEM),
    ("p", "It is held because its owner's password was refused.", ReasonCode.HELD_BY_SYSTEM),
)


def hold_of(kinds: str, *, has_dependency: bool) -> StateMeaning:
    """Return what keeps a job in the state ``H``.

    Args:
        kinds: ``Hold_Types``: letters, ``n`` for none.
        has_dependency: whether it depends on others.

    >>> hold_of("u", has_dependency=False).code
    <ReasonCode.HELD_BY_USER: 'HELD_BY_USER'>
    """
    held = JobState.QUEUED_HELD
    if has_dependency:
        reason = "It waits for the jobs that it depends on."
        return StateMeaning(held, reason=reason, code=ReasonCode.WAITING_FOR_DEPENDENCY)
    for kind, reason, code in _HOLDS:
        if kind in kinds:
            return StateMeaning(held, reason=reason, code=code)
    return StateMeaning(held)


_FAULT, _NODE = FailureKind.SCHEDULER_ERROR, FailureKind.NODE_FAILURE

# job.h, JOB_EXEC_*; -29 was seen (recording qstat-x-f-json.finished-walltime-killed).
_NEGATIVE: dict[int, tuple[FailureKind, str]] = {
    -1: (_FAULT, "It could not be started, before its files were made."),
    -2: (_FAULT, "It could not be started, after its files were made."),
    -3: (_FAULT, "It could not be started; PBS was to try again."),
    -4: (_NODE, "It ended because the execution host was initialised anew."),
    -5: (_NODE, "It ended because the execution host was initialised anew; it had a checkpoint."),
    -6: (_NODE, "It ended because the execution host was initialised anew; it had migrated."),
    -7: (_FAULT, "Its checkpoint could not be restarted."),
    -8: (_FAULT, "The command that sets the job up failed."),
    -10: (_FAULT, "Its owner is unknown on the execution host."),
    -11: (_FAULT, "It was put back to be run again."),
    -12: (_FAULT, "It was checkpointed and killed."),
    -13: (_FAULT, "Its owner's password was refused."),
    -14: (_FAULT, "It was put back because another host of it failed."),
    -15: (_FAULT, "The state of its restart was asked for."),
    -16: (_FAULT, "A hook of the site refused it before it began, to be run again."),
    -17: (_FAULT, "A hook of the site refused it before it began."),
    -18: (_FAULT, "A hook of the site ended it, to be run again."),
    -19: (_FAULT, "A hook of the site ended it."),
    -20: (_NODE, "The hosts of the job lost each other."),
    -21: (_FAULT, "Its security set-up failed."),
    -22: (_FAULT, "A hook of the site failed."),
    -23: (_FAULT, "Its Kerberos set-up failed."),
    -24: (_FAULT, "It ended because it used more CPUs at once than it asked for."),
    -25: (_FAULT, "It ended because it used more CPUs than it asked for."),
    -26: (FailureKind.OUT_OF_MEMORY, "It ended because it exceeded its limit of virtual memory."),
    -27: (FailureKind.OUT_OF_MEMORY, "It ended because it exceeded its limit of memory."),
    -28: (FailureKind.TIME_LIMIT, "It ended because it exceeded its limit of CPU time."),
    -29: (FailureKind.TIME_LIMIT, "It ended because it exceeded its wall time limit."),
    -30: (_FAULT, "Its processes could not be joined to it."),
    -31: (FailureKind.OUT_OF_MEMORY, "It ended because it exceeded its limit of huge pages."),
    -32: (_NODE, "It was put back because its host had ended it without a word."),
}
_SIGNALS_FROM = 256
"""The host's daemon adds this to the signal that ended a job (265 for KILL); a shell that
reports how its child ended adds 128, which looks like an exit status and is left one."""
_HIGHEST_SIGNAL = 64
_CANNOT_EXECUTE = 254
_SIGXCPU = 24
# KILL and TERM end a job at a limit, where PBS (before 2020) or the kernel has no code for it.
_KILLED_BY = frozenset({9, 15})
_UNSEEN = 120.0
"""The host's daemon looks at what a job uses every 10 to 120 seconds (``$max_check_poll``)."""

_EXCEEDED = re.compile(r"\bexceeded resource (\w+)")
_OVER_MEMORY = frozenset({"mem", "vmem", "pmem", "pvmem"})
_OVER_TIME = frozenset({"walltime", "cput", "pcput"})
_DELETED = re.compile(r" and terminated(?: by (\S+))?$")


def outcome_of(
    status: int | None,
    *,
    substate: str = "",
    comment: str = "",
    deleted_by: str | None = None,
    has_dependency: bool = False,
    began: bool = False,
    asked: Mapping[str, str] | None = None,
    used: Mapping[str, str] | None = None,
) -> Outcome:
    """Return how a job ended whose state is ``F`` or ``X``.

    Args:
        status: ``Exit_status``; None for one that never ran, or that ended unseen.
        substate: the number beside the state; 91 for a deleted job.
        comment: PBS's own words.
        deleted_by: who deleted it, where a log tells; empty where it does not say who.
        has_dependency: whether it depended on others.
        began: whether it is known to have begun.
        asked: ``Resource_List``; a signal at one of its limits was sent because of that.
        used: ``resources_used``.
    """
    deletion = _DELETED.search(comment)
    if deletion is not None and deleted_by is None:
        deleted_by = deletion[1] or ""
    deleted = substate == _TERMINATED or deleted_by is not None
    by = f" by {deleted_by}" if deleted_by else ""
    if status is None:
        return _without_status(deleted, by, has_dependency, began)
    code, signal = _split(status)
    exceeded = _EXCEEDED.search(comment)
    limit = None if exceeded is None else exceeded[1]
    if limit in _OVER_MEMORY | _OVER_TIME:
        kind = FailureKind.OUT_OF_MEMORY if limit in _OVER_MEMORY else FailureKind.TIME_LIMIT
        return Outcome(kind, f"It exceeded its limit of {limit}.", code, signal)
    if deleted:
        # Its last status may well be 0: a script can end in peace when it is asked to.
        return Outcome(FailureKind.CANCELLED, f"It was deleted{by}.", code, signal)
    if status < 0:
        kind, reason = _NEGATIVE.get(
            status, (FailureKind.UNKNOWN, f"It ended with the code {status} of PBS.")
        )
        return Outcome(kind, reason)
    limit = None if signal is None else _limit_reached(signal, asked or {}, used or {})
    if limit is not None:
        reason = f"It was ended by signal {signal} at its limit of {limit}."
        return Outcome(FailureKind.TIME_LIMIT, reason, None, signal)
    if signal is not None:
        return Outcome(FailureKind.SIGNAL, f"It was ended by signal {signal}.", None, signal)
    if status == 0:
        return Outcome(exit_code=0)
    is_odd = status == _CANNOT_EXECUTE
    hint = ", which PBS also says when a job's shell cannot be executed" if is_odd else ""
    return Outcome(FailureKind.NON_ZERO_EXIT, f"It exited with {status}{hint}.", code)


def _limit_reached(signal: int, asked: Mapping[str, str], used: Mapping[str, str]) -> str | None:
    """Return the limit of time that a signal seems to have enforced; None for none."""
    limits = {name: read_figure(parse_duration, text) for name, text in asked.items()}
    wall = read_figure(parse_duration, used.get("walltime"))
    spent = read_figure(parse_duration, used.get("cput"))
    limit = limits.get("walltime")
    if signal in _KILLED_BY and limit is not None and wall is not None and wall >= limit:
        return "walltime"
    for name in ("cput", "pcput"):
        limit = limits.get(name)
        if limit is None:
            continue
        if signal == _SIGXCPU:
            return name
        # The kernel ends it by KILL, before PBS has looked at its CPU time again (recording
        # qstat-x-f-json.finished-cput-killed).
        could_reach = wall is not None and wall >= limit and (spent or 0) + _UNSEEN >= limit
        if signal in _KILLED_BY and could_reach:
            return name
    return None


def _without_status(deleted: bool, by: str, has_dependency: bool, began: bool) -> Outcome:
    if deleted:
        when = "" if began else " before it began"
        return Outcome(FailureKind.CANCELLED, f"It was deleted{by}{when}.")
    if has_dependency and not began:
        reason = "It never began: what it depends on did not end as it has to."
        code = ReasonCode.DEPENDENCY_NEVER_SATISFIED
        return Outcome(FailureKind.CANCELLED, reason, code=code)
    reason = "It left the queue without an exit status."
    return Outcome(FailureKind.SCHEDULER_ERROR, reason)


def _split(status: int) -> tuple[int | None, int | None]:
    """Return exit code and signal."""
    if _SIGNALS_FROM < status <= _SIGNALS_FROM + _HIGHEST_SIGNAL:
        return None, status - _SIGNALS_FROM
    return (status, None) if 0 <= status < _SIGNALS_FROM else (None, None)
