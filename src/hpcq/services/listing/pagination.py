"""The listing in pages, for queues and days that are too long for one answer.

First come the jobs in the table, in the order of the listing; then those that ended within the
time for which they are listed and are too many for it, the newest first. A page begins after the
last job of the one before, wherever that stands by then, so that jobs that come and go move no
others from page to page.
"""

import base64
import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Annotated

import msgspec

from hpcq.domain.principals import Person
from hpcq.services.listing.job_entry import JobEntry, entries_of
from hpcq.services.listing.job_listing import JobListing
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.wire import WireFormat
from hpcq.services.settings import ServiceSettings
from hpcq.storage.jobs import JobStore

__all__ = [
    "AfterFound",
    "Cursor",
    "Page",
    "Pagination",
    "read_cursor",
    "version_of",
    "write_cursor",
]

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
# The database's whole numbers are no longer than 64 bits.
_Whole = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | bool
_Uid = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f-]{0,36}\Z")]


class AfterListed(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """The place behind the job of the table with this `JobEntry.arrival`."""

    created_at: _Moment
    digits: int
    native_id: str
    uid: _Uid


class AfterEnded(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """The place behind the job in the records with this end (epoch seconds) and uid."""

    ended_at: float
    uid: _Uid


class AfterFound(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """The place behind the job with this sort key, in the answer to this query."""

    query: str
    key: tuple[_Whole | str, ...]


Cursor = AfterListed | AfterEnded | AfterFound
# Ids are a kind of text of their own, which msgspec takes when told that it is text.
_writer = msgspec.json.Encoder(enc_hook=str)
_reader: msgspec.json.Decoder[Cursor] = msgspec.json.Decoder(Cursor)


def write_cursor(cursor: Cursor) -> str:
    """Return a cursor as text that can stand in a URL."""
    return base64.urlsafe_b64encode(_writer.encode(cursor)).decode().rstrip("=")


def read_cursor(text: str) -> Cursor:
    """Return the cursor of a text.

    Raises:
        ValueError: the text is none.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        return _reader.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, msgspec.DecodeError) as error:
        raise ValueError("no page begins here; take the cursor from a Link header") from error


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of the listing.

    Attributes:
        version: another one whenever anything but the passage of time has changed.
        following: where the next page begins; None when this one is the last.
    """

    entries: Sequence[JobEntry]
    version: str
    following: Cursor | None


class Pagination:
    """Cuts pages from the table, and from the records what the table has no room for.

    Args:
        table: where the listing is.
        store: where the rest is.
        wire: how jobs are written.
        settings: how long a finished job stays in the listing.
        clock: the present, aware.
    """

    def __init__(
        self,
        table: JobTable,
        store: JobStore,
        wire: WireFormat,
        settings: ServiceSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._table = table
        self._store = store
        self._wire = wire
        self._listed_for = timedelta(seconds=settings.finished_jobs_listed_seconds)
        self._now = clock

    def rest(self, listing: JobListing) -> Cursor | None:
        """Return where those jobs begin that the table has no room for, if there are any."""
        newest = listing.complete_since
        if self._wire.is_original or newest is None or newest < self._now() - self._listed_for:
            return None
        # The cursor is exclusive, and the newest of them is to be the first.
        return AfterEnded(math.nextafter(newest.timestamp(), math.inf), "")

    async def page(self, cursor: Cursor | None, limit: int, person: Person | None = None) -> Page:
        """Return at most ``limit`` jobs from ``cursor`` on; there may be fewer before the end.

        Args:
            cursor: of this listing; None for the first page.
            limit: at most so many.
            person: the one whose jobs; None for everybody's.

        Raises:
            StoreUnavailable: the jobs cannot be read that are not in the table.
        """
        if isinstance(cursor, AfterEnded):
            return await self._ended(cursor, limit, person)
        if isinstance(cursor, AfterFound):
            raise TypeError("the cursor of a search leads into no other listing")
        return await self._listed(cursor, limit, person)

    async def _listed(self, cursor: AfterListed | None, limit: int, person: Person | None) -> Page:
        listing = self._table.view(person)
        entries = await listing.in_order()
        start = 0
        if cursor is not None:
            after = msgspec.structs.astuple(cursor)
            start = bisect_right(entries, after, key=attrgetter("arrival"))
        shown = entries[start : start + limit]
        if start + limit < len(entries):
            return Page(shown, listing.version, AfterListed(*shown[-1].arrival))
        return Page(shown, listing.version, self.rest(listing))

    async def _ended(self, cursor: AfterEnded, limit: int, person: Person | None) -> Page:
        since = self._now() - self._listed_for
        records = await self._store.ended(since, (cursor.ended_at, cursor.uid), limit + 1, person)
        found = records[:limit]
        known = self._table.entries
        shown = [r for r in found if r.uid not in known and self._wire.is_listed(r)]
        entries = await entries_of(shown, self._store, self._wire)
        following = None
        if len(records) > limit:
            last = found[-1]
            following = AfterEnded(last.state_changed_at.timestamp(), last.uid)
        return Page(entries, version_of(entries), following)


def version_of(entries: Sequence[JobEntry]) -> str:
    """Return a word that is another one whenever these are other jobs, or other versions."""
    words = " ".join(entry.version for entry in entries)
    return hashlib.blake2b(words.encode(), digest_size=8).hexdigest()
