"""The records of jobs, what happened to them, and the keys under which they were asked for.

A record and what its change means to those who follow it are written in one transaction.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog

from hpcq.domain.errors import RecordDamaged
from hpcq.domain.events import Event, EventKind, Happening, between, sampled
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, Usage
from hpcq.domain.sampling import Sample
from hpcq.domain.submission import IdempotencyKey
from hpcq.domain.units import from_epoch
from hpcq.storage.database import Database, Transaction
from hpcq.storage.documents import decode, encode
from hpcq.storage.leases import check_lease
from hpcq.storage.samples import read_samples, write_samples
from hpcq.storage.schema import deployments, events, idempotency_keys, jobs

__all__ = ["Claim", "JobStore", "News"]

_log = structlog.get_logger("hpcq.store")

_IDS_IN_ONE_QUERY = 500
_NEWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that was submitted under an idempotency key before."""

    uid: JobUid
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What other processes, and this one, have written lately.

    Attributes:
        changed: records, as they are now.
        gone: other people's jobs that left the queue.
        change: the newest transaction that is in it.
        as_of: when the scheduler last answered whoever asks it.
        problem: why it has not answered since, in words.
    """

    changed: Sequence[JobRecord]
    gone: Sequence[JobUid]
    change: int
    as_of: datetime | None
    problem: str | None


class JobStore:
    """Every method raises `StoreUnavailable` when the database cannot be used.

    A damaged record is left out, and logged once, where several are read. Whoever asks for it
    alone gets `RecordDamaged`.

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
        """Whether other processes may write to it too."""
        return self._database.is_shared

    async def create(self, record: JobRecord, key: IdempotencyKey | None = None) -> Claim | None:
        """Write down a job that is about to be submitted, unless its key is taken.

        Returns:
            Who has the key: then nothing was written.
        """

        def do(transaction: Transaction) -> Claim | None:
            if key is not None:
                connection, deployment = transaction.connection, transaction.deployment_id
                horizon = self._now() - self._keys_kept
                claim = _find_claim(connection, deployment, key.text, horizon)
                if claim is not None:
                    return claim
                _claim(transaction, key, record)
            _write(transaction, [(None, record)], self._now())
            return None

        return await self._database.write(do)

    async def claim(self, key: IdempotencyKey) -> Claim | None:
        """Return the job that was submitted under a key before, or None."""
        horizon = self._now() - self._keys_kept
        return await self._database.read(
            lambda connection, deployment: _find_claim(connection, deployment, key.text, horizon)
        )

    async def change(
        self, uid: JobUid, change: Callable[[JobRecord], JobRecord], *, frees_key: bool = False
    ) -> JobRecord | None:
        """Change one record, as it is in the database at that moment.

        Args:
            uid: whose.
            change: returns the record as it is to be; may be called more than once.
            frees_key: whether the idempotency key of the job may be used for another, should the
                change make a difference.

        Returns:
            The record as it is now; None when there is none.
        """

        def do(transaction: Transaction) -> JobRecord | None:
            old = _read_one(transaction.connection, jobs.c.uid == str(uid))
            if old is None:
                return None
            new = change(old)
            if new != old:
                new = new.changed(revision=old.revision + 1)
                _write(transaction, [(old, new)], self._now())
                if frees_key:
                    _free_key(transaction, uid)
            return new

        return await self._database.write(do)

    async def publish(
        self,
        changes: Sequence[tuple[JobRecord | None, JobRecord]],
        *,
        holder: str | None,
        gone: Iterable[JobUid] = (),
        happenings: Sequence[Happening] = (),
        samples: Sequence[Sample] = (),
        as_of: datetime | None = None,
        problem: str | None = None,
    ) -> list[JobRecord]:
        """Write what the scheduler's newest answers mean: all of it or nothing.

        Args:
            changes: records before and after; before is None for a new one.
            holder: the process that holds the lease, and so may write; None where there is none.
            gone: other people's jobs that left the queue.
            happenings: what else there is to tell.
            samples: what the jobs of some of the changes use; those for which there is room are
                kept, and told.
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
            fresh = _still_current(transaction, changes)
            _write(transaction, fresh, self._now())
            _forget(transaction, gone, self._now())
            transaction.happenings.extend(happenings)
            _keep_samples(transaction, samples, fresh, self._now())
            _note(transaction, as_of, problem)
            return [new for _, new in fresh]

        return await self._database.write(do)

    async def by_uid(self, uid: JobUid) -> JobRecord | None:
        """Return the record with this uid, or None."""
        return await self._database.read(
            lambda connection, deployment: _read_one(
                connection, jobs.c.uid == str(uid), jobs.c.deployment_id == deployment
            )
        )

    async def by_uids(self, uids: Sequence[JobUid]) -> list[JobRecord]:
        """Return the records with these uids, as far as there are any."""

        def read(connection: sa.Connection, deployment: int) -> list[JobRecord]:
            return [
                record
                for batch in _batches([str(uid) for uid in uids])
                for record in self._whole(
                    connection.execute(
                        _select(jobs.c.uid.in_(batch), jobs.c.deployment_id == deployment)
                    )
                )
            ]

        return await self._database.read(read)

    async def by_native_id(self, native_id: NativeId) -> JobRecord | None:
        """Return the newest record to which the scheduler gave this id, or None."""

        def read(connection: sa.Connection, deployment: int) -> JobRecord | None:
            newest = (
                _select(jobs.c.deployment_id == deployment, jobs.c.native_id == str(native_id))
                .order_by(jobs.c.created_at.desc())
                .limit(1)
            )
            row = connection.execute(newest).one_or_none()
            return None if row is None else _record(row)

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
            still_open = _select(jobs.c.deployment_id == deployment, ~jobs.c.is_settled)
            newest = _ended(deployment).where(jobs.c.changed_at >= since.timestamp())
            found = [
                *self._whole(connection.execute(still_open)),
                *self._whole(connection.execute(newest.limit(at_most))),
            ]
            return sorted(found, key=lambda record: record.created_at)

        return await self._database.read(read)

    async def ended(
        self, since: datetime, before: tuple[float, str] | None, limit: int
    ) -> list[JobRecord]:
        """Return a page of the jobs that ended after ``since``, the newest first.

        Args:
            since: aware.
            before: the end (epoch seconds) and uid of the last one of the page before.
            limit: at most so many.
        """

        def read(connection: sa.Connection, deployment: int) -> list[JobRecord]:
            query = _ended(deployment).where(jobs.c.changed_at >= since.timestamp())
            if before is not None:
                query = query.where(sa.tuple_(jobs.c.changed_at, jobs.c.uid) < before)
            return self._whole(connection.execute(query.limit(limit)))

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
                changed = self._whole(connection.execute(_select(*later, ~forgotten)))
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
        """Return what a job used while it ran, oldest first; ``sampled_at`` is when."""
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
                _event(*row)
                for row in connection.execute(query.order_by(events.c.number).limit(limit))
            ]

        return await self._database.read(read)

    def _whole(self, rows: Iterable[Any]) -> list[JobRecord]:
        """Return the records that can be read."""
        found = []
        for row in rows:
            try:
                found.append(_record(row))
            except RecordDamaged as error:
                if row.uid not in self._damaged:
                    self._damaged.add(row.uid)
                    _log.error("record.damaged", uid=row.uid, problem=error.detail)
        return found


def _select(*where: sa.ColumnElement[bool]) -> sa.Select[tuple[str, int, bytes]]:
    return sa.select(jobs.c.uid, jobs.c.revision, jobs.c.document).where(*where)


def _ended(deployment: int) -> sa.Select[tuple[str, int, bytes]]:
    return _select(
        jobs.c.deployment_id == deployment, jobs.c.is_settled, ~jobs.c.is_removed
    ).order_by(jobs.c.changed_at.desc(), jobs.c.uid.desc())


def _record(row: Any) -> JobRecord:
    """Return the record of a row.

    Raises:
        RecordDamaged: it cannot be read.
    """
    try:
        record = decode(row.document)
    except ValueError as error:
        raise RecordDamaged(row.uid, str(error)) from error
    # A copy takes half as long as the reading, and only few records differ.
    return record if record.revision == row.revision else replace(record, revision=row.revision)


def _read_one(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> JobRecord | None:
    row = connection.execute(_select(*where)).one_or_none()
    return None if row is None else _record(row)


def _batches(values: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(values), _IDS_IN_ONE_QUERY):
        yield values[start : start + _IDS_IN_ONE_QUERY]


def _row(transaction: Transaction, record: JobRecord) -> dict[str, Any]:
    return {
        "uid": str(record.uid),
        "deployment_id": transaction.deployment_id,
        "native_id": record.native_id and str(record.native_id),
        "is_ours": record.is_ours,
        "is_settled": record.is_settled,
        "is_removed": record.removed_at is not None,
        "changed_at": record.state_changed_at.timestamp(),
        "created_at": record.created_at.timestamp(),
        "revision": record.revision,
        "change": transaction.change,
        "document": encode(record),
    }


def _write(
    transaction: Transaction,
    changes: Sequence[tuple[JobRecord | None, JobRecord]],
    at: datetime,
) -> None:
    """Write records, and what their change means to those who follow them."""
    connection = transaction.connection
    new = [_row(transaction, record) for old, record in changes if old is None]
    changed = [
        {f"new_{name}": value for name, value in _row(transaction, record).items()}
        for old, record in changes
        if old is not None
    ]
    if new:
        connection.execute(jobs.insert(), new)
    if changed:
        connection.execute(_UPDATE, changed)
    for old, record in changes:
        if record.is_ours:
            transaction.happenings += between(old, record, at)


_UPDATE = (
    jobs.update()
    .where(jobs.c.uid == sa.bindparam("new_uid"))
    .values({c.name: sa.bindparam(f"new_{c.name}") for c in jobs.c if c.name != "uid"})
)


def _still_current(
    transaction: Transaction, changes: Sequence[tuple[JobRecord | None, JobRecord]]
) -> list[tuple[JobRecord | None, JobRecord]]:
    """Return the changes of records that nobody else has changed, with their next revision."""
    written: dict[str, Any] = {}
    for batch in _batches([str(new.uid) for _, new in changes]):
        query = sa.select(
            jobs.c.uid, jobs.c.revision, (~jobs.c.is_ours & jobs.c.is_removed).label("is_forgotten")
        ).where(jobs.c.uid.in_(batch))
        written.update((row.uid, row) for row in transaction.connection.execute(query))
    fresh: list[tuple[JobRecord | None, JobRecord]] = []
    for old, new in changes:
        row = written.get(str(new.uid))
        if row is None:
            if old is None:
                fresh.append((None, new))
        elif row.is_forgotten:
            # Somebody else's job that had left the queue, and is in it again.
            fresh.append((new, new.changed(revision=row.revision + 1)))
        elif old is not None and old.revision == row.revision:
            fresh.append((old, new.changed(revision=row.revision + 1)))
    return fresh


def _keep_samples(
    transaction: Transaction,
    samples: Sequence[Sample],
    written: Sequence[tuple[JobRecord | None, JobRecord]],
    at: datetime,
) -> None:
    uids = {record.uid for _, record in written}
    wanted = [sample for sample in samples if sample.record.uid in uids]
    for kept in write_samples(transaction, wanted):
        transaction.happenings.append(sampled(kept.record, kept.usage, at))


def _end_of_part(connection: sa.Connection, deployment: int, since: int) -> int | None:
    """Return the transaction up to which the news are many enough; None when they are not."""
    return connection.execute(
        sa.select(jobs.c.change)
        .where(jobs.c.deployment_id == deployment, jobs.c.change > since)
        .order_by(jobs.c.change)
        .offset(_NEWS_AT_ONCE)
        .limit(1)
    ).scalar()


def _forget(transaction: Transaction, gone: Iterable[JobUid], at: datetime) -> None:
    for batch in _batches([str(uid) for uid in gone]):
        transaction.connection.execute(
            jobs.update()
            .where(jobs.c.uid.in_(batch), ~jobs.c.is_ours)
            .values(
                is_settled=True,
                is_removed=True,
                changed_at=at.timestamp(),
                change=transaction.change,
            )
        )


def _note(transaction: Transaction, as_of: datetime | None, problem: str | None) -> None:
    """Write down how the scheduler is, if it was asked."""
    if as_of is None and problem is None:
        return
    # No text of PostgreSQL's holds a NUL, nor half a surrogate pair.
    said = problem and problem.replace("\0", "").encode("utf-8", "replace").decode()
    values: dict[str, Any] = {"problem": said}
    if as_of is not None:
        values["as_of"] = as_of.timestamp()
    transaction.connection.execute(
        deployments.update().where(deployments.c.id == transaction.deployment_id).values(values)
    )


def _find_claim(
    connection: sa.Connection, deployment: int, key: str, horizon: datetime
) -> Claim | None:
    row = connection.execute(
        sa.select(idempotency_keys.c.uid, idempotency_keys.c.fingerprint).where(
            idempotency_keys.c.deployment_id == deployment,
            idempotency_keys.c.key == key,
            idempotency_keys.c.created_at >= horizon.timestamp(),
        )
    ).one_or_none()
    return None if row is None else Claim(JobUid(row[0]), row[1])


def _claim(transaction: Transaction, key: IdempotencyKey, record: JobRecord) -> None:
    connection = transaction.connection
    # One that is no longer remembered may be there still.
    connection.execute(
        idempotency_keys.delete().where(
            idempotency_keys.c.deployment_id == transaction.deployment_id,
            idempotency_keys.c.key == key.text,
        )
    )
    connection.execute(
        idempotency_keys.insert(),
        {
            "deployment_id": transaction.deployment_id,
            "key": key.text,
            "fingerprint": key.fingerprint,
            "uid": str(record.uid),
            "created_at": record.created_at.timestamp(),
        },
    )


def _free_key(transaction: Transaction, uid: JobUid) -> None:
    transaction.connection.execute(
        idempotency_keys.delete().where(idempotency_keys.c.uid == str(uid))
    )


def _event(number: int, uid: str, kind: str, at: float, data: bytes) -> Event:
    return Event(
        number=number,
        uid=JobUid(uid),
        kind=EventKind(kind),
        at=datetime.fromtimestamp(at, UTC),
        data=json.loads(data),
    )
