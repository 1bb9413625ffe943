"""Samples of what running jobs use: few enough for each, however long it runs."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from hpcq.domain.jobs import JobUid, Usage
from hpcq.domain.sampling import Sample, resolution, thinned
from hpcq.storage.database import Transaction
from hpcq.storage.schema import jobs, usage_samples

__all__ = ["read_samples", "write_samples"]

_FIGURES = (
    "cpu_seconds",
    "memory_byte_seconds",
    "memory_bytes",
    "max_memory_bytes",
    "io_bytes",
    "io_wait_seconds",
)
_IN_ONE_QUERY = 500

_newest = (
    sa.select(usage_samples.c.second, usage_samples.c.sampled_at)
    .where(usage_samples.c.uid == jobs.c.uid)
    .order_by(usage_samples.c.second.desc())
    .limit(1)
)
_newest_second = _newest.with_only_columns(usage_samples.c.second).scalar_subquery()
_newest_time = _newest.with_only_columns(usage_samples.c.sampled_at).scalar_subquery()


def write_samples(transaction: Transaction, samples: Sequence[Sample]) -> list[Sample]:
    """Write those samples for which there is room; return them.

    Args:
        transaction: to write with.
        samples: of different jobs.
    """
    newest = _newest_of(transaction, samples)
    stored: list[Sample] = []
    for sample in samples:
        uid = str(sample.record.uid)
        second, taken_at = newest.get(uid, (None, None))
        if taken_at is not None and taken_at < sample.began_at.timestamp():
            _forget(transaction, uid)
            second = None
        if second is not None and sample.second <= second:
            continue
        stored.append(sample)
        if second is not None and resolution(second) < sample.resolution:
            _thin_out(transaction, uid, sample.resolution)
    if stored:
        transaction.connection.execute(usage_samples.insert(), [_row(one) for one in stored])
    return stored


def read_samples(connection: sa.Connection, uid: JobUid) -> list[Usage]:
    """Return what a job was using, oldest first; ``sampled_at`` is when."""
    figures = [usage_samples.c[name] for name in _FIGURES]
    rows = connection.execute(
        sa.select(usage_samples.c.sampled_at, *figures)
        .where(usage_samples.c.uid == str(uid))
        .order_by(usage_samples.c.second)
    )
    return [_usage(*row) for row in rows]


def _newest_of(
    transaction: Transaction, samples: Iterable[Sample]
) -> dict[str, tuple[int | None, float | None]]:
    uids = [str(sample.record.uid) for sample in samples]
    found: dict[str, tuple[int | None, float | None]] = {}
    for start in range(0, len(uids), _IN_ONE_QUERY):
        query = sa.select(jobs.c.uid, _newest_second, _newest_time).where(
            jobs.c.uid.in_(uids[start : start + _IN_ONE_QUERY])
        )
        rows = transaction.connection.execute(query)
        found.update((uid, (second, taken_at)) for uid, second, taken_at in rows)
    return found


def _forget(transaction: Transaction, uid: str) -> None:
    """Delete the samples of a run that is over; the job has begun again."""
    transaction.connection.execute(usage_samples.delete().where(usage_samples.c.uid == uid))


def _thin_out(transaction: Transaction, uid: str, length: int) -> None:
    of_the_job = usage_samples.c.uid == uid
    seconds = transaction.connection.execute(
        sa.select(usage_samples.c.second).where(of_the_job).order_by(usage_samples.c.second)
    )
    there = list(seconds.scalars())
    too_many = sorted(set(there).difference(thinned(there, length)))
    if too_many:
        transaction.connection.execute(
            usage_samples.delete().where(of_the_job, usage_samples.c.second.in_(too_many))
        )


def _row(sample: Sample) -> dict[str, Any]:
    return {
        "uid": str(sample.record.uid),
        "second": sample.second,
        "sampled_at": sample.taken_at.timestamp(),
        **{name: getattr(sample.usage, name) for name in _FIGURES},
    }


def _usage(taken_at: float, *figures: float | None) -> Usage:
    return Usage(
        sampled_at=datetime.fromtimestamp(taken_at, UTC),
        **dict(zip(_FIGURES, figures, strict=True)),
    )
