"""A table of the load of queues.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make it, empty."""
    op.create_table(
        "queue_samples",
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"]),
        sa.Column("queue", sa.String, nullable=False),
        sa.Column("minute", sa.Integer, nullable=False),
        sa.Column("slots_total", sa.Integer),
        sa.Column("slots_used", sa.Integer, nullable=False),
        sa.Column("slots_queued", sa.Integer, nullable=False),
        sa.Column("jobs_running", sa.Integer, nullable=False),
        sa.Column("jobs_queued", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "queue", "minute"),
    )
    op.create_index("queue_samples_by_time", "queue_samples", ["deployment_id", "minute"])
