"""Bringing a database to the tables that this release works with."""

import logging
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import structlog

from hpcq.domain.errors import StoreUnavailable
from hpcq.storage.schema import HEAD

__all__ = ["Deployment", "bring_up_to_date"]

_log = structlog.get_logger("hpcq.store")

_FIRST = "0001"
# Two replicas that start at once: one migrates, the other waits. Any number of our own will do.
_ADVISORY_LOCK = 0x68706371
_NEWER = (
    "A newer release has made these records (version {version}). Install that release again, or "
    "restore the records from before it."
)


@dataclass(frozen=True, slots=True)
class Deployment:
    """The owner of records: one service, or several replicas of it, before one scheduler."""

    cluster_id: str
    scheduler: str


def bring_up_to_date(engine: sa.Engine, deployment: Deployment, *, may_change: bool = True) -> None:
    """Make or migrate the tables; all of it is done, or nothing is.

    Args:
        engine: an empty database, or one that any released version has made.
        deployment: to whom the records belong that were made before deployments were told apart.
        may_change: whether no other process uses them.

    Raises:
        StoreUnavailable: a newer release has made the database; or it needs a change, and another
            process uses it.
    """
    with engine.connect() as connection:
        version = _version(connection)
        if version == HEAD:
            return
    if not may_change:
        raise StoreUnavailable(
            f"Another release of the service is running on these records (version {version}, this "
            f"one makes {HEAD}). Restart the service with this release first."
        )
    with engine.connect() as connection:
        _lock(connection)
        version = _version(connection)
        if version is None and sa.inspect(connection).has_table("jobs"):
            # Release 0.1.0 did not note down what it made.
            version = _FIRST
            _upgrade(connection, deployment, stamp=_FIRST)
        if version != HEAD:
            _upgrade(connection, deployment)
            if version is None:
                _log.info("records.made", version=HEAD)
            else:
                _log.info("records.migrated", before=version, now=HEAD)
        connection.commit()


def _lock(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        # The driver would begin a transaction only with the first row that is written.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        # However long another one migrates.
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _upgrade(connection: sa.Connection, deployment: Deployment, stamp: str | None = None) -> None:
    # Its own log tells each step and more.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Imported here because it takes 0.1 s that a start with an up-to-date database can do without.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes.update(connection=connection, deployment=deployment)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    version = _version(connection)
    if version is not None and version not in known:
        raise StoreUnavailable(_NEWER.format(version=version))
    if stamp is None:
        command.upgrade(config, "head")
    else:
        command.stamp(config, stamp)
