"""Search: listings that are filtered, sorted, or reach beyond the jobs in memory.

Jobs in memory are compared one by one, in a thread. Finished jobs that are in the database alone
are merged in where they belong.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from hpcq.domain.job_filter import JobFilter, SortKey, SortOrder
from hpcq.domain.principals import Person
from hpcq.services.listing.job_entry import JobEntry, entries_of
from hpcq.services.listing.job_listing import JobListing
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.pagination import AfterFound, Page, version_of
from hpcq.services.listing.wire import WireFormat
from hpcq.storage.jobs import JobStore

__all__ = ["JobSearch", "Query"]

_facts = attrgetter("facts")
_REMEMBERED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question about jobs.

    Attributes:
        name: of the query, which its cursors carry.
        criteria: the jobs that are asked for.
        order: of the answer; by a time that the database sorts by, if it looks there.
        with_archived: whether it looks at all finished jobs, not only at those in memory.
        person: the one whose jobs; None for everybody's.
    """

    name: str
    criteria: JobFilter
    order: SortOrder
    with_archived: bool = False
    person: Person | None = None


class JobSearch:
    """Finds jobs.

    Args:
        table: the jobs in memory.
        store: the others.
        wire: how jobs are written, and which are shown.
    """

    def __init__(self, table: JobTable, store: JobStore, wire: WireFormat) -> None:
        self._table = table
        self._store = store
        self._wire = wire
        self._selections: OrderedDict[
            tuple[str, JobFilter, str | None], asyncio.Future[Sequence[JobEntry]]
        ] = OrderedDict()

    async def in_memory(self, query: Query) -> Sequence[JobEntry]:
        """Return all jobs in memory that are asked for, in order."""
        entries = await self._ascending(query)
        return entries[::-1] if query.order.descending else entries

    async def page(self, query: Query, after: SortKey | None, limit: int) -> Page:
        """Return at most ``limit`` jobs; there may be fewer, or none, before the end.

        Args:
            query: what is asked for.
            after: the sort key of the last job of the page before; None for the first page.
            limit: at most so many.

        Raises:
            StoreUnavailable: the finished jobs cannot be read.
        """
        order = query.order

        def key(entry: JobEntry) -> SortKey:
            return order.key(entry.facts)

        archived: Sequence[JobEntry] = ()
        reached = None
        if query.with_archived:
            # First: what leaves the memory meanwhile is in the database already.
            archived, reached = await self._archived(query, after, limit)
        entries = await self._ascending(query)
        if order.descending:
            end = len(entries) if after is None else bisect_left(entries, after, key=key)
            found = list(entries[max(0, end - limit - 1) : end][::-1])
        else:
            start = 0 if after is None else bisect_right(entries, after, key=key)
            found = list(entries[start : start + limit + 1])
        if archived:
            found = sorted([*found, *archived], key=key, reverse=order.descending)
        if reached is not None:
            found = [entry for entry in found if not order.is_before(reached, key(entry))]
        if len(found) > limit:
            found = found[:limit]
            reached = key(found[-1])
        following = None if reached is None else AfterFound(query.name, reached)
        return Page(found, version_of(found), following)

    async def _archived(
        self, query: Query, after: SortKey | None, limit: int
    ) -> tuple[list[JobEntry], SortKey | None]:
        """Return finished jobs that are not in memory, and the key up to which these are all."""
        records, reached = await self._store.finished(
            query.criteria,
            query.order,
            after=after,
            limit=limit,
            user=query.person and query.person.user,
        )
        shown = [r for r in records if r.uid not in self._table.entries and self._wire.is_listed(r)]
        return await entries_of(shown, self._store, self._wire), reached

    async def _ascending(self, query: Query) -> Sequence[JobEntry]:
        """Return the jobs in memory that are asked for, the least first; made once for all."""
        listing = self._table.view(query.person)
        wanted = (listing.version, query.criteria, query.order.field)
        selection = self._selections.get(wanted)
        if selection is None:
            selection = asyncio.ensure_future(_select(listing, query))
            self._selections[wanted] = selection
            if len(self._selections) > _REMEMBERED:
                self._selections.popitem(last=False)
        return await asyncio.shield(selection)


async def _select(listing: JobListing, query: Query) -> Sequence[JobEntry]:
    listed = await listing.in_order()

    def select() -> Sequence[JobEntry]:
        found = query.criteria.select(listed, _facts)
        if query.order.field is None:
            return found
        return sorted(found, key=lambda entry: query.order.key(entry.facts))

    return await asyncio.to_thread(select)
