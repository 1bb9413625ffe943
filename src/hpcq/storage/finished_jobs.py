"""Finished jobs in the database: rows that hold what listings ask about them, and the search.

A search walks along one index in the order that is asked for, and filters what it meets as jobs in
memory are filtered. It walks over so many rows at most that every answer takes about as long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from hpcq.domain.job_filter import NEVER, JobFacts, JobFilter, SortKey, SortOrder, facts_of
from hpcq.domain.jobs import JobRecord
from hpcq.domain.states import JobState, status_of
from hpcq.storage.documents import storable
from hpcq.storage.schema import FINISHED_BY, finished_jobs

__all__ = ["FINISHED_SORTS", "Found", "find_finished", "finished_row", "is_finished"]

FINISHED_SORTS = {"endTime": finished_jobs.c.ended_at, "submitTime": finished_jobs.c.submitted_at}
"""The columns that the indices are sorted by, by the field in JSON."""

# The most rows that one search looks at, and how many it reads first.
_LOOKED_AT_MOST = 10_000
_FIRST_READ = 250
_STORED = tuple(name for name in JobFacts._fields if name in finished_jobs.c)


def is_finished(record: JobRecord) -> bool:
    """Return whether a record belongs among the finished jobs that listings show."""
    return (
        record.submitted_here
        and record.is_settled
        and record.removed_at is None
        and record.native_id is not None
    )


def finished_row(deployment: int, facts: JobFacts) -> dict[str, Any]:
    """Return the row of a finished job."""
    row = {name: _storable(getattr(facts, name)) for name in _STORED}
    return {**row, "deployment_id": deployment, "state": str(facts.state)}


def _storable(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


def write_finished(
    connection: sa.Connection,
    deployment: int,
    changes: Sequence[tuple[JobRecord | None, JobRecord]],
) -> None:
    """Write the rows of jobs that are over, and delete those of jobs that are no longer."""
    new = [record for _, record in changes if is_finished(record)]
    before = [old for old, _ in changes if old is not None and is_finished(old)]
    if new or before:
        uids = {str(record.uid) for record in (*new, *before)}
        connection.execute(
            finished_jobs.delete().where(finished_jobs.c.uid == sa.bindparam("old_uid")),
            [{"old_uid": uid} for uid in uids],
        )
    if new:
        rows = [finished_row(deployment, facts_of(record)) for record in new]
        connection.execute(finished_jobs.insert(), rows)


@dataclass(frozen=True, slots=True)
class Found:
    """A part of a search.

    Attributes:
        jobs: those that are asked for, in order.
        reached: the sort key up to which these are all; None when there are no more.
    """

    jobs: Sequence[JobFacts]
    reached: SortKey | None


def find_finished(
    connection: sa.Connection,
    deployment: int,
    criteria: JobFilter,
    order: SortOrder,
    *,
    after: SortKey | None,
    limit: int,
    user: str | None,
) -> Found:
    """Return the first finished jobs after a place that fit a filter.

    Args:
        connection: to read with.
        deployment: the owner of the records.
        criteria: the filter.
        order: by one of `FINISHED_SORTS`.
        after: the sort key of the last one before; None for the first.
        limit: at most so many.
        user: the one whose jobs; None for everybody's.
    """
    query, column = _walk(connection, deployment, criteria, str(order.field), user)
    columns = (column, finished_jobs.c.uid)
    query = query.order_by(*([part.desc() for part in columns] if order.descending else columns))
    found: list[JobFacts] = []
    looked_at, at_once = 0, _FIRST_READ
    while looked_at < _LOOKED_AT_MOST:
        part = query
        if after is not None:
            place, last = sa.tuple_(*columns), tuple(map(_storable, after))
            part = query.where(place < last if order.descending else place > last)
        rows = [_facts(row) for row in connection.execute(part.limit(at_once))]
        theirs = rows if user is None else [job for job in rows if job.belongs_to == user]
        found += criteria.select(theirs, lambda job: job)
        if len(found) > limit:
            return Found(found[:limit], order.key(found[limit - 1]))
        if len(rows) < at_once:
            return Found(found, None)
        after = order.key(rows[-1])
        looked_at += len(rows)
        at_once = min(2 * at_once, _LOOKED_AT_MOST // 4)
    return Found(found, after)


def _walk(
    connection: sa.Connection, deployment: int, criteria: JobFilter, sort: str, user: str | None
) -> tuple[sa.Select[Any], sa.ColumnElement[int]]:
    """Return the query for what one index holds, and what to sort it by."""
    table = finished_jobs.c
    conditions = [table.deployment_id == deployment]
    column: sa.ColumnElement[int] = FINISHED_SORTS[sort]
    values = dict(criteria.equal_values())
    if user is not None:
        values["belongs_to"] = user
    indexed = next((name for name in FINISHED_BY if name in values), None)
    if indexed is not None:
        # Only one of them can be looked up; the others are compared row by row.
        has_value = table[indexed] == storable(values[indexed])
        if sort == "endTime":
            conditions.append(has_value)
        elif _are_few(connection, *conditions, has_value):
            conditions.append(has_value)
            # A sum keeps the database from walking along the index of this column instead.
            column = column + 0
    start, end = (
        (criteria.ended_after, criteria.ended_before)
        if sort == "endTime"
        else (criteria.submitted_after, criteria.submitted_before)
    )
    if start is not None:
        conditions.append(column >= start)
    if end is not None:
        conditions.append(column < min(end, NEVER))
    return sa.select(*(table[name] for name in _STORED)).where(*conditions), column


def _are_few(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> bool:
    """Return whether so few jobs meet conditions that they can be sorted for each answer."""
    some = sa.select(sa.literal(1)).where(*conditions).limit(_LOOKED_AT_MOST).subquery()
    count = connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
    return count < _LOOKED_AT_MOST


def _facts(row: Any) -> JobFacts:
    state = JobState(row.state)
    values = dict(zip(_STORED, row, strict=True))
    return JobFacts(**{**values, "state": state, "status": status_of(state)})
