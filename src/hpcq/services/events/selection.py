"""The events that one reader wants and may see."""

from collections.abc import Sequence
from dataclasses import dataclass

from hpcq.domain.events import Event, EventKind
from hpcq.domain.job_filter import JobFilter, facts_of
from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.domain.principals import Principal
from hpcq.services.listing.job_table import JobTable
from hpcq.storage.jobs import JobStore

__all__ = ["EventSelection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSelection:
    """Chooses events by their jobs, as these are now.

    Attributes:
        kinds: the events that are wanted; None for all.
        criteria: the jobs whose events are wanted.
    """

    table: JobTable
    store: JobStore
    kinds: frozenset[EventKind] | None
    criteria: JobFilter

    async def choose(self, events: Sequence[Event], principal: Principal) -> Sequence[Event]:
        """Return those of the events that a principal wants and may see, in their order.

        Raises:
            StoreUnavailable: the records cannot be read.
        """
        wanted = [event for event in events if self.kinds is None or event.kind in self.kinds]
        records = await self._records({event.uid for event in wanted})
        visible = [record for record in records.values() if principal.may_see(record)]
        chosen = {record.uid for record in self.criteria.select(visible, facts_of)}
        return [event for event in wanted if event.uid in chosen]

    async def _records(self, uids: set[JobUid]) -> dict[JobUid, JobRecord]:
        """Return the records of jobs; one whose record is kept no longer is absent."""
        entries = {uid: self.table.entry(uid) for uid in uids}
        found = {uid: entry.record for uid, entry in entries.items() if entry is not None}
        missing = [uid for uid in uids if uid not in found]
        if missing:
            found |= {record.uid: record for record in await self.store.by_uids(missing)}
        return found
