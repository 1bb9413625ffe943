"""Deployments, events, idempotency keys, usage samples and a lease for replicas.

Revision ID: 0002
Revises: 0001
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_OWNER = sa.Integer


def _deployments_exist() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"])


def upgrade() -> None:
    """Give every record to the deployment that opens the database."""
    deployment = context.config.attributes["deployment"]
    deployments = op.create_table(
        "deployments",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("cluster_id", sa.String, nullable=False),
        sa.Column("scheduler", sa.String, nullable=False),
        sa.Column("last_event", _BIG, nullable=False),
        sa.Column("last_change", _BIG, nullable=False),
        sa.Column("as_of", sa.Double),
        sa.Column("problem", sa.String),
        sa.UniqueConstraint("cluster_id", "scheduler"),
    )
    op.bulk_insert(
        deployments,
        [
            {
                "cluster_id": deployment.cluster_id,
                "scheduler": deployment.scheduler,
                "last_event": 0,
                "last_change": 0,
            }
        ],
    )
    op.create_table(
        "leases",
        sa.Column("deployment_id", _OWNER, primary_key=True, autoincrement=False),
        _deployments_exist(),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
    )
    _take_over_the_jobs()
    _settle_later_what_was_left_open()
    op.create_table(
        "events",
        sa.Column("deployment_id", _OWNER, nullable=False),
        _deployments_exist(),
        sa.Column("number", _BIG, nullable=False),
        sa.Column("uid", sa.String(36), nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "number"),
        sa.Index("events_by_job", "uid", "number"),
        sa.Index("events_by_time", "deployment_id", "at"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("deployment_id", _OWNER, nullable=False),
        _deployments_exist(),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("uid", sa.String(36), nullable=False, index=True),
        sa.Column("created_at", sa.Double, nullable=False, index=True),
        sa.PrimaryKeyConstraint("deployment_id", "key"),
    )
    op.create_table(
        "usage_samples",
        sa.Column("uid", sa.String(36), nullable=False),
        sa.Column("second", sa.Integer, nullable=False),
        sa.Column("sampled_at", sa.Double, nullable=False),
        sa.Column("cpu_seconds", sa.Double),
        sa.Column("memory_byte_seconds", sa.Double),
        sa.Column("memory_bytes", sa.Double),
        sa.Column("max_memory_bytes", sa.Double),
        sa.Column("io_bytes", sa.Double),
        sa.Column("io_wait_seconds", sa.Double),
        sa.PrimaryKeyConstraint("uid", "second"),
    )


def _take_over_the_jobs() -> None:
    # Indexes keep their names when a table is renamed, and PostgreSQL constraints do too.
    op.drop_index("jobs_open_or_recent", "jobs")
    op.drop_index("ix_jobs_native_id", "jobs")
    op.create_table(
        "jobs_0002",
        sa.Column("uid", sa.String(36), nullable=False),
        sa.Column("deployment_id", _OWNER, nullable=False),
        _deployments_exist(),
        sa.Column("native_id", sa.String),
        sa.Column("is_ours", sa.Boolean, nullable=False),
        sa.Column("is_settled", sa.Boolean, nullable=False),
        sa.Column("is_removed", sa.Boolean, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("change", _BIG, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("uid", name="jobs_0002_pkey"),
    )
    op.execute(
        "INSERT INTO jobs_0002 (uid, deployment_id, native_id, is_ours, is_settled, is_removed,"
        " changed_at, created_at, revision, change, document)"
        " SELECT uid, 1, native_id, true, is_final, is_removed, changed_at, created_at, 0, 0,"
        " document FROM jobs"
    )
    op.drop_table("jobs")
    op.rename_table("jobs_0002", "jobs")
    op.create_index("jobs_by_native_id", "jobs", ["deployment_id", "native_id", "created_at"])
    op.create_index(
        "jobs_by_state",
        "jobs",
        ["deployment_id", "is_settled", "is_removed", "changed_at", "uid"],
    )
    op.create_index("jobs_by_change", "jobs", ["deployment_id", "change"])
    others = sa.column("is_ours", sa.Boolean).is_(sa.false())
    op.create_index(
        "jobs_of_others",
        "jobs",
        ["deployment_id", "changed_at"],
        sqlite_where=others,
        postgresql_where=others,
    )


def _settle_later_what_was_left_open() -> None:
    """Mark the jobs without an id as unclear: their scheduler may have taken them."""
    jobs = sa.table(
        "jobs",
        sa.column("uid", sa.String),
        sa.column("native_id", sa.String),
        sa.column("is_settled", sa.Boolean),
        sa.column("document", sa.LargeBinary),
    )
    connection = op.get_bind()
    left_open = sa.select(jobs.c.uid, jobs.c.document).where(
        jobs.c.native_id.is_(None), ~jobs.c.is_settled
    )
    for uid, document in connection.execute(left_open).all():
        changed = _left_open(document)
        if changed is not None:
            this = jobs.update().where(jobs.c.uid == uid)
            connection.execute(this.values(document=changed))


def _left_open(document: bytes) -> bytes | None:
    """Return the document with how its submission stands, or None when it is damaged."""
    try:
        record: dict[str, Any] = json.loads(document)
        record["hand_over"] = {
            "began_at": record["created_at"],
            "by": "",
            "is_promised": False,
            "uncertain_since": record["state_changed_at"],
        }
    except (ValueError, TypeError, KeyError):
        return None
    return json.dumps(record).encode()
