"""The same token in several deployments: that of the operator, whose file they share.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make a hash unique within its deployment, and no longer among all of them."""
    # SQLite has no name for the constraint; this is the one that PostgreSQL gave it.
    names = {"uq": "%(table_name)s_%(column_0_name)s_key"}
    with op.batch_alter_table("tokens", naming_convention=names) as table:
        table.drop_constraint("tokens_hash_key", type_="unique")
        table.create_unique_constraint("tokens_by_hash", ["deployment_id", "hash"])
