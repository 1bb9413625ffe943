"""Reader of jobs for those who may see them."""

import contextlib
from dataclasses import dataclass

from hpcq.domain import identity
from hpcq.domain.errors import JobNotFound, SchedulerError, SchedulerUnavailable
from hpcq.domain.ids import read_id
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Usage
from hpcq.domain.principals import Principal
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.listing.job_entry import JobEntry, entries_of
from hpcq.services.listing.job_lookup import JobLookup
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.wire import WireFormat
from hpcq.services.monitoring.job_details import DetailsReader, UsageReader
from hpcq.services.monitoring.monitor import Monitor
from hpcq.storage.jobs import JobStore

__all__ = ["JobReader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReader:
    """Finds and reads jobs, each time on behalf of a principal.

    All methods that take an id accept the scheduler's own or the permanent uid, and raise
    `JobNotFound` when there is no such job, or none that the principal may see.
    """

    backend: SchedulerBackend
    store: JobStore
    table: JobTable
    monitor: Monitor
    usage: UsageReader
    lookup: JobLookup
    details_reader: DetailsReader
    wire: WireFormat

    async def read(self, principal: Principal, job_id: str) -> JobEntry:
        """Return a job with its details; the first reader waits while they are fetched."""
        entry = await self.find(principal, job_id)
        await self.details_reader.complete(entry.record)
        return self.table.entry(entry.record.uid) or entry

    async def find(self, principal: Principal, job_id: str) -> JobEntry:
        """Return a job, from memory when it is in the queue or ended lately."""
        parsed, is_array = self._parse_id(job_id)
        entry = self.table.entry(parsed)
        if entry is None:
            found = await self._find_elsewhere(parsed, is_array=is_array)
            (entry,) = await entries_of([found], self.store, self.wire)
        else:
            self.usage.mark_viewed(entry.record.uid)
        if is_array and not entry.record.is_array:
            raise JobNotFound(job_id)
        if not principal.may_see(entry.record):
            raise JobNotFound(job_id)
        return entry

    def _parse_id(self, text: str) -> tuple[JobUid | NativeId, bool]:
        """Return an id, and whether it was written as only a whole array's is."""
        with contextlib.suppress(ValueError):
            return JobUid(text), False
        with contextlib.suppress(ValueError):
            return read_id(text, self.backend.capabilities.id_forms)
        raise JobNotFound(text)

    async def usage_over_time(self, principal: Principal, job_id: str) -> list[Usage]:
        """Return the samples of what a job used while it ran, oldest first.

        Only jobs that were submitted through this service have any.
        """
        record = (await self.find(principal, job_id)).record
        return await self.store.samples(record.uid) if record.submitted_here else []

    async def _find_elsewhere(
        self, job_id: JobUid | NativeId, *, is_array: bool = False
    ) -> JobRecord:
        left = self.table.recently_left(job_id)
        if left is not None and left.native_id is not None:
            # It is the newest with this id; accounting may be late or away.
            with contextlib.suppress(SchedulerError):
                record = await self.lookup.look_up(left.native_id)
                if record is not None and (
                    record.seen is None or identity.same_job(left, record.seen)
                ):
                    return record
            return left
        if is_array and isinstance(job_id, NativeId):
            record = await self.lookup.find_array(job_id)
        else:
            record = await self.lookup.find(job_id)
        if record is not None:
            return record
        if not self.monitor.has_seen_queue:
            raise SchedulerUnavailable(
                "The scheduler has not answered since this service started, so this service cannot "
                f"say whether there is a job {str(job_id)!r}. Try again in a moment."
            )
        raise JobNotFound(job_id)
