"""How jobs ended that left the queue: asked of the accounting, again and again while it is late."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from hpcq.domain import life, runs
from hpcq.domain.errors import HpcqError
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.schedulers.base import Listing, SchedulerBackend

__all__ = ["Resolver"]

_log = structlog.get_logger("hpcq.monitor")

_NOT_IN_ACCOUNTING = (
    "It left the scheduler's queue, and the scheduler's accounting does not show it yet."
)
_WITHOUT_ACCOUNTING = (
    "It left the scheduler's queue, and the accounting could not be asked: {detail}"
)
_DEFECT = "this service failed to read its answer; the log says why."
_NEVER_KNOWN = (
    "It left the scheduler's queue, and within {days:.3g} days neither the queue nor the "
    "accounting said how it ended. It is not asked about any more."
)
# A scheduler may show a job only some time after it took it (pyfirecrest 199).
_VISIBILITY = timedelta(seconds=10)
_SLOWEST_RECHECK = timedelta(seconds=60)


@dataclass(slots=True)
class _Recheck:
    """When to look for a vanished job again."""

    due: datetime
    wait: timedelta


class Resolver:
    """Looks for vanished jobs, each at its own, growing, distances.

    Args:
        backend: whose accounting is asked.
        first_wait: from the first time that a job was not found to the next.
        at_most: how long a job that nobody knows of is looked for.

    Attributes:
        incomplete: ended jobs of which the accounting, which was away, has still to tell the usage.
    """

    def __init__(
        self, backend: SchedulerBackend, first_wait: timedelta, at_most: timedelta
    ) -> None:
        self._backend = backend
        self._first_wait = first_wait
        self._at_most = at_most
        self._rechecks: dict[JobUid, _Recheck] = {}
        self.incomplete: set[JobUid] = set()

    async def resolve(
        self, missing: Sequence[JobRecord], last_seen: datetime | None, at: datetime
    ) -> list[JobRecord]:
        """Ask for those of the missing jobs whose time has come; return those that changed.

        Args:
            missing: all jobs that are to be somewhere, and are not in the queue; and the
                incomplete ones.
            last_seen: when they last may have been in the queue.
            at: now.
        """
        due = self._due(missing, at)
        if not due:
            return []
        listing, reason = await self._history([r.native_id for r in due if r.native_id])
        known: dict[NativeId, list[Observation]] = {}
        for seen in listing.observations:
            known.setdefault(seen.native_id, []).append(seen)
        concluded = [self._concluded(r, known, reason, last_seen, at) for r in due]
        self._note_incomplete(concluded, at, accounting_is_away=listing.missing is not None)
        return [new for new, old in zip(concluded, due, strict=True) if new is not old]

    def _due(self, missing: Sequence[JobRecord], at: datetime) -> list[JobRecord]:
        uids = {r.uid for r in missing}
        rechecks = {u: r for u, r in self._rechecks.items() if u in uids}
        self._rechecks = rechecks
        return [r for r in missing if r.uid not in rechecks or rechecks[r.uid].due <= at]

    async def _history(self, ids: Sequence[NativeId]) -> tuple[Listing, str]:
        """Return what accounting says, and why a job is not in it."""
        try:
            listing = await self._backend.history(ids)
        except HpcqError as error:
            _log.warning("accounting.unanswered", problem=error.detail, jobs=len(ids))
            return Listing(), _WITHOUT_ACCOUNTING.format(detail=error.detail)
        except Exception:
            _log.exception("accounting.failed", jobs=len(ids))
            return Listing(), _WITHOUT_ACCOUNTING.format(detail=_DEFECT)
        if listing.missing is not None:
            return listing, _WITHOUT_ACCOUNTING.format(detail=listing.missing.detail)
        return listing, _NOT_IN_ACCOUNTING

    def _concluded(
        self,
        record: JobRecord,
        known: dict[NativeId, list[Observation]],
        reason: str,
        last_seen: datetime | None,
        at: datetime,
    ) -> JobRecord:
        answers = known.get(record.native_id, []) if record.native_id else []
        newest = runs.newest(record, answers)
        if record.state.is_final:
            return record if newest is None else life.completed(record, newest)
        if newest is not None and newest.state.is_final:
            self._rechecks.pop(record.uid, None)
            return life.observe(record, newest, at)
        self._look_again(record.uid, at)
        if record.seen is None and at - record.created_at < _VISIBILITY:
            return record
        if record.state is JobState.UNDETERMINED and at - record.state_changed_at > self._at_most:
            _log.warning("job.abandoned", job=record.native_id, uid=record.uid)
            days = self._at_most / timedelta(days=1)
            reason = _NEVER_KNOWN.format(days=days) + life.last_sight(record)
            return record.changed(abandoned_at=at, state_reason=reason)
        return life.vanished(record, reason, last_seen=last_seen, at=at)

    def _note_incomplete(
        self, concluded: Sequence[JobRecord], at: datetime, *, accounting_is_away: bool
    ) -> None:
        """Have those asked about again whose end somebody else than the accounting told."""
        for record in concluded:
            ended_lately = at - record.state_changed_at <= self._at_most
            if accounting_is_away and ended_lately and life.lacks_usage(record):
                self.incomplete.add(record.uid)
                self._look_again(record.uid, at)
            else:
                self.incomplete.discard(record.uid)

    def _look_again(self, uid: JobUid, at: datetime) -> None:
        before = self._rechecks.get(uid)
        wait = self._first_wait if before is None else min(before.wait * 1.5, _SLOWEST_RECHECK)
        self._rechecks[uid] = _Recheck(due=at + wait, wait=wait)
