"""The comparison of a queue listing with the known jobs: pure, made off the event loop."""

import heapq
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hpcq.domain import identity, job_changes, job_merge, submission
from hpcq.domain.contradictions import find_contradiction
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Observation
from hpcq.domain.states import WAITS_AGAIN
from hpcq.schedulers.base import Listing
from hpcq.services.listing.job_table import JobIndex

__all__ = ["LISTED_AT_MOST", "Comparison", "Retired", "compare", "retired"]

LISTED_AT_MOST = 20_000
"""The number of jobs submitted here that stay in the table after their end."""


@dataclass(frozen=True, slots=True)
class Retired:
    """Jobs of ours that are over and need not stay in memory.

    Attributes:
        uids: those that ended too long ago, and the oldest of those that are too many.
        newest: the end of the newest of the latter, if there are any.
    """

    uids: list[JobUid]
    newest: datetime | None


@dataclass(slots=True)
class Comparison:
    """The changes that a listing brings.

    Attributes:
        changed: new and changed jobs.
        vanished: our own jobs that were to be in the listing and are not.
        unclear: our own jobs that the scheduler may or may not have taken.
        gone: other people's jobs that left the queue, and our own that are retired.
        complete_since: see `Retired.newest`.
        contradictions: observations that no legal life explains, with the record they are about;
            `find_contradiction` has each in words.
        last: the observations of this listing, for the next comparison, without those of locally
            changed jobs, which were not taken in.
    """

    changed: list[JobRecord] = field(default_factory=list)
    vanished: list[JobRecord] = field(default_factory=list)
    unclear: list[JobRecord] = field(default_factory=list)
    gone: list[JobUid] = field(default_factory=list)
    complete_since: datetime | None = None
    contradictions: list[tuple[JobRecord, Observation]] = field(default_factory=list)
    last: dict[NativeId, Observation] = field(default_factory=dict)


def compare(
    index: JobIndex,
    listing: Listing,
    last: Mapping[NativeId, Observation],
    locally_changed: Set[JobUid],
    cluster_id: str,
    at: datetime,
    listed_for: timedelta,
) -> Comparison:
    """Compare a listing with the jobs in the table.

    Args:
        index: the jobs as known.
        listing: the scheduler's queue; those it could not read count as present.
        last: what `Comparison.last` was the time before.
        locally_changed: jobs that this service changed after the listing was asked for, which is
            older than what is known of them.
        cluster_id: this deployment's name.
        at: when the listing was asked for, aware.
        listed_for: how long our own jobs stay after their end, the newest `LISTED_AT_MOST`.
    """
    result = Comparison()
    present: set[JobUid] = set()
    for seen in listing.observations:
        record = _owner_of(index, seen, result)
        if seen.array_task_id is not None:
            record = _task_of_ours(index, record, seen, at) or record
            if record is not None and record.parent_uid is not None and not seen.state.is_final:
                # Its array is not over, whether or not it is listed itself.
                present.add(record.parent_uid)
        if record is not None and record.uid in locally_changed:
            continue
        result.last[seen.native_id] = seen
        if record is not None and _is_old_news(record, seen, last):
            present.add(record.uid)
            continue
        present.add(_take_in(result, record, seen, cluster_id, at))
    result.unclear += _still_to_be_cancelled(index, present)
    present.update(_uids_of_unreadable(index, listing))
    over = _miss(result, index, present | locally_changed)
    retiring = retired(over, at - listed_for, LISTED_AT_MOST)
    result.gone += retiring.uids
    result.complete_since = retiring.newest
    return result


def retired(over: Iterable[JobRecord], horizon: datetime, at_most: int) -> Retired:
    """Return which of the jobs that are over need not stay.

    Args:
        over: our own.
        horizon: those that ended before it go.
        at_most: how many of the others stay, the newest.
    """
    gone: list[JobUid] = []
    lately: list[JobRecord] = []
    for record in over:
        if record.state_changed_at < horizon:
            gone.append(record.uid)
        else:
            lately.append(record)
    too_many = heapq.nsmallest(len(lately) - at_most, lately, key=_ended_at)
    gone += [record.uid for record in too_many]
    return Retired(gone, too_many[-1].state_changed_at if too_many else None)


def _ended_at(record: JobRecord) -> tuple[datetime, JobUid]:
    return record.state_changed_at, record.uid


def _owner_of(index: JobIndex, seen: Observation, result: Comparison) -> JobRecord | None:
    """Return the job that is seen: by its key first, it outlives a lost answer."""
    # A task's key is its array's.
    key = seen.submission_key if seen.array_task_id is None else None
    by_key = None if key is None else index.entry(key.uid)
    if by_key is not None:
        if identity.same_job(by_key.record, seen):
            return by_key.record
        result.contradictions.append((by_key.record, seen))
    by_id = index.entry(seen.native_id)
    if by_id is None or not identity.same_job(by_id.record, seen):
        return None
    return by_id.record


def _task_of_ours(
    index: JobIndex, known: JobRecord | None, seen: Observation, at: datetime
) -> JobRecord | None:
    """Return the record of a task of an array of ours, new at its first sight; None for others."""
    if known is not None and known.submitted_here:
        return known
    array = _array_of(index, seen)
    if array is None or seen.array_task_id is None:
        return None
    entry = index.entries.get(array.uid.of_task(seen.array_task_id))
    if entry is not None and identity.same_job(entry.record, seen):
        return entry.record
    return submission.task_of(array, seen.native_id, seen.array_task_id, at)


def _array_of(index: JobIndex, seen: Observation) -> JobRecord | None:
    """Return the array of ours whose task is seen, or None."""
    if seen.submission_key is not None:
        uid: JobUid | None = seen.submission_key.uid
    else:
        uid = index.by_native.get(NativeId(seen.array_job_id or ""))
    entry = None if uid is None else index.entries.get(uid)
    if (
        entry is None
        or not entry.record.submitted_here
        or not identity.is_task_of(entry.record, seen)
    ):
        return None
    return entry.record


def _is_old_news(
    record: JobRecord, seen: Observation, last: Mapping[NativeId, Observation]
) -> bool:
    before = last.get(seen.native_id)
    return (
        record.confirmed_at is None
        and record.seen is not None
        and (before is seen or before == seen)
        # What we made of it since may not be what came of it.
        and record.state in (seen.state, WAITS_AGAIN.get(seen.state))
        and record.stage is seen.stage
    )


def _take_in(
    result: Comparison, record: JobRecord | None, seen: Observation, cluster_id: str, at: datetime
) -> JobUid:
    if record is None:
        record = job_merge.foreign_record(cluster_id, seen, at)
        result.changed.append(record)
        return record.uid
    if record.state.is_final and record.native_id is None:
        result.changed.append(job_changes.reappeared(record, seen, at))
        return record.uid
    now = job_merge.observe(record, seen, at)
    if now != record:
        result.changed.append(now)
    elif find_contradiction(record, seen) is not None:
        result.contradictions.append((record, seen))
    return record.uid


def _still_to_be_cancelled(index: JobIndex, present: Set[JobUid]) -> list[JobRecord]:
    entries = (index.entries.get(uid) for uid in present)
    records = (entry.record for entry in entries if entry is not None)
    return [r for r in records if r.hand_over is not None and r.cancel_requested_at is not None]


def _uids_of_unreadable(index: JobIndex, listing: Listing) -> set[JobUid]:
    ids = (bad.native_id for bad in listing.unreadable if bad.native_id is not None)
    return {index.by_native[i] for i in ids if i in index.by_native}


def _miss(result: Comparison, index: JobIndex, accounted_for: Set[JobUid]) -> list[JobRecord]:
    """Sort the jobs that are not in the queue; return our own that are over."""
    over: list[JobRecord] = []
    for uid, entry in index.entries.items():
        if uid in accounted_for:
            continue
        record = entry.record
        if entry.is_over:
            over.append(record)
        elif not record.submitted_here:
            result.gone.append(uid)
        elif record.native_id is None:
            result.unclear.append(record)
        else:
            result.vanished.append(record)
    return over
