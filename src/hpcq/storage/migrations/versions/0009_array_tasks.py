"""The array and the state of each task, to count an array's tasks by.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

from hpcq.storage.documents import decode

revision = "0009"
down_revision = "0008"

_AT_ONCE = 5_000
_jobs = sa.table(
    "jobs",
    sa.column("uid", sa.String),
    sa.column("is_ours", sa.Boolean),
    sa.column("document", sa.LargeBinary),
    sa.column("array_uid", sa.String),
    sa.column("task_state", sa.String),
)


def upgrade() -> None:
    """Fill two columns from the documents of tasks."""
    op.add_column("jobs", sa.Column("array_uid", sa.String(36)))
    op.add_column("jobs", sa.Column("task_state", sa.String))
    connection, last = op.get_bind(), ""
    query = sa.select(_jobs.c.uid, _jobs.c.document).where(_jobs.c.is_ours).order_by(_jobs.c.uid)
    while batch := connection.execute(query.where(_jobs.c.uid > last).limit(_AT_ONCE)).all():
        for uid, document in batch:
            try:
                record = decode(document)
            except ValueError:
                # Damaged: nobody counts it.
                continue
            if record.parent_uid is not None:
                values = {"array_uid": str(record.parent_uid), "task_state": str(record.state)}
                connection.execute(_jobs.update().where(_jobs.c.uid == uid).values(values))
        last = batch[-1][0]
    are_tasks = sa.text("array_uid IS NOT NULL")
    op.create_index(
        "jobs_by_array",
        "jobs",
        ["array_uid", "task_state"],
        sqlite_where=are_tasks,
        postgresql_where=are_tasks,
    )
