"""The table of all jobs, and the listing made from it for all readers.

The event loop owns the table and changes it in place. Readers get a `JobListing`: immutable, made
when the first of them asks after a change, its JSON encoded once for all of them in a thread.
"""

import asyncio
import hashlib
import secrets
import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from operator import attrgetter

from hpcq.domain import identity, job_changes
from hpcq.domain.arrays import count_tasks
from hpcq.domain.job_filter import JobFacts, facts_of
from hpcq.domain.jobs import JobRecord, JobUid, NativeId
from hpcq.domain.states import JobState, JobStatus
from hpcq.services.listing.array_index import ArrayIndex, name_of
from hpcq.services.listing.wire import WireFormat

__all__ = [
    "Freshness",
    "JobEntry",
    "JobIndex",
    "JobListing",
    "JobTable",
    "Pieces",
    "SortKey",
    "as_list",
    "pack",
]

SortKey = tuple[datetime, int, str, str]
"""The place of a job in the listing: when it came, and then its numbers."""

Pieces = tuple[bytes, ...]
"""The bytes of a body, in order; bodies may share some of them."""

# Level 1 packs a listing of similar jobs thirtyfold in a third of the default level's time.
_GZIP_LEVEL = 1
_GZIP_CONTAINER = 16 + zlib.MAX_WBITS
# The JSON of a smaller job is copied faster than it is sent by itself.
_SHARED_BYTES = 32 * 1024
_RECENTLY_LEFT_AT_MOST = 10_000
_CHANGES_KEPT = 20_000
_USERS_REMEMBERED = 10_000
# Sorted within 0.1 ms, which is what a thread costs.
_SORTED_AT_ONCE = 200
_LEFT_THE_QUEUE = "It left the scheduler's queue, and nothing says how it ended."


@dataclass(frozen=True, slots=True)
class Freshness:
    """The time of the scheduler's newest answer, and whether that is too long ago."""

    as_of: datetime | None
    stale: bool


class JobEntry:
    """One version of a job in the table, with its JSON as far as readers asked for it.

    Attributes:
        is_over: whether it was submitted here and nothing more is asked about it.
        tasks: of an array, how many of its tasks are in each state.
    """

    def __init__(
        self,
        record: JobRecord,
        wire: WireFormat,
        change: str | None = None,
        tasks: Mapping[JobState, int] | None = None,
    ) -> None:
        self.record = record
        self.tasks = tasks
        self._change = change
        # Every poll passes all entries by.
        self.is_over = record.submitted_here and record.is_settled
        self._wire = wire

    @property
    def is_listed(self) -> bool:
        """True when the listing shows it."""
        return self._wire.is_listed(self.record)

    @property
    def version(self) -> str:
        """A word that no other version of any job has."""
        if self._change is not None:
            return self._change
        tasks = "" if self.tasks is None else sorted(self.tasks.items())
        return f"{self.record.uid}:{self.record.revision}:{tasks}"

    @cached_property
    def facts(self) -> JobFacts:
        """The facts by which listings are filtered and sorted."""
        return facts_of(self.record)

    @cached_property
    def sort_key(self) -> SortKey:
        """The job's place in the listing. Jobs that came together go by their numbers."""
        record = self.record
        native_id = record.native_id or ""
        return record.created_at, len(native_id), native_id, record.uid

    @cached_property
    def _stable_json(self) -> bytes:
        return self._wire.encode_stable(self.record, usage=True, tasks=self.tasks)

    @cached_property
    def _stable_json_without_usage(self) -> bytes:
        return self._wire.encode_stable(self.record, usage=False, tasks=self.tasks)

    def json(self, freshness: Freshness, *, usage: bool = True) -> bytes:
        """Return the job's JSON; with ``usage``, ``resourceUsage`` is filled in."""
        return b"".join(self.json_parts(freshness, usage=usage))

    def json_parts(self, freshness: Freshness, *, usage: bool) -> tuple[bytes, bytes]:
        """Return the job's JSON as what stays the same until the job changes, and the rest."""
        wire, record, seen = self._wire, self.record, self.record.seen
        as_of = record.confirmed_at or freshness.as_of
        stable = self._stable_json if usage else self._stable_json_without_usage
        if wire.is_original:
            # A change through this service may be newer than the last look at the queue.
            changed_at = record.state_changed_at
            stable = wire.fill_confirmed_at(stable, max(as_of or changed_at, changed_at))
        start = None if seen is None else seen.start_time
        if start is None and record.confirmed_at is None:
            return stable, wire.volatile_of_waiting(as_of, stale=freshness.stale)
        until = as_of if seen is None else seen.end_time or as_of
        elapsed = None
        if start is not None and until is not None:
            elapsed = max(0, int((until - start).total_seconds()))
        stale = freshness.stale and not record.state.is_final
        return stable, wire.encode_volatile(elapsed, as_of, stale=stale)


class JobIndex:
    """Jobs by their uid, oldest in this service first, and by the scheduler's id."""

    def __init__(self, entries: dict[JobUid, JobEntry], by_native: dict[NativeId, JobUid]) -> None:
        self.entries = entries
        self.by_native = by_native

    def entry(self, job_id: JobUid | NativeId) -> JobEntry | None:
        """Return the job with this uid or native id."""
        uid = self.by_native.get(job_id) if isinstance(job_id, NativeId) else job_id
        return None if uid is None else self.entries.get(uid)

    def records(self) -> Iterator[JobRecord]:
        """Yield the record of every job."""
        return (entry.record for entry in self.entries.values())


class JobListing:
    """The listed jobs as of one moment; immutable.

    Attributes:
        version: changes whenever anything but the passage of time has changed.
        as_of: the time of the scheduler's newest answer; None before its first.
        complete_since: the listing holds all jobs submitted here that ended after this; None when
            none was left out.
    """

    def __init__(
        self,
        entries: Sequence[JobEntry],
        version: str,
        as_of: datetime | None,
        complete_since: datetime | None,
    ) -> None:
        self.version = version
        self.as_of = as_of
        self.complete_since = complete_since
        self._entries = entries
        self._sorted: asyncio.Future[Sequence[JobEntry]] | None = None
        self._counts: asyncio.Future[Counter[tuple[JobState, JobStatus]]] | None = None
        self._bodies: dict[tuple[bool, bool, bool], asyncio.Future[Pieces]] = {}

    def at(self, as_of: datetime | None, complete_since: datetime | None) -> "JobListing":
        """Return the same jobs as of another moment."""
        later = JobListing(self._entries, self.version, as_of, complete_since)
        later._sorted = self._sorted
        later._counts = self._counts
        return later

    async def in_order(self) -> Sequence[JobEntry]:
        """Return the listed jobs by `JobEntry.sort_key`, sorted once for all readers."""
        if len(self._entries) <= _SORTED_AT_ONCE:
            return _in_order(self._entries)
        if self._sorted is None:
            self._sorted = asyncio.ensure_future(asyncio.to_thread(_in_order, self._entries))
        return await asyncio.shield(self._sorted)

    async def counts(self) -> Counter[tuple[JobState, JobStatus]]:
        """Return how many listed jobs are in each state, counted once for all readers."""
        if self._counts is None:
            self._counts = asyncio.ensure_future(asyncio.to_thread(_count, self._entries))
        return await asyncio.shield(self._counts)

    async def json(self, freshness: Freshness, *, usage: bool, gzip: bool) -> Pieces:
        """Return the JSON array of all listed jobs, encoded once for all readers.

        Args:
            freshness: of the table.
            usage: whether ``resourceUsage`` is filled in.
            gzip: whether to return it compressed.
        """
        wanted = (freshness.stale, usage, gzip)
        body = self._bodies.get(wanted)
        if body is None:
            body = asyncio.ensure_future(self._encode(freshness, usage=usage, gzip=gzip))
            self._bodies[wanted] = body
        return await asyncio.shield(body)

    async def _encode(self, freshness: Freshness, *, usage: bool, gzip: bool) -> Pieces:
        if gzip:
            plain = await self.json(freshness, usage=usage, gzip=False)
            return await asyncio.to_thread(pack, plain)
        return await asyncio.to_thread(as_list, await self.in_order(), freshness, usage=usage)


def _in_order(entries: Sequence[JobEntry]) -> Sequence[JobEntry]:
    listed = [entry for entry in entries if entry.is_listed]
    return sorted(listed, key=attrgetter("sort_key"))


def _count(entries: Sequence[JobEntry]) -> Counter[tuple[JobState, JobStatus]]:
    listed = (entry.record for entry in entries if entry.is_listed)
    return Counter((record.state, record.status) for record in listed)


def as_list(entries: Iterable[JobEntry], freshness: Freshness, *, usage: bool) -> Pieces:
    """Return jobs as a JSON array, in pieces.

    All versions of a listing share the JSON of a large job, however many of them are being read.
    """
    pieces: list[bytes] = []
    parts = [b"["]
    for entry in entries:
        stable, volatile = entry.json_parts(freshness, usage=usage)
        if len(stable) < _SHARED_BYTES:
            parts.append(stable)
        else:
            pieces += (b"".join(parts), stable)
            parts.clear()
        parts += (volatile, b",")
    if parts[-1] == b",":
        parts.pop()
    # Joined once: each further step would copy the whole listing.
    pieces.append(b"".join((*parts, b"]")))
    return tuple(pieces)


def pack(body: Pieces) -> Pieces:
    """Return a body compressed with gzip, in one piece."""
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_CONTAINER)
    return (b"".join((*map(packer.compress, body), packer.flush())),)


class JobTable(JobIndex):
    """All jobs: those in the queue, and those submitted here that ended lately.

    The event loop's thread alone uses it; a thread gets a `copy`.

    Attributes:
        as_of: the time of the scheduler's newest answer; None before its first.
        shadowed: foreign records of jobs that turned out to be submitted here; the table does
            not show them.
        open_jobs: how many jobs nothing says to be over, by state.
    """

    def __init__(self, wire: WireFormat) -> None:
        super().__init__({}, {})
        self._uids_of: dict[str, set[JobUid]] = {}
        self._changes_of: dict[str, int] = {}
        self._listing_of: dict[str, JobListing] = {}
        self._wire = wire
        self._epoch = secrets.token_hex(4)
        self._changes = 0
        self._changed_lately: deque[JobUid] = deque(maxlen=_CHANGES_KEPT)
        self._complete_since: datetime | None = None
        self._recently_left: OrderedDict[NativeId, JobRecord] = OrderedDict()
        self._listing: JobListing | None = None
        self.as_of: datetime | None = None
        self.shadowed: set[JobUid] = set()
        self.open_jobs: Counter[JobState] = Counter()
        self._open_jobs_of: Counter[str] = Counter()
        self._arrays = ArrayIndex()

    @property
    def version(self) -> str:
        """A word that changes whenever anything but the passage of time has changed."""
        return f"{self._epoch}-{self._changes}"

    @property
    def listing(self) -> JobListing:
        """The listing as of now, the same for all readers until something changes."""
        if self._listing is None:
            entries = list(self.entries.values())
            self._listing = JobListing(entries, self.version, self.as_of, self._complete_since)
        return self._listing

    def view(self, user: str | None) -> JobListing:
        """Return the listing of one user's jobs, the same until one of them changes.

        Args:
            user: whose jobs; None for everybody's.
        """
        if user is None:
            return self.listing
        listing = self._listing_of.get(user)
        if listing is None:
            entries = [self.entries[uid] for uid in self._uids_of.get(user, ())]
            # No two users share a version: a cache between must not give one the other's jobs.
            mark = hashlib.sha256(f"{self._epoch} {user}".encode()).hexdigest()[:16]
            version = f"{mark}-{self._changes_of.get(user, 0)}"
            listing = JobListing(entries, version, self.as_of, self._complete_since)
        elif listing.as_of != self.as_of or listing.complete_since != self._complete_since:
            listing = listing.at(self.as_of, self._complete_since)
        if len(self._listing_of) >= _USERS_REMEMBERED:
            self._listing_of.clear()
        self._listing_of[user] = listing
        return listing

    def changed_since(self, version: str) -> Sequence[JobUid] | None:
        """Return the jobs that changed, came or left since the table had a version.

        Args:
            version: an earlier `version`.

        Returns:
            Each of them once; None when that is not known any more.
        """
        epoch, _, number = version.partition("-")
        if epoch != self._epoch or not number.isdecimal():
            return None
        missed = self._changes - int(number)
        if not 0 <= missed <= len(self._changed_lately):
            return None
        return tuple(dict.fromkeys(islice(reversed(self._changed_lately), missed)))

    def open_jobs_of(self, user: str) -> int:
        """Return how many jobs a user submitted here that are not over; an array is one."""
        return self._open_jobs_of[user]

    def tasks_of(self, array: JobRecord) -> dict[int, JobRecord]:
        """Return the tasks of an array that the table shows, by their numbers."""
        name = name_of(array)
        uids = () if name is None else self._arrays.tasks_of(name)
        records = [self.entries[uid].record for uid in uids if uid in self.entries]
        return {
            record.seen.array_task_id: record
            for record in records
            if record.seen is not None and record.seen.array_task_id is not None
        }

    def remember_tasks(self, states: Mapping[JobUid, Mapping[JobUid, JobState]]) -> None:
        """Take in the states of tasks that the table has no room for.

        Args:
            states: of the tasks of each of some arrays, which are about to enter.
        """
        for array, tasks in states.items():
            self._arrays.remember(array, tasks)

    def copy(self) -> JobIndex:
        """Return a copy for a thread; 10 to 20 ms for 100,000 jobs."""
        return JobIndex(self.entries.copy(), self.by_native.copy())

    def freshness(self, now: datetime, allowed_age: timedelta) -> Freshness:
        """Return how old the scheduler's newest answer is at ``now``."""
        stale = self.as_of is None or now - self.as_of > allowed_age
        return Freshness(self.as_of, stale)

    def apply(
        self,
        changed: Iterable[JobRecord] = (),
        gone: Iterable[JobUid] = (),
        as_of: datetime | None = None,
        complete_since: datetime | None = None,
    ) -> None:
        """Take in what changed.

        Args:
            changed: new and changed jobs; a job takes its native id over from an older one.
            gone: jobs that leave the table.
            as_of: the time of the scheduler's newest answer, if there was one.
            complete_since: the end of the newest job that leaves although it belongs in the
                listing, if any does.
        """
        before = self._changes
        for uid in gone:
            self._drop(uid)
        for record in changed:
            self._enter(record)
        self._count_tasks()
        if complete_since is not None:
            self._complete_since = max(self._complete_since or complete_since, complete_since)
        self.as_of = as_of or self.as_of
        if self._changes != before or complete_since is not None:
            self._listing = None
        elif self._listing is not None and self._listing.as_of != self.as_of:
            self._listing = self._listing.at(self.as_of, self._complete_since)

    def recently_left(self, job_id: JobUid | NativeId) -> JobRecord | None:
        """Return a foreign job that lately left the queue, as the queue last showed it."""
        return self._recently_left.get(job_id) if isinstance(job_id, NativeId) else None

    def _drop(self, uid: JobUid) -> None:
        self.shadowed.discard(uid)
        entry = self.entries.pop(uid, None)
        if entry is None:
            return
        self._count_change(entry.record, None)
        native_id = entry.record.native_id
        if native_id is not None and self.by_native.get(native_id) == uid:
            del self.by_native[native_id]
            if not entry.record.submitted_here:
                self._remember(native_id, entry.record)

    def _count_change(self, before: JobRecord | None, after: JobRecord | None) -> None:
        """Count a change for all, and for the user or the two users whose job it is."""
        changed = before or after
        assert changed is not None  # noqa: S101
        self._note_changed(changed.uid)
        self._arrays.note(before, after, self.entries)
        self._count_open(before, -1)
        self._count_open(after, 1)
        was = None if before is None else before.belongs_to
        now = None if after is None else after.belongs_to
        if before is not None and was is not None and was != now:
            uids = self._uids_of[was]
            uids.discard(before.uid)
            if not uids:
                del self._uids_of[was]
            self._note_change(was)
        if after is not None and now is not None:
            self._uids_of.setdefault(now, set()).add(after.uid)
            self._note_change(now)

    def _note_changed(self, uid: JobUid) -> None:
        self._changes += 1
        self._changed_lately.append(uid)

    def _count_tasks(self) -> None:
        """Show how many tasks in each state the arrays have that changed, or tasks of which did."""
        for name in self._arrays.pop_changed():
            entry = self.entry(name)
            if entry is None or not entry.record.is_array or name_of(entry.record) != name:
                continue
            record = entry.record
            tasks = count_tasks(record, self._arrays.counts(name))
            if tasks != entry.tasks:
                self._note_changed(record.uid)
                if record.belongs_to is not None:
                    self._note_change(record.belongs_to)
                self.entries[record.uid] = JobEntry(record, self._wire, self.version, tasks)

    def _count_open(self, record: JobRecord | None, step: int) -> None:
        if record is None or record.is_settled:
            return
        self.open_jobs[record.state] += step
        user = record.submitted_by
        if user is not None and record.parent_uid is None:
            self._open_jobs_of[user] += step
            if not self._open_jobs_of[user]:
                del self._open_jobs_of[user]

    def _note_change(self, user: str) -> None:
        self._changes_of[user] = self._changes
        self._listing_of.pop(user, None)

    def _remember(self, native_id: NativeId, record: JobRecord) -> None:
        last_seen = self.as_of
        self._recently_left[native_id] = job_changes.vanished(
            record, _LEFT_THE_QUEUE, last_seen=last_seen, at=last_seen or record.state_changed_at
        )
        if len(self._recently_left) > _RECENTLY_LEFT_AT_MOST:
            self._recently_left.popitem(last=False)

    def _enter(self, record: JobRecord) -> None:
        native_id = record.native_id
        before = self.entries.get(record.uid)
        holder = None if native_id is None else self.entry(native_id)
        if holder is not None and holder.record.uid != record.uid:
            if _is_same_job_seen_early(holder.record, record):
                self.shadowed.add(record.uid)
                return
            if _is_same_job_seen_early(record, holder.record):
                self.shadowed.add(holder.record.uid)
                del self.entries[holder.record.uid]
                self._count_change(holder.record, None)
            elif before is not None and before.record.native_id == native_id:
                # Its id was given to another job since, which keeps it.
                native_id = None
        self._count_change(None if before is None else before.record, record)
        self.entries[record.uid] = JobEntry(record, self._wire, self.version)
        if native_id is not None:
            self.by_native[native_id] = record.uid
            self._recently_left.pop(native_id, None)


def _is_same_job_seen_early(ours: JobRecord, other: JobRecord) -> bool:
    """Return whether the queue showed our job, as the other, before its submission returned."""
    if not ours.submitted_here or other.submitted_here or other.seen is None:
        return False
    return identity.same_job(ours, other.seen)
