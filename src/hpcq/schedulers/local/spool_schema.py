"""The tables of the spool, and the steps from those of earlier versions."""

import sqlite3
from pathlib import Path

__all__ = ["connect"]

_VERSION = 4
_SCHEMA = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    phase TEXT NOT NULL CHECK (phase IN ('held', 'queued', 'dispatched', 'finished')),
    attempt INTEGER NOT NULL DEFAULT 0,
    boot_id TEXT,
    submitted REAL NOT NULL,
    ended REAL,
    spec TEXT NOT NULL,
    result TEXT,
    started TEXT,
    request TEXT,
    array INTEGER,
    task INTEGER
);
CREATE INDEX job_active ON job (id) WHERE phase <> 'finished';
CREATE INDEX job_ended ON job (ended) WHERE phase = 'finished';
CREATE TABLE script (id INTEGER PRIMARY KEY REFERENCES job, content BLOB NOT NULL);
"""
_TASK_INDEXES = """
CREATE INDEX job_task ON job (array, task) WHERE array IS NOT NULL;
CREATE INDEX job_active_task ON job (array) WHERE array IS NOT NULL AND phase <> 'finished';
"""
# The steps from each version to the next.
_UPGRADES = (
    "ALTER TABLE job ADD COLUMN started TEXT;",
    "ALTER TABLE job ADD COLUMN request TEXT;",
    "ALTER TABLE job ADD COLUMN array INTEGER; ALTER TABLE job ADD COLUMN task INTEGER;"
    + _TASK_INDEXES,
)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, making or upgrading its tables.

    Raises:
        sqlite3.Error: it cannot be used, or a newer version of this service wrote it.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # What is deleted is overwritten: arguments and environments may hold secrets.
    connection.execute("PRAGMA secure_delete = ON")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        connection.close()
        raise sqlite3.DatabaseError("it was written by a newer version of this service")
    if version < _VERSION:
        upgrade = " ".join(_UPGRADES[version - 1 :])
        steps = _SCHEMA + _TASK_INDEXES if version == 0 else upgrade
        connection.executescript(f"BEGIN; {steps} PRAGMA user_version = {_VERSION}; COMMIT;")
    return connection
