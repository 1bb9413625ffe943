"""What all readers share: every job as of one moment, with its JSON ready-made."""

import asyncio
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from operator import attrgetter

from hpcq.domain import life
from hpcq.domain.jobs import JobRecord, JobUid, NativeId
from hpcq.services.layers import Layers
from hpcq.services.wire import WireFormat

__all__ = ["Board", "Entry", "Freshness", "Place", "Snapshot", "as_list", "pack"]

Place = tuple[datetime, int, str, str]
"""Where a job stands in the listing: by when it came, and then by its numbers."""

# Level 1 packs a listing of similar jobs thirtyfold in a third of the default level's time.
_GZIP_LEVEL = 1
_GZIP_CONTAINER = 16 + zlib.MAX_WBITS
_DEPARTED_AT_MOST = 10_000
_LEFT_THE_QUEUE = "It left the scheduler's queue, and nothing says how it ended."


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old the answers read from a snapshot are: its time, and whether that is too old."""

    as_of: datetime | None
    stale: bool


class Entry:
    """One job in a snapshot, and its JSON as far as it was asked for.

    Attributes:
        is_over: whether it is one of our own about which nothing more is asked.
    """

    def __init__(self, record: JobRecord, wire: WireFormat) -> None:
        self.record = record
        # Every look at the queue passes all of them by.
        self.is_over = record.is_ours and record.is_settled
        self._wire = wire

    @property
    def is_listed(self) -> bool:
        """Whether it is shown in the listing."""
        return self._wire.is_listed(self.record)

    @cached_property
    def place(self) -> Place:
        """Where it stands in the listing. Those that came together go by their numbers."""
        record = self.record
        native_id = record.native_id or ""
        return record.created_at, len(native_id), native_id, record.uid

    @cached_property
    def listed(self) -> bytes:
        """The JSON as in the listing, without usage, without what each poll changes."""
        return self._wire.encode_head(self.record, usage=False)

    @cached_property
    def whole(self) -> bytes:
        """The JSON with usage, without what each poll changes."""
        return self._wire.encode_head(self.record, usage=True)

    def json(self, freshness: Freshness, *, usage: bool = True) -> bytes:
        """Return the job's JSON; with ``usage``, ``resourceUsage`` is filled in."""
        wire, record, seen = self._wire, self.record, self.record.seen
        as_of = record.confirmed_at or freshness.as_of
        head = self.whole if usage else self.listed
        if wire.is_original:
            # What was done through this service may be newer than the queue as it was last seen.
            changed_at = record.state_changed_at
            head = wire.complete_head(head, max(as_of or changed_at, changed_at))
        start = None if seen is None else seen.start_time
        if start is None and record.confirmed_at is None:
            return head + wire.tail_of_waiting(as_of, stale=freshness.stale)
        until = as_of if seen is None else seen.end_time or as_of
        elapsed = None
        if start is not None and until is not None:
            elapsed = max(0, int((until - start).total_seconds()))
        stale = freshness.stale and not record.state.is_final
        return head + wire.encode_tail(elapsed, as_of, stale=stale)


class _Order:
    """The listed jobs of a snapshot in the order of the listing, sorted once for all readers."""

    def __init__(self, entries: Layers[JobUid, Entry]) -> None:
        self._entries = entries
        self._sorted: asyncio.Future[list[Entry]] | None = None

    async def get(self) -> Sequence[Entry]:
        if self._sorted is None:
            self._sorted = asyncio.ensure_future(asyncio.to_thread(_in_order, self._entries))
        return await asyncio.shield(self._sorted)


def _in_order(entries: Layers[JobUid, Entry]) -> list[Entry]:
    listed = [entry for entry in entries.values() if entry.is_listed]
    return sorted(listed, key=attrgetter("place"))


class Snapshot:
    """Every job as of one moment; immutable.

    Attributes:
        as_of: when the scheduler was last asked; None before its first answer.
        version: another one whenever anything but the passage of time has changed.
        complete_since: of the jobs submitted here that are over, those that ended after this are
            all here; None when none was left out.
    """

    def __init__(
        self,
        entries: Layers[JobUid, Entry],
        by_native: Layers[NativeId, JobUid],
        as_of: datetime | None,
        version: str,
        complete_since: datetime | None = None,
        order: _Order | None = None,
    ) -> None:
        self.entries = entries
        self.by_native = by_native
        self.as_of = as_of
        self.version = version
        self.complete_since = complete_since
        self._order = order or _Order(entries)
        self._bodies: dict[tuple[bool, bool, bool], asyncio.Future[bytes]] = {}

    def freshness(self, now: datetime, allowed_age: timedelta) -> Freshness:
        """Return how fresh this snapshot is at ``now``."""
        stale = self.as_of is None or now - self.as_of > allowed_age
        return Freshness(self.as_of, stale)

    def entry(self, job_id: JobUid | NativeId) -> Entry | None:
        """Return the job with this uid or native id."""
        uid = self.by_native.get(job_id) if isinstance(job_id, NativeId) else job_id
        return None if uid is None else self.entries.get(uid)

    def records(self) -> Iterator[JobRecord]:
        """Yield every job, oldest in this service first."""
        return (entry.record for entry in self.entries.values())

    def with_time(self, as_of: datetime | None) -> "Snapshot":
        """Return the same jobs as of another moment."""
        return Snapshot(
            self.entries,
            self.by_native,
            as_of,
            self.version,
            self.complete_since,
            self._order,
        )

    async def in_order(self) -> Sequence[Entry]:
        """Return the listed jobs in the order of the listing, sorted by their `Entry.place`."""
        return await self._order.get()

    async def listing(self, freshness: Freshness, *, usage: bool, gzip: bool) -> bytes:
        """Return the JSON array of all listed jobs, made once however many ask for it.

        Args:
            freshness: as `freshness` gave it.
            usage: whether ``resourceUsage`` is filled in.
            gzip: whether to return it compressed.
        """
        wanted = (freshness.stale, usage, gzip)
        body = self._bodies.get(wanted)
        if body is None:
            body = asyncio.ensure_future(self._make(freshness, usage=usage, gzip=gzip))
            self._bodies[wanted] = body
        return await asyncio.shield(body)

    async def _make(self, freshness: Freshness, *, usage: bool, gzip: bool) -> bytes:
        if gzip:
            plain = await self.listing(freshness, usage=usage, gzip=False)
            return await asyncio.to_thread(pack, plain)
        return await asyncio.to_thread(as_list, await self.in_order(), freshness, usage=usage)


def as_list(entries: Iterable[Entry], freshness: Freshness, *, usage: bool) -> bytes:
    """Return jobs as a JSON array."""
    return b"[" + b",".join([entry.json(freshness, usage=usage) for entry in entries]) + b"]"


def pack(body: bytes) -> bytes:
    """Return a body compressed with gzip."""
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_CONTAINER)
    return packer.compress(body) + packer.flush()


class Board:
    """Holds the present snapshot; the monitor and the services put new ones up.

    Used from the event loop's thread alone.

    Attributes:
        displaced: sights of our own jobs that were taken for somebody else's, and are not shown.
    """

    def __init__(self, wire: WireFormat) -> None:
        self._wire = wire
        self._epoch = secrets.token_hex(4)
        self._count = 0
        self._departed: OrderedDict[NativeId, JobRecord] = OrderedDict()
        self.displaced: set[JobUid] = set()
        self.snapshot = Snapshot(Layers(), Layers(), None, self._version())

    def put(
        self,
        changed: Iterable[JobRecord] = (),
        gone: Iterable[JobUid] = (),
        as_of: datetime | None = None,
        complete_since: datetime | None = None,
    ) -> Snapshot:
        """Publish a new snapshot: the present one with these differences.

        Args:
            changed: new and changed jobs; a job takes its native id over from an older one.
            gone: jobs that leave the snapshot.
            as_of: the time of the scheduler's newest answer, if there was one.
            complete_since: the end of the newest job that leaves although it belongs in the
                listing, if any does.
        """
        old, changed, gone = self.snapshot, list(changed), list(gone)
        as_of = as_of or old.as_of
        if not changed and not gone:
            self.snapshot = old.with_time(as_of)
            return self.snapshot
        entries, by_native = old.entries.copy(), old.by_native.copy()
        before = self._count
        for uid in gone:
            self._drop(uid, entries, by_native)
        for record in changed:
            self._enter(record, entries, by_native)
        version = old.version if self._count == before else self._version()
        ends = [end for end in (old.complete_since, complete_since) if end is not None]
        self.snapshot = Snapshot(entries, by_native, as_of, version, max(ends, default=None))
        return self.snapshot

    def departed(self, job_id: JobUid | NativeId) -> JobRecord | None:
        """Return a job of somebody else that lately left the queue, as it was seen last."""
        return self._departed.get(job_id) if isinstance(job_id, NativeId) else None

    def _drop(
        self, uid: JobUid, entries: Layers[JobUid, Entry], by_native: Layers[NativeId, JobUid]
    ) -> None:
        self.displaced.discard(uid)
        entry = entries.pop(uid)
        if entry is None:
            return
        self._count += 1
        native_id = entry.record.native_id
        if native_id is not None and by_native.get(native_id) == uid:
            by_native.pop(native_id)
            self._remember(native_id, entry.record)

    def _remember(self, native_id: NativeId, record: JobRecord) -> None:
        if record.is_ours:
            return
        last_seen = self.snapshot.as_of
        self._departed[native_id] = life.vanished(
            record, _LEFT_THE_QUEUE, last_seen=last_seen, at=last_seen or record.state_changed_at
        )
        if len(self._departed) > _DEPARTED_AT_MOST:
            self._departed.popitem(last=False)

    def _enter(
        self, record: JobRecord, entries: Layers[JobUid, Entry], by_native: Layers[NativeId, JobUid]
    ) -> None:
        native_id = record.native_id
        before = entries.get(record.uid)
        holder_uid = None if native_id is None else by_native.get(native_id)
        holder = None if holder_uid is None else entries.get(holder_uid)
        if holder is not None and holder.record.uid != record.uid:
            if _is_ours_seen_in_the_queue(holder.record, record):
                self.displaced.add(record.uid)
                return
            if _is_ours_seen_in_the_queue(record, holder.record):
                self.displaced.add(holder.record.uid)
                entries.pop(holder.record.uid)
            elif before is not None and before.record.native_id == native_id:
                # Its id was given to another job since, which keeps it.
                native_id = None
        self._count += 1
        entries[record.uid] = Entry(record, self._wire)
        if native_id is not None:
            by_native[native_id] = record.uid
            self._departed.pop(native_id, None)

    def _version(self) -> str:
        return f"{self._epoch}-{self._count}"


def _is_ours_seen_in_the_queue(ours: JobRecord, other: JobRecord) -> bool:
    """Whether the other record is a sight of our job from before its submission had returned."""
    if not ours.is_ours or other.is_ours or other.seen is None:
        return False
    return life.same_job(ours, other.seen)
