"""The users of jobs and of idempotency keys, and the tokens.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tokens' table; jobs and keys that are there belong to nobody."""
    op.add_column("jobs", sa.Column("belongs_to", sa.String))
    op.create_index(
        "jobs_by_user",
        "jobs",
        ["deployment_id", "belongs_to", "is_settled", "is_removed", "changed_at", "uid"],
    )
    # SQLite cannot change a primary key: the table is made anew, and its few rows are copied.
    op.create_table(
        "new_keys",
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"]),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("uid", sa.String(36), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("user", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "user", "key"),
    )
    op.execute(
        'INSERT INTO new_keys (deployment_id, key, fingerprint, uid, created_at, "user") '
        "SELECT deployment_id, key, fingerprint, uid, created_at, '' FROM idempotency_keys"
    )
    op.drop_table("idempotency_keys")
    op.rename_table("new_keys", "idempotency_keys")
    op.create_index("ix_idempotency_keys_uid", "idempotency_keys", ["uid"])
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"]),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("user", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("scopes", sa.String),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.UniqueConstraint("hash"),
    )
