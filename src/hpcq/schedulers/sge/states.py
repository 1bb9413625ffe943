"""Meanings of Grid Engine's state letters and failure codes, and the outcome of a run."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.domain.units import parse_clock
from hpcq.schedulers.meanings import Outcome, StateMeaning

__all__ = [
    "INTERMEDIATE_FAILURES",
    "NO_FAILURE",
    "Used",
    "failure_of",
    "is_in_error",
    "memory_specifier",
    "outcome_of",
    "read_limits",
    "reason_in",
    "signal_of",
    "state_of",
]

_QUEUED, _HELD = JobState.QUEUED, JobState.QUEUED_HELD
_REQUEUED, _REQUEUED_HELD = JobState.REQUEUED, JobState.REQUEUED_HELD
_RUNNING, _SUSPENDED = JobState.RUNNING, JobState.SUSPENDED

_BY_OWNER = "It was suspended by its owner or an operator."
_BY_QUEUE = "It was suspended together with its queue."
_BY_ALARM = "It was suspended: its host's load is above the queue's suspend threshold."

# sge_status(5), qstat(1), and what 8.1.9 really printed (recordings). The order of the letters
# differs between releases (``hRwq`` in the manual, ``hRqw`` and ``Rq`` on the screen), hence sets.
_WORDS: dict[frozenset[str], StateMeaning] = {
    frozenset(letters): StateMeaning(state, stage, reason=reason)
    for letters, state, stage, reason in (
        # pending
        ("qw", _QUEUED, None, None),
        ("q", _QUEUED, None, None),  # between two scheduling runs
        ("w", _QUEUED, None, None),
        ("hqw", _HELD, None, None),  # a user's, an operator's or a system hold; or a dependency
        ("hq", _HELD, None, None),
        ("hw", _HELD, None, None),
        ("h", _HELD, None, None),
        # pending again: rescheduled, its host died, or it ended with 99
        ("Rqw", _REQUEUED, None, "It was put back into the queue."),
        ("Rq", _REQUEUED, None, "It was put back into the queue."),
        ("hRqw", _REQUEUED_HELD, None, "It was put back into the queue."),
        ("hRq", _REQUEUED_HELD, None, "It was put back into the queue."),
        # sent to a host, which has not confirmed it yet
        ("t", _RUNNING, Stage.DISPATCHING, None),
        ("Rt", _RUNNING, Stage.DISPATCHING, None),
        ("ht", _RUNNING, Stage.DISPATCHING, None),
        ("hRt", _RUNNING, Stage.DISPATCHING, None),
        # running; a hold set meanwhile acts when it is rescheduled
        ("r", _RUNNING, None, None),
        ("Rr", _RUNNING, None, None),
        ("hr", _RUNNING, None, None),
        ("hRr", _RUNNING, None, None),
        ("rt", _RUNNING, None, None),  # migrating
        # suspended
        ("s", _SUSPENDED, None, _BY_OWNER),
        ("ts", _SUSPENDED, None, _BY_OWNER),
        ("Rs", _SUSPENDED, None, _BY_OWNER),
        ("Rts", _SUSPENDED, None, _BY_OWNER),
        ("hs", _SUSPENDED, None, _BY_OWNER),
        ("S", _SUSPENDED, None, _BY_QUEUE),
        ("tS", _SUSPENDED, None, _BY_QUEUE),
        ("RS", _SUSPENDED, None, _BY_QUEUE),
        ("RtS", _SUSPENDED, None, _BY_QUEUE),
        ("hS", _SUSPENDED, None, _BY_QUEUE),
        ("sS", _SUSPENDED, None, _BY_QUEUE),
        ("T", _SUSPENDED, None, _BY_ALARM),
        ("tT", _SUSPENDED, None, _BY_ALARM),
        ("RT", _SUSPENDED, None, _BY_ALARM),
        ("RtT", _SUSPENDED, None, _BY_ALARM),
        ("hT", _SUSPENDED, None, _BY_ALARM),
        ("sT", _SUSPENDED, None, _BY_ALARM),
        ("ST", _SUSPENDED, None, _BY_ALARM),
    )
}

_IN_ERROR = "Grid Engine could not start it, and holds it until the error is cleared."


def state_of(word: str) -> StateMeaning:
    """Return the meaning of a state of ``qstat`` (``hqw``, ``Rr``, ``dt``, ``Eqw``).

    ``d`` may stand in any state: deletion was asked for. ``E`` may stand in any pending one: a
    start failed, and the job waits until someone clears the error (``qmod -cj``) or deletes it;
    it has not ended, therefore it counts as held. A word that is in no table is UNDETERMINED.

    >>> state_of("hqw").state
    <JobState.QUEUED_HELD: 'QUEUED_HELD'>
    """
    letters = frozenset(word)
    known = _WORDS.get(letters - {"d", "E"})
    if known is None or len(letters) != len(word):
        return StateMeaning(
            JobState.UNDETERMINED, reason=f"Grid Engine's state {word!r} is not a known one."
        )
    state, stage, reason, code = known.state, known.stage, known.reason, None
    if "E" in letters:
        state = _REQUEUED_HELD if "R" in letters else _HELD
        reason, code = _IN_ERROR, ReasonCode.HELD_BY_SYSTEM
    if "d" in letters:
        stage = Stage.CANCELLING
    return StateMeaning(state, stage, reason=reason, code=code)


# The messages of 8.1.9 (msg_schedd.h); a job may have several, and the first row decides.
_REMARKS = tuple(
    (re.compile(pattern), code)
    for pattern, code in (
        (r"because of job dependencies", ReasonCode.WAITING_FOR_DEPENDENCY),
        (r"execution time not reached", ReasonCode.NOT_BEFORE_TIME),
        (
            r"user limitations|exceeds limit|exceeding limit|dynamical limit",
            ReasonCode.LIMIT_REACHED,
        ),
        (
            r"only offers [0-9]+ slots|not available for parallel job"
            r"|because (?:it is|they are) full|overload|insufficient slots|\(-l .*\) cannot run",
            ReasonCode.WAITING_FOR_RESOURCES,
        ),
        (r"temporarily not available", ReasonCode.NODES_UNAVAILABLE),
        (r"because (?:it is|they are) (?:suspended|disabled)", ReasonCode.QUEUE_CLOSED),
    )
)


def reason_in(remarks: Iterable[str]) -> ReasonCode | None:
    """Return the meaning of what the scheduler says of a waiting job; None when it is not known."""
    said = list(remarks)
    return next(
        (code for pattern, code in _REMARKS if any(pattern.search(text) for text in said)), None
    )


def is_in_error(word: str | None) -> bool:
    """Return whether a state of ``qstat`` is an error state: ``Eqw``, ``EhRqw``."""
    return word is not None and "E" in word


@dataclass(frozen=True, slots=True)
class Failure:
    """One value of the accounting field ``failed``.

    Attributes:
        words: its meaning as a sentence without a full stop.
        kind: what it counts as.
        ran: whether the job itself ran, so that its usage and exit status are its own.
    """

    words: str
    kind: FailureKind
    ran: bool


NO_FAILURE = 0

# After these the job is queued again (or in the error state): its story is not over.
INTERMEDIATE_FAILURES = frozenset({24, 25})

_NOT_STARTED = FailureKind.SCHEDULER_ERROR

# sge_status(5) of 8.1.9; 2011.11 has the same numbers up to 37.
_FAILURES: dict[int, Failure] = {
    1: Failure("It failed early in the execution daemon", _NOT_STARTED, ran=False),
    3: Failure("The execution host could not set up its spool directory", _NOT_STARTED, ran=False),
    4: Failure("The shepherd could not record its process id", _NOT_STARTED, ran=False),
    5: Failure("The execution host could not read its configuration", _NOT_STARTED, ran=False),
    6: Failure("The processor set could not be set up", _NOT_STARTED, ran=False),
    7: Failure("It failed before the prolog", _NOT_STARTED, ran=False),
    8: Failure("The prolog failed", _NOT_STARTED, ran=False),
    9: Failure("It failed before the start of the parallel environment", _NOT_STARTED, ran=False),
    10: Failure("The start of the parallel environment failed", _NOT_STARTED, ran=False),
    11: Failure("The shepherd failed before it started the job", _NOT_STARTED, ran=False),
    12: Failure("It failed before the stop of the parallel environment", _NOT_STARTED, ran=True),
    13: Failure("The stop of the parallel environment failed", _NOT_STARTED, ran=True),
    14: Failure("It failed before the epilog", _NOT_STARTED, ran=True),
    15: Failure("The epilog failed", _NOT_STARTED, ran=True),
    16: Failure("The processor set could not be released", _NOT_STARTED, ran=True),
    17: Failure("It was ended by a signal", FailureKind.SIGNAL, ran=True),
    18: Failure("The shepherd died", FailureKind.NODE_FAILURE, ran=False),
    19: Failure(
        "The host or the shepherd crashed before the exit status was written",
        FailureKind.NODE_FAILURE,
        ran=False,
    ),
    20: Failure("The shepherd met a problem", _NOT_STARTED, ran=False),
    21: Failure("The execution host no longer knew the job", FailureKind.NODE_FAILURE, ran=False),
    24: Failure("It was moved to another host", _NOT_STARTED, ran=True),
    25: Failure("It was put back into the queue", _NOT_STARTED, ran=True),
    26: Failure("Its output file could not be opened", _NOT_STARTED, ran=False),
    27: Failure("Its shell or interpreter was not found", _NOT_STARTED, ran=False),
    28: Failure("Its working directory could not be entered", _NOT_STARTED, ran=False),
    29: Failure("The AFS security could not be set up", _NOT_STARTED, ran=False),
    30: Failure(
        "It ended with 100, which asks Grid Engine to keep it in the error state",
        FailureKind.NON_ZERO_EXIT,
        ran=True,
    ),
    31: Failure("The password file could not be read", _NOT_STARTED, ran=False),
    32: Failure("Its owner is missing in the password file", _NOT_STARTED, ran=False),
    33: Failure("Its owner's password is wrong", _NOT_STARTED, ran=False),
    34: Failure("The helper service could not be reached", _NOT_STARTED, ran=False),
    35: Failure("The helper service failed before the job", _NOT_STARTED, ran=False),
    36: Failure("The remote start-up daemon is not configured", _NOT_STARTED, ran=False),
    37: Failure("It exceeded a limit", FailureKind.TIME_LIMIT, ran=True),
    38: Failure("The supplementary group could not be added", _NOT_STARTED, ran=False),
    100: Failure("It was ended by a signal, or lost with its host", FailureKind.SIGNAL, ran=True),
}


def failure_of(code: int) -> Failure:
    """Return the meaning of a ``failed`` value; an unlisted one is a failure of unknown kind."""
    return _FAILURES.get(
        code, Failure(f"Grid Engine's failure code {code}", FailureKind.UNKNOWN, ran=False)
    )


def signal_of(exit_status: int) -> int | None:
    """Return the signal in an ``exit_status`` above 128 (accounting(5)), else None.

    >>> signal_of(137)
    9
    """
    return exit_status - 128 if 128 < exit_status <= 128 + 64 else None


_SIGKILL, _SIGUSR1, _SIGXCPU = 9, 10, 24
_ENDED_BY = {
    _SIGKILL: ("h_rt", "h_vmem", "h_cpu"),
    _SIGUSR1: ("s_rt",),
    _SIGXCPU: ("s_vmem", "s_cpu", "h_cpu"),
}
_NEARLY = 0.9  # the kernel and the daemon measure differently, and the last sample may be late

_MEMORY = re.compile(r"([0-9.]+)([kKmMgGtT]?)")
# sge_types(5): small letters are decimal multiples, capital ones binary.
_MULTIPLIERS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_MULTIPLIERS |= {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, slots=True)
class Used:
    """Use of what is limited, by one run; 0 for what was not measured."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_bytes: float = 0.0


def outcome_of(failed: int, exit_status: int, used: Used, limits: Mapping[str, float]) -> Outcome:
    """Return how a run ended.

    ``failed`` and ``exit_status`` are two things (sge_status(5)): a job that never started has
    ``failed`` 28 and exit status 0; a signal has ``failed`` 100 and 128 + n; a script that itself
    ends with 137 has ``failed`` 0.
    """
    if failed == NO_FAILURE:
        if exit_status == 0:
            return Outcome(exit_code=0)
        reason = f"It exited with {exit_status}."
        return Outcome(FailureKind.NON_ZERO_EXIT, reason, exit_status)
    failure = failure_of(failed)
    words = f"{failure.words} (Grid Engine's failed={failed})"
    if not failure.ran:
        return Outcome(failure.kind, f"{words}.")
    signal = signal_of(exit_status)
    if signal is None:
        kind = failure.kind
        if kind is FailureKind.SIGNAL:
            kind = FailureKind.NON_ZERO_EXIT if exit_status else FailureKind.UNKNOWN
        return Outcome(kind, f"{words}.", exit_status)
    exceeded, why = _exceeded(signal, used, limits)
    reason = why or f"{words}; signal {signal} ended it."
    return Outcome(exceeded or failure.kind, reason, exit_signal=signal)


def _exceeded(
    signal: int, used: Used, limits: Mapping[str, float]
) -> tuple[FailureKind | None, str | None]:
    """Return the kind of limit that a job had reached when a signal ended it, and the reason.

    queue_conf(5): ``h_rt``, ``h_cpu`` and ``h_vmem`` end it with SIGKILL, ``s_rt`` with SIGUSR1,
    ``s_cpu`` and ``s_vmem`` with SIGXCPU.
    """
    reached = {
        "rt": used.wall_seconds,
        "vmem": used.memory_bytes / _NEARLY,
        "cpu": used.cpu_seconds / _NEARLY,
    }
    for name in _ENDED_BY.get(signal, ()):
        if reached[name[2:]] >= limits.get(name, math.inf):
            if name.endswith("vmem"):
                return FailureKind.OUT_OF_MEMORY, f"It exceeded its memory limit ({name})."
            what = "wall" if name.endswith("rt") else "CPU"
            limit = f"{what} time limit of {limits[name]:g} s ({name})"
            return FailureKind.TIME_LIMIT, f"It was ended at its {limit}."
    return None, None


def read_limits(category: str, slots: int) -> dict[str, float]:
    """Return the whole job's limits in a category: ``-l h_rt=600,h_vmem=1G`` (seconds; bytes).

    Those of memory and of CPU time are asked for each slot.

    >>> read_limits("-l h_rt=600,h_vmem=1G", slots=2)
    {'h_rt': 600.0, 'h_vmem': 2147483648.0}
    """
    match = re.search(r"(?:^|\s)-l\s+(\S+)", category)
    limits = {}
    for request in match[1].split(",") if match else ():
        name, _, value = request.partition("=")
        try:
            if name in ("h_rt", "s_rt"):
                limits[name] = parse_clock(value)
            elif name in ("h_cpu", "s_cpu"):
                limits[name] = parse_clock(value) * slots
            elif name in ("h_vmem", "s_vmem"):
                limits[name] = memory_specifier(value) * slots
        except ValueError:
            continue  # INFINITY
    return limits


def memory_specifier(text: str) -> float:
    """Return bytes: ``1G`` is 2**30, ``1g`` is 10**9 (sge_types(5)).

    Raises:
        ValueError: the text is no memory specifier.

    >>> memory_specifier("1G"), memory_specifier("1g")
    (1073741824.0, 1000000000.0)
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a memory specifier: {text!r}")
    return float(match[1]) * _MULTIPLIERS[match[2]]
