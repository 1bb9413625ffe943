"""The numbers in the ids of programs.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make an empty table: the first listing fills it as earlier releases would have counted."""
    op.create_table(
        "program_numbers",
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"]),
        sa.Column("id_prefix", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "id_prefix", "name", "version"),
        sa.UniqueConstraint("deployment_id", "id_prefix", "number"),
    )
