"""The feed: one look at the records for new events, however many follow them."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import structlog

from hpcq.domain.errors import EventsGone, StoreUnavailable
from hpcq.domain.events import Event, EventKind
from hpcq.domain.job_filter import JobFilter, facts_of
from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.domain.principals import Principal
from hpcq.services.listing.job_table import JobTable
from hpcq.storage.jobs import JobStore

__all__ = ["EventFeed", "EventSelection"]

_log = structlog.get_logger("hpcq.events")

_LOOK_SECONDS = 0.1
# The number of the newest event is asked of the database, for others write there too.
_SHARED_LOOK_SECONDS = 0.5
_RECENT = 10_000
_AT_ONCE = 500
_QUIET_SECONDS = 5.0


class EventFeed:
    """Events as they are written, from any number on.

    The newest are kept in memory while somebody follows; older ones come out of the records. A
    reader holds no more than one batch, so a slow one costs no memory.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._recent: deque[Event] = deque(maxlen=_RECENT)
        self._newest = 0
        self._readers = 0
        self._has_readers = asyncio.Event()
        self._has_news = asyncio.Event()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """True when all streams end, for the service stops."""
        return self._is_closed

    def close(self) -> None:
        """End all streams at once: the service stops."""
        self._is_closed = True
        self._wake()

    async def run(self) -> None:
        """Look for new events while somebody follows them, until cancelled."""
        while True:
            await self._has_readers.wait()
            try:
                await self._look()
            except StoreUnavailable as error:
                _log.warning("events.behind", problem=error.detail)
            except Exception:
                _log.exception("events.failed")
            await asyncio.sleep(_SHARED_LOOK_SECONDS if self._store.is_shared else _LOOK_SECONDS)

    async def start_of(self, after: int | None, *, all_kept: bool = False) -> int:
        """Return the number of the event after which a reader begins.

        Args:
            after: the number of the last event that the reader has; None for a new reader.
            all_kept: whether a new one begins with the oldest event, not with the next to come.

        Raises:
            EventsGone: what followed it is kept no longer, or it is none of these records.
            StoreUnavailable: they cannot be read.
        """
        oldest, newest = await self._store.event_numbers()
        if after is None:
            return oldest - 1 if all_kept else newest
        if after > newest or after + 1 < oldest:
            raise EventsGone(after, oldest, newest)
        return after

    async def follow(self, after: int, uid: JobUid | None = None) -> AsyncIterator[Sequence[Event]]:
        """Yield the events after a number in batches, then further ones as they come.

        An empty batch says that there is nothing new. It comes once when all is told that there
        was, and every 5 s.

        Args:
            after: what `start_of` returned.
            uid: of the one job whose events are wanted; None for all.

        Raises:
            StoreUnavailable: the records cannot be read.
        """
        with self._reading():
            # Only what is newer than this can be in memory.
            _, newest = await self._store.event_numbers()
            if newest > self._newest:
                # Those who wait already have none of these either.
                self._newest = newest
                self._wake()
            is_told = False
            while not self._is_closed:
                news = self._has_news
                if after < self._newest:
                    found, after = await self._after(after, uid)
                    is_told = False
                    if found:
                        yield found
                elif not is_told:
                    is_told = True
                    yield ()
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_QUIET_SECONDS):
                            await news.wait()
                            continue
                    yield ()

    async def _after(self, after: int, uid: JobUid | None) -> tuple[Sequence[Event], int]:
        """Return the next batch, and the number up to which all is told with it."""
        recent = self._recent
        if recent and recent[0].number <= after + 1 <= recent[-1].number:
            begin = after + 1 - recent[0].number
            batch = [recent[i] for i in range(begin, min(begin + _AT_ONCE, len(recent)))]
            wanted = [event for event in batch if uid is None or event.uid == uid]
            return wanted, batch[-1].number
        newest = self._newest
        found = await self._store.events(after, _AT_ONCE, uid)
        if len(found) == _AT_ONCE:
            return found, found[-1].number
        return found, max([newest, *(event.number for event in found)])

    async def _look(self) -> None:
        if self._store.is_shared:
            _, newest = await self._store.event_numbers()
        else:
            newest = self._store.newest_event
        while self._newest < newest:
            found = await self._store.events(self._newest, _AT_ONCE)
            if not found:
                # They were deleted meanwhile.
                self._newest = newest
            elif self._recent and self._recent[-1].number + 1 != found[0].number:
                self._recent.clear()
            self._recent.extend(found)
            self._newest = max([self._newest, *(event.number for event in found)])
            self._wake()

    def _wake(self) -> None:
        """Wake those who wait now; later ones wait for the next news."""
        waiting, self._has_news = self._has_news, asyncio.Event()
        waiting.set()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        self._readers += 1
        self._has_readers.set()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._has_readers.clear()
                self._recent.clear()


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
