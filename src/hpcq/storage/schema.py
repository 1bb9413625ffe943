"""The tables; the migrations tell their history."""

import sqlalchemy as sa

__all__ = [
    "FINISHED_BY",
    "HEAD",
    "deliveries",
    "deployments",
    "events",
    "finished_jobs",
    "idempotency_keys",
    "jobs",
    "leases",
    "metadata",
    "program_numbers",
    "queue_samples",
    "sessions",
    "tokens",
    "usage_samples",
    "webhooks",
]

HEAD = "0011"
"""The newest migration. A database that is there needs no migrating, nor the library for it."""

metadata = sa.MetaData()
# SQLite numbers rows by itself only where the key is an INTEGER by name.
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# SQLAlchemy's Float is PostgreSQL's of single precision, which cannot hold a time.
_SECONDS: sa.Double[float] = sa.Double()


def _deployment() -> sa.Column[int]:
    return sa.Column("deployment_id", sa.ForeignKey("deployments.id"), nullable=False)


deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("cluster_id", sa.String, nullable=False),
    sa.Column("scheduler", sa.String, nullable=False),
    sa.Column("last_event", _BIG, nullable=False, comment="the number of its newest event"),
    sa.Column("last_change", _BIG, nullable=False, comment="counts its transactions"),
    sa.Column("as_of", _SECONDS, comment="when its scheduler last answered, epoch seconds"),
    sa.Column("problem", sa.String, comment="why its scheduler has not answered since"),
    sa.UniqueConstraint("cluster_id", "scheduler"),
    comment="One row for each CLUSTER_ID and SCHEDULER. Whoever writes locks it first, so that "
    "numbers are given in the order in which they become visible.",
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column(
        "deployment_id", sa.ForeignKey("deployments.id"), primary_key=True, autoincrement=False
    ),
    sa.Column("holder", sa.String, nullable=False, comment="the replica that asks the scheduler"),
    sa.Column("until", _SECONDS, nullable=False, comment="by the database's clock"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("uid", sa.String(36), primary_key=True),
    _deployment(),
    sa.Column("native_id", sa.String),
    sa.Column("is_ours", sa.Boolean, nullable=False, comment="submitted through this service"),
    sa.Column("is_settled", sa.Boolean, nullable=False, comment="nothing more is asked about it"),
    sa.Column("is_removed", sa.Boolean, nullable=False, comment="taken out of the listing"),
    sa.Column("changed_at", _SECONDS, nullable=False, comment="state_changed_at, epoch seconds"),
    sa.Column("created_at", _SECONDS, nullable=False, comment="epoch seconds"),
    sa.Column("revision", sa.Integer, nullable=False, comment="how often it was written"),
    sa.Column("change", _BIG, nullable=False, comment="the transaction that wrote it last"),
    sa.Column("document", sa.LargeBinary, nullable=False, comment="the JobRecord, as JSON"),
    sa.Column("belongs_to", sa.String, comment="the user whose job it is"),
    sa.Column("array_uid", sa.String(36), comment="of a task: its array, submitted here"),
    sa.Column("task_state", sa.String, comment="of a task: its state"),
    sa.Index("jobs_by_native_id", "deployment_id", "native_id", "created_at"),
    sa.Index("jobs_by_state", "deployment_id", "is_settled", "is_removed", "changed_at", "uid"),
    sa.Index("jobs_by_change", "deployment_id", "change"),
    sa.Index(
        "jobs_by_user",
        "deployment_id",
        "belongs_to",
        "is_settled",
        "is_removed",
        "changed_at",
        "uid",
    ),
)
_of_others = jobs.c.is_ours.is_(sa.false())
sa.Index(
    "jobs_of_others",
    jobs.c.deployment_id,
    jobs.c.changed_at,
    sqlite_where=_of_others,
    postgresql_where=_of_others,
)

_are_tasks = jobs.c.array_uid.is_not(None)
sa.Index(
    "jobs_by_array",
    jobs.c.array_uid,
    jobs.c.task_state,
    sqlite_where=_are_tasks,
    postgresql_where=_are_tasks,
)

FINISHED_BY = (
    "array_job_id",
    "working_directory",
    "name",
    "belongs_to",
    "owner",
    "queue",
    "state",
)
"""The columns of finished jobs with an index; those first that the fewest jobs share."""

finished_jobs = sa.Table(
    "finished_jobs",
    metadata,
    sa.Column("uid", sa.String(36), primary_key=True),
    _deployment(),
    sa.Column("native_id", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("submitted_at", _BIG, nullable=False, comment="epoch milliseconds"),
    sa.Column("ended_at", _BIG, nullable=False, comment="epoch milliseconds; 2^53: not known"),
    sa.Column("name", sa.String),
    sa.Column("owner", sa.String),
    sa.Column("queue", sa.String),
    sa.Column("working_directory", sa.String),
    sa.Column("script_file", sa.String),
    sa.Column("arguments", sa.String, nullable=False, comment="the first 200 characters"),
    sa.Column("array_job_id", sa.String),
    sa.Column("belongs_to", sa.String, comment="as in jobs"),
    sa.Index("finished_by_end", "deployment_id", "ended_at", "uid"),
    sa.Index("finished_by_submission", "deployment_id", "submitted_at", "uid"),
    *(
        sa.Index(f"finished_by_{column}", "deployment_id", column, "ended_at", "uid")
        for column in FINISHED_BY
    ),
    comment="What listings ask about the jobs submitted here that are over and not removed.",
)

events = sa.Table(
    "events",
    metadata,
    _deployment(),
    sa.Column("number", _BIG, nullable=False, comment="1, 2, 3 … without gaps"),
    sa.Column("uid", sa.String(36), nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("at", _SECONDS, nullable=False, comment="epoch seconds"),
    sa.Column("data", sa.LargeBinary, nullable=False, comment="a JSON object"),
    sa.PrimaryKeyConstraint("deployment_id", "number"),
    sa.Index("events_by_job", "uid", "number"),
    sa.Index("events_by_time", "deployment_id", "at"),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    _deployment(),
    sa.Column("key", sa.String(255), nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False, comment="of what was asked for"),
    sa.Column("uid", sa.String(36), nullable=False, index=True),
    sa.Column("created_at", _SECONDS, nullable=False, index=True, comment="epoch seconds"),
    sa.Column("user", sa.String, nullable=False, comment="who chose it; empty: nobody was asked"),
    sa.PrimaryKeyConstraint("deployment_id", "user", "key"),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True, comment="names it where it must not be told"),
    _deployment(),
    sa.Column("hash", sa.String(64), nullable=False, comment="SHA-256 of the token"),
    sa.Column("user", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("scopes", sa.String, comment="separated by blanks; null for all of the role"),
    sa.Column("created_at", _SECONDS, nullable=False, comment="epoch seconds"),
    sa.Column("expires_at", _SECONDS, comment="epoch seconds; null for never"),
    sa.Column("revoked_at", _SECONDS, comment="epoch seconds"),
    sa.UniqueConstraint("deployment_id", "hash", name="tokens_by_hash"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True, comment="SHA-256 of the cookie"),
    _deployment(),
    sa.Column("user", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("scopes", sa.String, comment="as in tokens"),
    sa.Column("through", sa.String, nullable=False, comment="the method of the login"),
    sa.Column("token_id", sa.ForeignKey("tokens.id"), comment="null: not made from a token"),
    sa.Column("created_at", _SECONDS, nullable=False, comment="epoch seconds"),
    sa.Column("expires_at", _SECONDS, nullable=False, comment="epoch seconds"),
    sa.Index("sessions_by_user", "deployment_id", "user", "created_at"),
    comment="Browsers that are logged in.",
)

usage_samples = sa.Table(
    "usage_samples",
    metadata,
    sa.Column("uid", sa.String(36), nullable=False),
    sa.Column("second", sa.Integer, nullable=False, comment="since the start, see domain.sampling"),
    sa.Column("sampled_at", _SECONDS, nullable=False, comment="epoch seconds"),
    sa.Column("cpu_seconds", _SECONDS),
    sa.Column("memory_byte_seconds", _SECONDS),
    sa.Column("memory_bytes", _SECONDS),
    sa.Column("max_memory_bytes", _SECONDS),
    sa.Column("io_bytes", _SECONDS),
    sa.Column("io_wait_seconds", _SECONDS),
    sa.PrimaryKeyConstraint("uid", "second"),
)

queue_samples = sa.Table(
    "queue_samples",
    metadata,
    _deployment(),
    sa.Column("queue", sa.String, nullable=False),
    sa.Column("minute", sa.Integer, nullable=False, comment="epoch seconds over 60"),
    sa.Column("slots_total", sa.Integer),
    sa.Column("slots_used", sa.Integer, nullable=False),
    sa.Column("slots_queued", sa.Integer, nullable=False),
    sa.Column("jobs_running", sa.Integer, nullable=False),
    sa.Column("jobs_queued", sa.Integer, nullable=False),
    sa.PrimaryKeyConstraint("deployment_id", "queue", "minute"),
    sa.Index("queue_samples_by_time", "deployment_id", "minute"),
    comment="The load of queues, one sample a minute.",
)

program_numbers = sa.Table(
    "program_numbers",
    metadata,
    _deployment(),
    sa.Column("id_prefix", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("number", sa.Integer, nullable=False, comment="what its id holds after the prefix"),
    sa.PrimaryKeyConstraint("deployment_id", "id_prefix", "name", "version"),
    sa.UniqueConstraint("deployment_id", "id_prefix", "number"),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    _deployment(),
    sa.Column("kind", sa.String, nullable=False, server_default="webhook"),
    sa.Column("url", sa.String, nullable=False, comment="empty for mails"),
    sa.Column("secret", sa.String, nullable=False, comment="signs its messages; empty for mails"),
    sa.Column("kinds", sa.String, comment="separated by blanks; null for all"),
    sa.Column("created_by", sa.String, nullable=False),
    sa.Column("created_at", _SECONDS, nullable=False, comment="epoch seconds"),
    sa.Column("disabled_at", _SECONDS, comment="epoch seconds"),
    sa.Column("seen_event", _BIG, nullable=False, comment="it has a delivery of all up to this"),
    comment="Who is told of events: webhooks, and one row for the mails of all jobs.",
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("webhook_id", sa.ForeignKey("webhooks.id"), nullable=False),
    sa.Column("event_number", _BIG, nullable=False),
    sa.Column("uid", sa.String(36), nullable=False, comment="the event's job"),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("last_at", _SECONDS, comment="epoch seconds, of the last attempt"),
    sa.Column("last_code", sa.Integer, comment="of its answer: HTTP's or SMTP's"),
    sa.Column("last_problem", sa.String),
    sa.Column("next_at", _SECONDS, comment="null: over, or it waits for one about the same job"),
    sa.PrimaryKeyConstraint("webhook_id", "event_number"),
    sa.Index("deliveries_by_time", "webhook_id", "next_at", "event_number"),
    sa.Index("deliveries_by_job", "webhook_id", "uid", "status", "event_number"),
    sa.Index("deliveries_by_status", "webhook_id", "status", "event_number"),
    comment="A message for each webhook and each event that it wants.",
)
