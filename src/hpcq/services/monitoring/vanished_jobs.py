"""Jobs that left the queue: the accounting is asked for their end, again while it is late."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from hpcq.domain import arrays, identity, job_changes, job_merge, runs, submission
from hpcq.domain.errors import HpcqError
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.domain.units import format_time
from hpcq.schedulers.base import Listing, SchedulerBackend
from hpcq.services.listing.job_table import JobTable
from hpcq.services.settings import ServiceSettings

__all__ = ["VanishedJobs"]

_log = structlog.get_logger("hpcq.monitor")

_NOT_IN_ACCOUNTING = (
    "It left the scheduler's queue, and the scheduler's accounting does not show it yet."
)
_IN_VAIN = (
    "It left the scheduler's queue, and since {since} the scheduler's accounting has been asked "
    "about it in vain: it is late, or it has no record of this job and never will. The job's own "
    "output may tell how it ended. It is asked about until {until}; DELETE takes the job out of "
    "the listing now."
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
# Accounting that is merely late shows a job, or what it used, within seconds.
_IN_VAIN_AFTER = timedelta(minutes=2)


@dataclass(slots=True)
class _Recheck:
    """The time of the next search for a vanished job."""

    due: datetime
    wait: timedelta


class VanishedJobs:
    """Looks for vanished jobs, each again after a growing pause.

    Args:
        backend: the scheduler, for its accounting.
        table: the jobs.
        settings: the time from the first search to the second, and that after which the search
            for a job is given up.

    Attributes:
        incomplete: ended jobs whose usage is missing because the accounting was away, or late.
    """

    def __init__(
        self, backend: SchedulerBackend, table: JobTable, settings: ServiceSettings
    ) -> None:
        self._backend = backend
        self._table = table
        self._first_wait = timedelta(seconds=settings.poll_interval_seconds)
        self._at_most = timedelta(seconds=settings.undetermined_rechecked_seconds)
        self._rechecks: dict[JobUid, _Recheck] = {}
        self.incomplete: set[JobUid] = set()

    async def resolve(
        self, missing: Sequence[JobRecord], last_seen: datetime | None, at: datetime
    ) -> list[JobRecord]:
        """Ask for those of the missing jobs whose time has come; return those that changed.

        The tasks of an array that no listing has shown are among them.

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
        changed = []
        for record in due:
            newest = self._newest(record, known)
            concluded = self._concluded(record, newest, reason, last_seen, at)
            self._note_incomplete(concluded, newest, at, is_away=listing.partial_reason is not None)
            if concluded is not record:
                changed.append(concluded)
        return [*changed, *self._unseen_tasks(due, listing.observations, at)]

    def _unseen_tasks(
        self, due: Sequence[JobRecord], told: Sequence[Observation], at: datetime
    ) -> Iterator[JobRecord]:
        """Yield the tasks of arrays of ours that accounting tells of and no listing has shown."""
        parents = {record.native_id: record for record in due if record.submitted_here}
        entries = self._table.entries
        for seen in told:
            if seen.array_task_id is None or seen.array_job_id is None:
                continue
            parent = parents.get(NativeId(seen.array_job_id))
            if parent is None or parent.uid.of_task(seen.array_task_id) in entries:
                continue
            if identity.is_task_of(parent, seen):
                task = submission.task_of(parent, seen.native_id, seen.array_task_id, at)
                yield job_merge.observe(task, seen, at)

    def _whole(self, record: JobRecord) -> Observation | None:
        """Return the end of an array when all its tasks are known and over, else None."""
        if record.spec is None or record.spec.array is None or record.native_id is None:
            return None
        entries, tasks = self._table.entries, []
        for number in record.spec.array.tasks:
            task = entries.get(record.uid.of_task(number))
            if task is None or task.record.seen is None or not task.record.state.is_final:
                return None
            tasks.append(task.record.seen)
        return arrays.summarize_array(record.native_id, tasks)

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
        if listing.partial_reason is not None:
            return listing, _WITHOUT_ACCOUNTING.format(detail=listing.partial_reason.detail)
        return listing, _NOT_IN_ACCOUNTING

    def _newest(
        self, record: JobRecord, known: Mapping[NativeId, Sequence[Observation]]
    ) -> Observation | None:
        """Return accounting's newest word about a job; of an array, at least that of its tasks."""
        answers = known.get(record.native_id, ()) if record.native_id else ()
        return runs.newest(record, answers) or self._whole(record)

    def _concluded(
        self,
        record: JobRecord,
        newest: Observation | None,
        reason: str,
        last_seen: datetime | None,
        at: datetime,
    ) -> JobRecord:
        if record.state.is_final:
            return record if newest is None else job_merge.completed(record, newest)
        if newest is not None and newest.state.is_final:
            self._rechecks.pop(record.uid, None)
            return job_merge.observe(record, newest, at)
        self._look_again(record.uid, at)
        if record.seen is None and at - record.created_at < _VISIBILITY:
            return record
        if record.state is JobState.UNDETERMINED and at - record.state_changed_at > self._at_most:
            _log.warning("job.abandoned", job=record.native_id, uid=record.uid)
            days = self._at_most / timedelta(days=1)
            reason = _NEVER_KNOWN.format(days=days) + job_changes.last_sight(record)
            return record.changed(abandoned_at=at, state_reason=reason)
        if reason == _NOT_IN_ACCOUNTING and record.state is JobState.UNDETERMINED:
            return self._without_end(record, at)
        return job_changes.vanished(record, reason, last_seen=last_seen, at=at)

    def _without_end(self, record: JobRecord, at: datetime) -> JobRecord:
        """Return a job that accounting, which answers, still does not show."""
        since = record.state_changed_at
        reason = _NOT_IN_ACCOUNTING
        if at - since >= _IN_VAIN_AFTER:
            until = format_time(since + self._at_most)
            reason = _IN_VAIN.format(since=format_time(since), until=until)
        reason += job_changes.last_sight(record)
        return record if record.state_reason == reason else record.changed(state_reason=reason)

    def _note_incomplete(
        self, record: JobRecord, newest: Observation | None, at: datetime, *, is_away: bool
    ) -> None:
        """Note a job whose end is known while the accounting is away, or late with its usage."""
        is_late = newest is not None and newest.usage is not None and not newest.usage.sampled_at
        patience = self._at_most if is_away else _IN_VAIN_AFTER
        is_awaited = (is_away or is_late) and at - record.state_changed_at <= patience
        if is_awaited and job_merge.lacks_usage(record):
            self.incomplete.add(record.uid)
            self._look_again(record.uid, at)
        else:
            self.incomplete.discard(record.uid)

    def _look_again(self, uid: JobUid, at: datetime) -> None:
        before = self._rechecks.get(uid)
        wait = self._first_wait if before is None else min(before.wait * 1.5, _SLOWEST_RECHECK)
        self._rechecks[uid] = _Recheck(due=at + wait, wait=wait)
