"""Jobs that left the queue while they waited: Grid Engine writes no record of their deletion.

A job that was started has a record soon after its end, as late as the qmaster's ``flush_time``.
One that was last seen waiting, and has none by then, was deleted before it started.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.domain.units import parse_clock

__all__ = ["Departures", "parse_record_delay"]

_KEPT = 10_000
_REASON = "It was deleted while it waited, and never started."

# sge_conf(5), reporting_params
_ACCOUNTING = re.compile(r"\baccounting=(\w+)")
_FLUSH_TIME = re.compile(r"\b(?:accounting_)?flush_time=([0-9:]+)")
_DEFAULT_FLUSH_SECONDS = 15.0
_ON_ITS_WAY_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class _Departure:
    seen: Observation
    at: datetime


class Departures:
    """Remembers which jobs waited when they were last seen, and are gone."""

    def __init__(self) -> None:
        self._left: OrderedDict[NativeId, _Departure] = OrderedDict()

    def note(
        self,
        before: Mapping[NativeId, Observation],
        now: Mapping[NativeId, Observation],
        at: datetime,
    ) -> None:
        """Compare a listing with the one before it.

        Args:
            before: what that one showed.
            now: what the newer one shows.
            at: when the newer one was answered: a job may have ended just before.
        """
        told_apart = {seen.array_job_id for seen in before.values() if seen.array_task_id}
        for native_id in before.keys() - now.keys():
            # Of an array its tasks tell, if they are known.
            if before[native_id].state.is_queued and native_id not in told_apart:
                self._left[native_id] = _Departure(before[native_id], at)
        for native_id in self._left.keys() & now.keys():
            del self._left[native_id]
        while len(self._left) > _KEPT:
            self._left.popitem(last=False)

    def of(self, numbers: Iterable[str]) -> dict[NativeId, Observation]:
        """Return the ends of the jobs with these numbers that left, and of their tasks.

        They are true of those that the accounting does not show in time.
        """
        wanted = set(numbers)
        return {
            native_id: replace(
                left.seen,
                state=JobState.FAILED,
                native_state=None,
                stage=None,
                state_reason=_REASON,
                failure_kind=FailureKind.CANCELLED,
                start_time=None,
                end_time=left.at,
            )
            for native_id, left in self._left.items()
            if native_id.partition("[")[0] in wanted
        }

    def is_due(self, native_id: NativeId, at: datetime, delay: timedelta) -> bool:
        """Whether a job that left would have its record by now, if it had been started."""
        return at - self._left[native_id].at >= delay


def parse_record_delay(configuration: bytes) -> timedelta | None:
    """Return how long after its end a job has its record, by what ``qconf -sconf`` printed.

    Returns:
        None where the accounting is off.
    """
    text = configuration.decode("utf-8", "replace")
    kept = _ACCOUNTING.search(text)
    if kept is not None and kept[1] != "true":
        return None
    times = [parse_clock(match) for match in _FLUSH_TIME.findall(text)]
    return timedelta(seconds=max(times, default=_DEFAULT_FLUSH_SECONDS) + _ON_ITS_WAY_SECONDS)
