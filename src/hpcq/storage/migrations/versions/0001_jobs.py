"""The records of jobs, as release 0.1.0 kept them.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table that release 0.1.0 made when it was missing."""
    op.create_table(
        "jobs",
        sa.Column("uid", sa.String(36), primary_key=True),
        sa.Column("native_id", sa.String, index=True),
        sa.Column("is_final", sa.Boolean, nullable=False),
        sa.Column("is_removed", sa.Boolean, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Index("jobs_open_or_recent", "is_final", "is_removed", "changed_at"),
    )
