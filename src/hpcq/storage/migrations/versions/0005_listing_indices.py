"""A table of the finished jobs, for listings that look far back.

Revision ID: 0005
Revises: 0004
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from hpcq.domain.job_filter import facts_of
from hpcq.storage.documents import decode
from hpcq.storage.finished_jobs import finished_row, is_finished

revision = "0005"
down_revision = "0004"

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_AT_ONCE = 5_000
_INDEXED = (
    "array_job_id",
    "working_directory",
    "name",
    "belongs_to",
    "owner",
    "queue",
    "state",
)


def upgrade() -> None:
    """Fill the table from the documents."""
    finished = op.create_table(
        "finished_jobs",
        sa.Column("uid", sa.String(36), primary_key=True),
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"]),
        sa.Column("native_id", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("submitted_at", _BIG, nullable=False),
        sa.Column("ended_at", _BIG, nullable=False),
        sa.Column("name", sa.String),
        sa.Column("owner", sa.String),
        sa.Column("queue", sa.String),
        sa.Column("working_directory", sa.String),
        sa.Column("script_file", sa.String),
        sa.Column("arguments", sa.String, nullable=False),
        sa.Column("array_job_id", sa.String),
        sa.Column("belongs_to", sa.String),
    )
    columns = [column.name for column in finished.columns]
    for batch in _batches():
        rows = [
            {name: value for name, value in row.items() if name in columns} for row in _rows(batch)
        ]
        if rows:
            op.bulk_insert(finished, rows)
    # Made once from all rows, which is faster than row by row.
    op.create_index("finished_by_end", "finished_jobs", ["deployment_id", "ended_at", "uid"])
    op.create_index(
        "finished_by_submission", "finished_jobs", ["deployment_id", "submitted_at", "uid"]
    )
    for column in _INDEXED:
        op.create_index(
            f"finished_by_{column}", "finished_jobs", ["deployment_id", column, "ended_at", "uid"]
        )


def _batches() -> Iterator[Sequence[Any]]:
    """Yield the records that are over, those of a few thousand jobs at a time."""
    jobs = sa.table(
        "jobs",
        sa.column("uid", sa.String),
        sa.column("deployment_id", sa.Integer),
        sa.column("is_ours", sa.Boolean),
        sa.column("is_settled", sa.Boolean),
        sa.column("document", sa.LargeBinary),
    )
    last = ""
    while True:
        query = (
            sa.select(jobs.c.uid, jobs.c.deployment_id, jobs.c.document)
            .where(jobs.c.uid > last, jobs.c.is_ours, jobs.c.is_settled)
            .order_by(jobs.c.uid)
        )
        batch = op.get_bind().execute(query.limit(_AT_ONCE)).all()
        if not batch:
            return
        yield batch
        last = batch[-1][0]


def _rows(batch: Sequence[Any]) -> Iterator[dict[str, object]]:
    for _, deployment, document in batch:
        try:
            record = decode(document)
        except ValueError:
            # Damaged: no listing shows it.
            continue
        if is_finished(record):
            yield finished_row(deployment, facts_of(record))
