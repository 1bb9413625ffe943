"""One answer from two sources: accounting, and what the controller still knows; pure."""

from collections.abc import Collection
from dataclasses import fields, replace

from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind
from hpcq.schedulers.base import Listing
from hpcq.schedulers.slurm.outcome import recognise_memory_kill

__all__ = ["combine"]

_OUTCOME = ("failure_kind", "state_reason", "exit_code", "exit_signal")
_UNCLEAR = (FailureKind.UNKNOWN, FailureKind.NON_ZERO_EXIT)
_NAMES = tuple(field.name for field in fields(Observation))


def combine(accounted: Listing, seen: Listing, *, waiting: Collection[NativeId] = ()) -> Listing:
    """Return the final states of jobs.

    Args:
        accounted: from sacct.
        seen: from squeue, for the same ids; jobs that are not over are left aside.
        waiting: jobs on whose end the controller's word alone is not taken yet.
    """
    over = {one.native_id: one for one in seen.observations if one.state.is_final}
    known = {one.native_id for one in accounted.observations}
    alone = [one for i, one in over.items() if i not in known and i not in waiting]
    completed = (_complete(one, over) for one in accounted.observations)
    return replace(accounted, observations=[*completed, *alone])


def _complete(accounted: Observation, over: dict[NativeId, Observation]) -> Observation:
    """Complete accounting's word on a job with the controller's.

    sacct shows exit codes from 128 on less 128 (137 as 9, and 128 as none; until 25.05), spoils
    quotes and characters beyond the BMP in names, and its record may lack most columns at first
    (all seen in 22.05).
    """
    seen = over.get(accounted.native_id)
    if seen is None or accounted.submit_time not in (None, seen.submit_time):
        return accounted
    gaps = {name: getattr(seen, name) for name in _NAMES if getattr(accounted, name) is None}
    gaps["name"] = seen.name
    if accounted.failure_kind in _UNCLEAR and seen.failure_kind not in (None, FailureKind.UNKNOWN):
        gaps |= {name: getattr(seen, name) for name in _OUTCOME}
    return recognise_memory_kill(replace(accounted, **gaps))
