"""Details of jobs that a listing of the queue does not show, and the usage of running jobs.

Both come from the scheduler's detailed answers, which cost more than a listing: they are asked
only about jobs that somebody reads, and about running jobs that were submitted here.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from hpcq.domain import identity, job_merge
from hpcq.domain.errors import HpcqError
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.batching import QueryBatcher
from hpcq.services.listing.job_entry import JobEntry
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.publisher import JobPublisher
from hpcq.services.settings import ServiceSettings

__all__ = ["DetailsReader", "UsageReader"]

_log = structlog.get_logger("hpcq.monitor")

_PATIENCE_SECONDS = 2.0
# A job that somebody read is asked about for so long.
_INTEREST = timedelta(minutes=1)


class DetailsReader:
    """Asks for the details of a job at its first read.

    Args:
        backend: the scheduler.
        table: the jobs.
        publisher: publishes the details.
        settings: the interval of polls.
        clock: the present, aware.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        table: JobTable,
        publisher: JobPublisher,
        settings: ServiceSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._table = table
        self._publisher = publisher
        # Until a job without an answer is asked about again.
        self._again_seconds = settings.poll_interval_seconds
        self._now = clock
        self._answered: set[JobUid] = set()
        self._asked_at: dict[JobUid, float] = {}
        self._batcher: QueryBatcher[None] = QueryBatcher(self._ask)

    async def complete(self, record: JobRecord) -> None:
        """Bring all that the scheduler knows of a job into the table, if it answers in time."""
        if record.native_id is None or not self._should_ask(record):
            return
        with contextlib.suppress(HpcqError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._batcher.get(record.native_id)
        self._asked_at[record.uid] = asyncio.get_running_loop().time()

    def _should_ask(self, record: JobRecord) -> bool:
        is_somewhere = not record.is_settled and record.state is not JobState.UNDETERMINED
        if not is_somewhere or record.hand_over is not None:
            return False
        if record.uid in self._answered and not self._is_outdated(record):
            return False
        asked_at = self._asked_at.get(record.uid)
        time = asyncio.get_running_loop().time()
        return asked_at is None or time - asked_at >= self._again_seconds

    def _is_outdated(self, record: JobRecord) -> bool:
        """Return whether a job was to have started by now."""
        estimate = None if record.seen is None else record.seen.start_estimate
        return estimate is not None and estimate <= self._now()

    async def _ask(self, ids: Sequence[str]) -> Mapping[str, None]:
        at, entries = self._now(), self._table.entries
        # Jobs that have left the table are forgotten.
        self._answered = {uid for uid in self._answered if uid in entries}
        self._asked_at = {uid: t for uid, t in self._asked_at.items() if uid in entries}
        listing = await self._backend.details([NativeId(i) for i in ids])
        await asyncio.gather(*(self._merge(seen, at) for seen in listing.observations))
        return dict.fromkeys(ids)

    async def _merge(self, seen: Observation, at: datetime) -> None:
        entry = self._table.entry(seen.native_id)
        if entry is None or seen.state.is_final or not identity.same_job(entry.record, seen):
            return
        self._answered.add(entry.record.uid)

        def merged(record: JobRecord) -> JobRecord:
            if record.seen is None and record.hand_over is None:
                return job_merge.observe(record, seen, at)
            return job_merge.with_details(record, seen, at)

        await self._publisher.apply(entry.record.uid, merged)


class UsageReader:
    """Asks once per interval what running jobs use.

    Args:
        backend: the scheduler.
        table: the jobs.
        settings: the time from one question to the next.
        clock: the present, aware.
    """

    def __init__(
        self,
        backend: SchedulerBackend,
        table: JobTable,
        settings: ServiceSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._table = table
        self._every = timedelta(seconds=settings.usage_interval_seconds)
        self._now = clock
        self._viewed_at: dict[JobUid, datetime] = {}
        self._all_viewed_at: datetime | None = None
        self._asked_at: datetime | None = None

    def mark_viewed(self, uid: JobUid) -> None:
        """Mark this job as read, so that its usage is wanted."""
        self._viewed_at[uid] = self._now()

    def mark_all_viewed(self) -> None:
        """Mark every running job as read, so that its usage is wanted."""
        self._all_viewed_at = self._now()

    async def ask(self) -> list[JobRecord]:
        """Return the jobs with changed usage or details; ask only if it is time."""
        at = self._now()
        if self._asked_at is not None and at - self._asked_at < self._every:
            return []
        horizon = at - _INTEREST
        self._viewed_at = {uid: t for uid, t in self._viewed_at.items() if t >= horizon}
        all_running = self._all_viewed_at is not None and self._all_viewed_at >= horizon
        entries = list(self._table.entries.values())
        wanted = await asyncio.to_thread(self._wanted, entries, all_running=all_running)
        if not wanted:
            return []
        self._asked_at = at
        try:
            listing = await self._backend.details(wanted)
        except HpcqError as error:
            _log.warning("details.unanswered", problem=error.detail, jobs=len(wanted))
            return []
        return self._changed(listing.observations, at)

    def _changed(self, observations: Sequence[Observation], at: datetime) -> list[JobRecord]:
        changed = []
        for seen in observations:
            entry = self._table.entry(seen.native_id)
            if entry is None or seen.state.is_final or not identity.same_job(entry.record, seen):
                continue
            record = job_merge.with_details(entry.record, seen, at)
            if record != entry.record:
                changed.append(record)
        return changed

    def _wanted(self, entries: Sequence[JobEntry], *, all_running: bool) -> list[NativeId]:
        """Return the ids of running jobs submitted here, and of jobs that clients read."""
        return [
            r.native_id
            for r in (entry.record for entry in entries)
            if r.native_id is not None
            and r.confirmed_at is None
            and (
                r.uid in self._viewed_at
                or (r.state is JobState.RUNNING and (r.submitted_here or all_running))
            )
        ]
