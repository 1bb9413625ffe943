"""The records of jobs, what happened to them, and the keys under which they were asked for.

A record and what its change means to those who follow it are written in one transaction.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from hpcq.domain.errors import RecordDamaged
from hpcq.domain.events import Event, EventDraft, EventKind
from hpcq.domain.job_filter import JobFilter, SortKey, SortOrder
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Usage
from hpcq.domain.principals import Person
from hpcq.domain.sampling import Sample
from hpcq.domain.states import JobState
from hpcq.domain.submission import IdempotencyKey
from hpcq.domain.units import from_epoch
from hpcq.storage.database import Database, Transaction
from hpcq.storage.finished_jobs import find_finished
from hpcq.storage.job_rows import (
    Claim,
    find_claim,
    free_key,
    ids_in_parts,
    keep_samples,
    mark_as_gone,
    read_one,
    read_record,
    select_ended,
    select_records,
    still_current,
    write_answer_of_scheduler,
    write_claim,
    write_records,
)
from hpcq.storage.leases import check_lease
from hpcq.storage.samples import read_samples
from hpcq.storage.schema import deployments, events, jobs

__all__ = ["Claim", "JobStore", "News"]

_log = structlog.get_logger("hpcq.store")

_NEWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """The newest writes of all processes.

    Attributes:
        changed: records, as they are now.
        gone: other people's jobs that left the queue.
        change: the newest transaction that is in it.
        as_of: the time of the scheduler's newest answer.
        problem: why it has not answered since, in words.
    """

    changed: Sequence[JobRecord]
    gone: Sequence[JobUid]
    change: int
    as_of: datetime | None
    problem: str | None


class JobStore:
    """Records of jobs in the database, and their events and samples.

    Every method raises `StoreUnavailable` when the database cannot be used. A damaged record is
    left out, and logged once, where several are read. Whoever asks for it alone gets
    `RecordDamaged`.

    Args:
        database: where all is kept.
        keys_kept: for how long an idempotency key is remembered.
        clock: the present, aware.
    """

    def __init__(
        self, database: Database, keys_kept: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._keys_kept = keys_kept
        self._now = clock
        self._damaged: set[str] = set()

    @property
    def is_shared(self) -> bool:
        """True when other processes may write to it too."""
        return self._database.is_shared

    @property
    def newest_event(self) -> int:
        """The number of the newest event; of other processes' as of this one's last write."""
        return self._database.newest_event

    async def create(self, record: JobRecord, key: IdempotencyKey | None = None) -> Claim | None:
        """Write down a job that is about to be submitted, unless its key is taken.

        Returns:
            Who has the key: then nothing was written.
        """

        def do(transaction: Transaction) -> Claim | None:
            if key is not None:
                connection, deployment = transaction.connection, transaction.deployment_id
                horizon = self._now() - self._keys_kept
                claim = find_claim(connection, deployment, key, horizon)
                if claim is not None:
                    return claim
                write_claim(transaction, key, record)
            write_records(transaction, [(None, record)], self._now())
            return None

        return await self._database.write(do)

    async def claim(self, key: IdempotencyKey) -> Claim | None:
        """Return the job that was submitted under a key before, or None."""
        horizon = self._now() - self._keys_kept
        return await self._database.read(
            lambda connection, deployment: find_claim(connection, deployment, key, horizon)
        )

    async def change(
        self, uid: JobUid, change: Callable[[JobRecord], JobRecord], *, frees_key: bool = False
    ) -> JobRecord | None:
        """Change one record, as it is in the database at that moment.

        Args:
            uid: the job's.
            change: returns the record as it is to be; may be called more than once.
            frees_key: whether the idempotency key of the job may be used for another, should the
                change make a difference.

        Returns:
            The record as it is now; None when there is none.
        """

        def do(transaction: Transaction) -> JobRecord | None:
            old = read_one(transaction.connection, jobs.c.uid == str(uid))
            if old is None:
                return None
            new = change(old)
            if new != old:
                new = new.changed(revision=old.revision + 1)
                write_records(transaction, [(old, new)], self._now())
                if frees_key:
                    free_key(transaction, uid)
            return new

        return await self._database.write(do)

    async def publish(
        self,
        changes: Sequence[tuple[JobRecord | None, JobRecord]],
        *,
        holder: str | None,
        gone: Iterable[JobUid] = (),
        event_drafts: Sequence[EventDraft] = (),
        samples: Sequence[Sample] = (),
        as_of: datetime | None = None,
        problem: str | None = None,
    ) -> list[JobRecord]:
        """Write what the scheduler's newest answers mean: all of it or nothing.

        Args:
            changes: records before and after; before is None for a new one.
            holder: the process that holds the lease, and so may write; None where there is none.
            gone: other people's jobs that left the queue.
            event_drafts: what else there is to tell.
            samples: what the jobs of some of the changes use; those for which there is room are
                kept, and become events.
            as_of: when the scheduler answered, if it did.
            problem: why it did not.

        Returns:
            The records as written. One that another process has changed meanwhile is left out,
            and nothing was written of it.

        Raises:
            LeaseLost: another process asks the scheduler now.
        """

        def do(transaction: Transaction) -> list[JobRecord]:
            if holder is not None:
                check_lease(transaction, holder)
            fresh = still_current(transaction, changes)
            write_records(transaction, fresh, self._now())
            mark_as_gone(transaction, gone, self._now())
            transaction.event_drafts.extend(event_drafts)
            keep_samples(transaction, samples, fresh, self._now())
            write_answer_of_scheduler(transaction, as_of, problem)
            return [new for _, new in fresh]

        return await self._database.write(do)

    async def by_uid(self, uid: JobUid) -> JobRecord | None:
        """Return the record with this uid, or None."""
        return await self._database.read(
            lambda connection, deployment: read_one(
                connection, jobs.c.uid == str(uid), jobs.c.deployment_id == deployment
            )
        )

    async def by_uids(self, uids: Sequence[JobUid]) -> list[JobRecord]:
        """Return the records with these uids, as far as there are any."""

        def read(connection: sa.Connection, deployment: int) -> list[JobRecord]:
            return [
                record
                for ids in ids_in_parts(uids)
                for record in self._readable(
                    connection.execute(
                        select_records(jobs.c.uid.in_(ids), jobs.c.deployment_id == deployment)
                    )
                )
            ]

        return await self._database.read(read)

    async def task_states(self, arrays: Sequence[JobUid]) -> dict[JobUid, dict[JobUid, JobState]]:
        """Return the state of each task of these arrays, which were submitted here."""

        def read(
            connection: sa.Connection, deployment: int
        ) -> dict[JobUid, dict[JobUid, JobState]]:
            states: dict[JobUid, dict[JobUid, JobState]] = {}
            for ids in ids_in_parts(arrays):
                query = sa.select(jobs.c.array_uid, jobs.c.uid, jobs.c.task_state)
                for array, task, state in connection.execute(
                    query.where(jobs.c.array_uid.in_(ids))
                ):
                    states.setdefault(JobUid(array), {})[JobUid(task)] = JobState(state)
            return states

        return await self._database.read(read) if arrays else {}

    async def task_counts(self, arrays: Sequence[JobUid]) -> dict[JobUid, dict[JobState, int]]:
        """Return how many tasks of these arrays, which were submitted here, are in each state."""

        def read(connection: sa.Connection, deployment: int) -> dict[JobUid, dict[JobState, int]]:
            counts: dict[JobUid, dict[JobState, int]] = {}
            for ids in ids_in_parts(arrays):
                query = (
                    sa.select(jobs.c.array_uid, jobs.c.task_state, sa.func.count())
                    .where(jobs.c.array_uid.in_(ids))
                    .group_by(jobs.c.array_uid, jobs.c.task_state)
                )
                for array, state, count in connection.execute(query):
                    counts.setdefault(JobUid(array), {})[JobState(state)] = count
            return counts

        return await self._database.read(read) if arrays else {}

    async def by_native_id(self, native_id: NativeId) -> JobRecord | None:
        """Return the newest record to which the scheduler gave this id, or None."""

        def read(connection: sa.Connection, deployment: int) -> JobRecord | None:
            newest = (
                select_records(
                    jobs.c.deployment_id == deployment, jobs.c.native_id == str(native_id)
                )
                .order_by(jobs.c.created_at.desc())
                .limit(1)
            )
            row = connection.execute(newest).one_or_none()
            return None if row is None else read_record(row)

        return await self._database.read(read)

    async def open_or_recent(self, since: datetime, at_most: int) -> list[JobRecord]:
        """Return what belongs in the listing: what is not settled, and what ended after ``since``.

        Args:
            since: aware.
            at_most: how many of the latter, the newest; all of the former are returned.

        Returns:
            Oldest first.
        """

        def read(connection: sa.Connection, deployment: int) -> list[JobRecord]:
            still_open = select_records(jobs.c.deployment_id == deployment, ~jobs.c.is_settled)
            newest = select_ended(deployment).where(jobs.c.changed_at >= since.timestamp())
            found = [
                *self._readable(connection.execute(still_open)),
                *self._readable(connection.execute(newest.limit(at_most))),
            ]
            return sorted(found, key=lambda record: record.created_at)

        return await self._database.read(read)

    async def ended(
        self,
        since: datetime,
        before: tuple[float, str] | None,
        limit: int,
        person: Person | None = None,
    ) -> list[JobRecord]:
        """Return a page of the jobs that ended after ``since``, the newest first.

        Args:
            since: aware.
            before: the end (epoch seconds) and uid of the last one of the page before.
            limit: at most so many.
            person: the one whose jobs; None for everybody's.
        """

        def read(connection: sa.Connection, deployment: int) -> list[JobRecord]:
            query = select_ended(deployment, person).where(jobs.c.changed_at >= since.timestamp())
            if before is not None:
                query = query.where(sa.tuple_(jobs.c.changed_at, jobs.c.uid) < before)
            return self._readable(connection.execute(query.limit(limit)))

        return await self._database.read(read)

    async def finished(
        self,
        criteria: JobFilter,
        order: SortOrder,
        *,
        after: SortKey | None,
        limit: int,
        user: str | None,
    ) -> tuple[list[JobRecord], SortKey | None]:
        """Return finished jobs however old, and how far they reach; see `find_finished`."""

        def read(
            connection: sa.Connection, deployment: int
        ) -> tuple[list[JobRecord], SortKey | None]:
            found = find_finished(
                connection,
                deployment,
                criteria,
                order,
                after=after,
                limit=limit,
                user=user,
            )
            records = {
                str(record.uid): record
                for ids in ids_in_parts(job.uid for job in found.jobs)
                for record in self._readable(
                    connection.execute(select_records(jobs.c.uid.in_(ids)))
                )
            }
            return [records[job.uid] for job in found.jobs if job.uid in records], found.reached

        return await self._database.read(read)

    async def news(self, since: int | None) -> News:
        """Return what was written after the transaction with the number ``since``.

        Args:
            since: 0 for everything, None for no records at all.

        Returns:
            A part of it, of some thousand records, when there is much; its ``change`` says how far
            it goes. Ask again from there until nothing comes.
        """

        def read(connection: sa.Connection, deployment: int) -> News:
            # Read first: what is written meanwhile comes again, and does no harm.
            change, as_of, problem = connection.execute(
                sa.select(
                    deployments.c.last_change, deployments.c.as_of, deployments.c.problem
                ).where(deployments.c.id == deployment)
            ).one()
            changed: list[JobRecord] = []
            gone: list[JobUid] = []
            if since is not None and change > since:
                change = _end_of_part(connection, deployment, since) or change
                later = (
                    jobs.c.deployment_id == deployment,
                    jobs.c.change > since,
                    jobs.c.change <= change,
                )
                forgotten = ~jobs.c.is_ours & jobs.c.is_removed
                changed = self._readable(connection.execute(select_records(*later, ~forgotten)))
                uids = connection.execute(sa.select(jobs.c.uid).where(*later, forgotten))
                gone = [JobUid(uid) for uid in uids.scalars()]
            return News(
                changed=changed,
                gone=gone,
                change=change,
                as_of=from_epoch(as_of),
                problem=problem,
            )

        return await self._database.read(read)

    async def samples(self, uid: JobUid) -> list[Usage]:
        """Return what a job used while it ran, each with its time, oldest first."""
        return await self._database.read(lambda connection, _: read_samples(connection, uid))

    async def events(self, after: int, limit: int, uid: JobUid | None = None) -> list[Event]:
        """Return what happened after the event with the number ``after``, oldest first.

        Args:
            after: 0 for all that are kept.
            limit: at most so many.
            uid: to one job; None for all.
        """

        def read(connection: sa.Connection, deployment: int) -> list[Event]:
            query = sa.select(
                events.c.number, events.c.uid, events.c.kind, events.c.at, events.c.data
            ).where(events.c.deployment_id == deployment, events.c.number > after)
            if uid is not None:
                query = query.where(events.c.uid == str(uid))
            return [
                read_event(*row)
                for row in connection.execute(query.order_by(events.c.number).limit(limit))
            ]

        return await self._database.read(read)

    async def event_numbers(self) -> tuple[int, int]:
        """Return the numbers of the oldest event that is kept and of the newest that ever was.

        The oldest is one more than the newest when none is kept.
        """

        def read(connection: sa.Connection, deployment: int) -> tuple[int, int]:
            newest = connection.execute(
                sa.select(deployments.c.last_event).where(deployments.c.id == deployment)
            ).scalar_one()
            oldest = connection.execute(
                sa.select(sa.func.min(events.c.number)).where(events.c.deployment_id == deployment)
            ).scalar()
            return newest + 1 if oldest is None else oldest, newest

        return await self._database.read(read)

    def _readable(self, rows: Iterable[Any]) -> list[JobRecord]:
        """Return the records that can be read."""
        found = []
        for row in rows:
            try:
                found.append(read_record(row))
            except RecordDamaged as error:
                if row.uid not in self._damaged:
                    self._damaged.add(row.uid)
                    _log.error("record.damaged", uid=row.uid, problem=error.detail)
        return found


def _end_of_part(connection: sa.Connection, deployment: int, since: int) -> int | None:
    """Return the transaction that ends a part of the news; None when one part holds them all."""
    return connection.execute(
        sa.select(jobs.c.change)
        .where(jobs.c.deployment_id == deployment, jobs.c.change > since)
        .order_by(jobs.c.change)
        .offset(_NEWS_AT_ONCE)
        .limit(1)
    ).scalar()


def read_event(number: int, uid: str, kind: str, at: float, data: bytes) -> Event:
    """Return the event of a row of the table of events."""
    return Event(
        number=number,
        uid=JobUid(uid),
        kind=EventKind(kind),
        at=datetime.fromtimestamp(at, UTC),
        data=json.loads(data),
    )
