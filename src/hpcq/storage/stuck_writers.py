"""Replicas that stand still in the middle of a transaction, on PostgreSQL.

The server ends a session that is idle in a transaction (``idle_in_transaction_session_timeout``),
but not one whose process froze between two messages of one step: a pipeline without its end. Such a
session keeps its locks for as long as the process is frozen (seen with PostgreSQL 15).
"""

from typing import Any

import sqlalchemy as sa
import structlog

__all__ = ["end_stuck_writers"]

_log = structlog.get_logger("hpcq.store")

_STANDS_STILL_SECONDS = 10.0
_LOCK_NOT_AVAILABLE = "55P03"
# Sessions of this service's replicas whose server process has waited for its client for so long.
# One that migrates takes its time, and holds an advisory lock.
_END = sa.text(
    """
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity AS session
    WHERE datname = current_database() AND usename = current_user
      AND application_name = current_setting('application_name')
      AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND wait_event_type = 'Client'
      AND state_change < clock_timestamp() - make_interval(secs => :seconds)
      AND NOT EXISTS (
        SELECT FROM pg_locks WHERE pg_locks.pid = session.pid AND locktype = 'advisory'
      )
    """
)


def end_stuck_writers(engine: sa.Engine) -> None:
    """Have an engine end such sessions as soon as one of its own waited for a lock in vain."""

    def on_error(context: Any) -> None:
        if getattr(context.original_exception, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            return
        with engine.begin() as connection:
            ended = connection.execute(_END, {"seconds": _STANDS_STILL_SECONDS}).all()
        for pid, _ in ended:
            _log.warning("records.stuck_writer_ended", backend=pid)

    sa.event.listen(engine, "handle_error", on_error)
