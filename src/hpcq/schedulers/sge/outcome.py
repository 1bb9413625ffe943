"""Outcome of a run: from the accounting's two words for it, and the limits that it reached."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hpcq.domain.states import FailureKind
from hpcq.domain.units import parse_clock
from hpcq.schedulers.meanings import Outcome
from hpcq.schedulers.sge.states import NO_FAILURE, failure_of, signal_of

__all__ = ["Used", "memory_specifier", "outcome_of", "read_limits"]

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
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a memory specifier: {text!r}")
    return float(match[1]) * _MULTIPLIERS[match[2]]
