"""The table of all jobs, which the event loop owns and changes in place.

Readers get a `JobListing`, made when the first of them asks after a change.
"""

import hashlib
import secrets
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice

from hpcq.domain import identity, job_changes
from hpcq.domain.arrays import count_tasks
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, OwnerName
from hpcq.domain.principals import Person
from hpcq.domain.states import JobState
from hpcq.services.listing.array_index import ArrayIndex, name_of
from hpcq.services.listing.job_entry import Freshness, JobEntry
from hpcq.services.listing.job_listing import JobListing
from hpcq.services.listing.wire import WireFormat

__all__ = ["JobIndex", "JobTable"]

_RECENTLY_LEFT_AT_MOST = 10_000
_CHANGES_KEPT = 20_000
_USERS_REMEMBERED = 10_000
_LEFT_THE_QUEUE = "It left the scheduler's queue, and nothing says how it ended."


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
        self._uids_of: dict[OwnerName, set[JobUid]] = {}
        self._changes_of: dict[OwnerName, int] = {}
        self._listing_of: dict[Person, JobListing] = {}
        self._readers_of: dict[OwnerName, set[Person]] = {}
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

    def view(self, person: Person | None) -> JobListing:
        """Return the listing of one person's jobs, the same until one of them changes.

        Args:
            person: whose jobs; None for everybody's.
        """
        if person is None:
            return self.listing
        listing = self._listing_of.get(person)
        if listing is None:
            names = person.names
            entries = [self.entries[uid] for name in names for uid in self._uids_of.get(name, ())]
            # No two people share a version: a cache between must not give one the other's jobs.
            mark = hashlib.sha256(f"{self._epoch} {person.user}".encode()).hexdigest()[:16]
            version = f"{mark}-{max(self._changes_of.get(name, 0) for name in names)}"
            listing = JobListing(entries, version, self.as_of, self._complete_since)
        elif listing.as_of != self.as_of or listing.complete_since != self._complete_since:
            listing = listing.at(self.as_of, self._complete_since)
        if len(self._listing_of) >= _USERS_REMEMBERED:
            self._listing_of.clear()
            self._readers_of.clear()
        self._listing_of[person] = listing
        for name in person.names:
            self._readers_of.setdefault(name, set()).add(person)
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
        self._note_change(entry.record, None)
        native_id = entry.record.native_id
        if native_id is not None and self.by_native.get(native_id) == uid:
            del self.by_native[native_id]
            if not entry.record.submitted_here:
                self._recently_left[native_id] = self._vanished(entry.record)
                if len(self._recently_left) > _RECENTLY_LEFT_AT_MOST:
                    self._recently_left.popitem(last=False)

    def _vanished(self, record: JobRecord) -> JobRecord:
        at = self.as_of or record.state_changed_at
        return job_changes.vanished(record, _LEFT_THE_QUEUE, last_seen=self.as_of, at=at)

    def _note_change(self, before: JobRecord | None, after: JobRecord | None) -> None:
        """Note a change for all, and for the one or the two whose job it is."""
        changed = before or after
        assert changed is not None  # noqa: S101
        self._next_version(changed.uid)
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
            self._next_version_of(was)
        if after is not None and now is not None:
            self._uids_of.setdefault(now, set()).add(after.uid)
            self._next_version_of(now)

    def _next_version(self, uid: JobUid) -> None:
        self._changes += 1
        self._changed_lately.append(uid)

    def _next_version_of(self, name: OwnerName) -> None:
        self._changes_of[name] = self._changes
        for person in self._readers_of.pop(name, ()):
            self._listing_of.pop(person, None)

    def _count_tasks(self) -> None:
        """Count the tasks in each state again, of arrays that changed or whose tasks did."""
        for name in self._arrays.pop_changed():
            entry = self.entry(name)
            if entry is None or not entry.record.is_array or name_of(entry.record) != name:
                continue
            record = entry.record
            tasks = count_tasks(record, self._arrays.counts(name))
            if tasks != entry.tasks:
                self._next_version(record.uid)
                if record.belongs_to is not None:
                    self._next_version_of(record.belongs_to)
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
                self._note_change(holder.record, None)
            elif before is not None and before.record.native_id == native_id:
                # Its id was given to another job since, which keeps it.
                native_id = None
        self._note_change(None if before is None else before.record, record)
        self.entries[record.uid] = JobEntry(record, self._wire, self.version)
        if native_id is not None:
            self.by_native[native_id] = record.uid
            self._recently_left.pop(native_id, None)


def _is_same_job_seen_early(ours: JobRecord, other: JobRecord) -> bool:
    """Return whether the queue showed our job, as the other, before its submission returned."""
    if not ours.submitted_here or other.submitted_here or other.seen is None:
        return False
    return identity.same_job(ours, other.seen)
