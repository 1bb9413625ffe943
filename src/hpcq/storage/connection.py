"""The way to a database: its engine, its lock, and sentences about why it cannot be used."""

import fcntl
import os
from pathlib import Path
from typing import Any, TextIO

import sqlalchemy as sa
import structlog

from hpcq.domain.errors import StoreUnavailable

__all__ = ["explain", "make_engine", "take_lock", "with_driver"]

_log = structlog.get_logger("hpcq.store")

_LOCKED_SECONDS = 5.0
_POSTGRESQL_OPTIONS = {
    "connect_timeout": "5",
    "application_name": "hpc-queue-api",
    # Without these a server whose machine died is waited for by the hour.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    # All replicas wait for one that stands still while it writes: not for longer than this.
    "options": "-c lock_timeout=5000 -c idle_in_transaction_session_timeout=10000",
}

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

_DAMAGED = "The file is damaged; move it away, and put back a copy from before if there is one."
# What SQLite and the operating system say (https://sqlite.org/rescode.html).
_SQLITE = (
    ("disk is full", "The disk is full; make room on it."),
    ("no space left", "The disk is full; make room on it."),
    ("disk i/o error", "The disk cannot be written to or read; see the system's log."),
    ("is locked", "Another program keeps it locked; find out which (fuser), and end it."),
    ("is not a database", _DAMAGED),
    ("malformed", _DAMAGED),
    ("unable to open", "Its folder is missing, or this account may not write there."),
    ("no such file", "Its folder is missing."),
    ("permission denied", "This account may not write there."),
    ("readonly", "This account may not write to it, or its disk is mounted read-only."),
    ("read-only", "Its disk is mounted read-only."),
)
# What PostgreSQL's server and its client library say.
_POSTGRESQL = (
    ("password", "Correct the user or the password in DATABASE_URL."),
    ("pg_hba.conf", "Have its server let this account and this machine in (pg_hba.conf)."),
    ("database system is", "Its server is starting or stopping; wait until it is up."),
    ("disk full", "The disk of its server is full; make room on it."),
    ("no space left", "The disk of its server is full; make room on it."),
    ("permission denied", "Give this account the right to make tables there, and to use them."),
    ("read-only", "Name the primary server in DATABASE_URL: this one only follows another."),
    ("lock timeout", "Another replica, or a person, keeps it locked."),
    ("role", "Create the role, or correct the user in DATABASE_URL."),
    ("does not exist", "Create it, or correct DATABASE_URL."),
    ("connection", "Is its server running, and does DATABASE_URL name its host and port?"),
)


def with_driver(url: sa.URL) -> sa.URL:
    """Return the URL with the driver that is installed: people write ``postgresql://``."""
    plain = url.get_backend_name() in ("postgresql", "postgres")
    return url.set(drivername="postgresql+psycopg") if plain else url


def make_engine(url: sa.URL, connections: int) -> sa.Engine:
    """Return the engine for a database; nothing is opened.

    Args:
        url: the database, with its driver.
        connections: how many of a server's are used at the same time, at most.
    """
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": _LOCKED_SECONDS})
        sa.event.listen(engine, "connect", _on_connect)
        return engine
    options = {name: value for name, value in _POSTGRESQL_OPTIONS.items() if name not in url.query}
    engine = sa.create_engine(url, pool_size=connections, pool_pre_ping=True, connect_args=options)
    sa.event.listen(engine, "handle_error", lambda context: _end_stuck_writers(engine, context))
    return engine


def _on_connect(connection: Any, _record: object) -> None:
    # The number of an event that a client has seen must not be given again after a power failure.
    connection.execute("PRAGMA synchronous=FULL")


def take_lock(url: sa.URL, *, or_none: bool = False) -> TextIO | None:
    """Take the SQLite database for this process alone, for as long as it lives.

    Args:
        url: the database.
        or_none: whether to return None when another process has it.

    Raises:
        StoreUnavailable: another process has it.
    """
    if not url.database or url.database == ":memory:":
        return None
    path = Path(url.database + ".lock")
    # Whoever can open a file can hold its lock.
    path.touch(0o600)
    file = path.open("a")
    os.fchmod(file.fileno(), 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        if or_none:
            return None
        raise StoreUnavailable(
            f"Another service uses the records in {url.database}. Stop it, or give this one a "
            "STATE_DIRECTORY of its own; several replicas need a PostgreSQL DATABASE_URL."
        ) from None
    return file


def _end_stuck_writers(engine: sa.Engine, context: Any) -> None:
    """End replicas' sessions that stand still in a transaction, after a vain wait for a lock.

    PostgreSQL ends a session that is idle in a transaction
    (``idle_in_transaction_session_timeout``), but not one whose process froze between two messages
    of one step: a pipeline without its end. Such a session keeps its locks for as long as the
    process is frozen (seen with PostgreSQL 15).
    """
    if getattr(context.original_exception, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
        return
    with engine.begin() as connection:
        ended = connection.execute(_END, {"seconds": _STANDS_STILL_SECONDS}).all()
    for pid, _ in ended:
        _log.warning("records.stuck_writer_ended", backend=pid)


def explain(error: Exception, url: sa.URL) -> str:
    """Return a sentence for an operator; it never holds the password.

    Args:
        error: what the database, its driver or the operating system said.
        url: the database.
    """
    said = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
    if url.get_backend_name() == "sqlite":
        where, signs = str(url.database), _SQLITE
    else:
        # Options may hold a password too.
        where = url.set(query={}).render_as_string(hide_password=True)
        where, signs = where.replace("+psycopg", ""), _POSTGRESQL
        for secret in filter(None, (url.password, url.query.get("password"))):
            said = said.replace(str(secret), "***")
    advice = next((then for sign, then in signs if sign in said.lower()), "")
    return f"The records in {where} cannot be used: {said}. {advice}".rstrip()
