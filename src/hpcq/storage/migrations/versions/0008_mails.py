"""Mails about jobs, beside webhooks.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Tell the webhooks that there are from mails."""
    op.add_column(
        "webhooks", sa.Column("kind", sa.String, nullable=False, server_default="webhook")
    )
