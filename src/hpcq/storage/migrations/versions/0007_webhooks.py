"""Webhooks, and the messages that they are owed.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make two empty tables."""
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"]),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("secret", sa.String, nullable=False),
        sa.Column("kinds", sa.String),
        sa.Column("created_by", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("disabled_at", sa.Double),
        sa.Column("seen_event", big, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("webhook_id", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"]),
        sa.Column("event_number", big, nullable=False),
        sa.Column("uid", sa.String(36), nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("last_at", sa.Double),
        sa.Column("last_code", sa.Integer),
        sa.Column("last_problem", sa.String),
        sa.Column("next_at", sa.Double),
        sa.PrimaryKeyConstraint("webhook_id", "event_number"),
    )
    op.create_index("deliveries_by_time", "deliveries", ["webhook_id", "next_at", "event_number"])
    op.create_index(
        "deliveries_by_job", "deliveries", ["webhook_id", "uid", "status", "event_number"]
    )
    op.create_index("deliveries_by_status", "deliveries", ["webhook_id", "status", "event_number"])
