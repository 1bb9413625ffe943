"""The records of the jobs submitted through this service, in an embedded SQLite database."""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.jobs import JobRecord, JobUid, NativeId

__all__ = ["JobStore"]

_T = TypeVar("_T")

_log = structlog.get_logger("hpcq.store")

_metadata = sa.MetaData()
_jobs = sa.Table(
    "jobs",
    _metadata,
    sa.Column("uid", sa.String(36), primary_key=True),
    sa.Column("native_id", sa.String, index=True),
    sa.Column("is_final", sa.Boolean, nullable=False),
    sa.Column("is_removed", sa.Boolean, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False, comment="state_changed_at, epoch seconds"),
    sa.Column("created_at", sa.Float, nullable=False, comment="epoch seconds"),
    sa.Column("document", sa.LargeBinary, nullable=False, comment="the JobRecord, as JSON"),
    sa.Index("jobs_open_or_recent", "is_final", "is_removed", "changed_at"),
)

_insert = insert(_jobs)
_upsert = _insert.on_conflict_do_update(
    index_elements=[_jobs.c.uid],
    set_={c.name: c for c in _insert.excluded if c.name != "uid"},
)

_encoder = msgspec.json.Encoder(enc_hook=str)


def _restore(kind: Callable[[str], object], text: str) -> object:
    return kind(text)


_decoder = msgspec.json.Decoder(JobRecord, dec_hook=_restore)


@dataclass(slots=True)
class _Write:
    records: Sequence[JobRecord]
    durable: bool
    done: asyncio.Future[None]


class JobStore:
    """Keeps `JobRecord`s. Writes made at the same time share one transaction.

    All work on the database is done by one thread of its own. Every method raises
    `StoreUnavailable` when the database cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = sa.create_engine(
            f"sqlite:///{path}",
            poolclass=StaticPool,
            connect_args={"check_same_thread": False, "timeout": 5.0},
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._level = ""
        self._waiting: list[_Write] = []
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the database, making it when there is none."""
        await self._call(self._prepare)

    def _prepare(self) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        _metadata.create_all(self._engine)

    async def close(self) -> None:
        """Finish what is being written and close the database."""
        while self._writer is not None:
            await self._writer
        await self._call(self._engine.dispose)
        self._thread.shutdown()

    async def save(self, records: Sequence[JobRecord], *, durable: bool = False) -> None:
        """Write records, new or changed: all of them or none.

        Args:
            records: what to write; a record replaces the one with its uid.
            durable: whether they must survive a power failure from now on. Without it they
                survive a crash of this process, and a power failure soon after.
        """
        if records:
            await self._enqueue(records, durable=durable)

    def save_soon(self, record: JobRecord) -> None:
        """Write a record without waiting for it; a failure is logged.

        For what can be found again without it: a crash in the next millisecond loses it.
        """
        self._enqueue([record], durable=False).add_done_callback(_report_failure)

    def _enqueue(self, records: Sequence[JobRecord], *, durable: bool) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(records, durable, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._drain())
        return done

    async def _drain(self) -> None:
        try:
            while self._waiting:
                writes, self._waiting = self._waiting, []
                try:
                    await self._call(partial(self._write, writes))
                except Exception as error:
                    _settle(writes, error)
                else:
                    _settle(writes, None)
        finally:
            self._writer = None

    def _write(self, writes: Sequence[_Write]) -> None:
        rows = [_row(record) for write in writes for record in write.records]
        level = "FULL" if any(w.durable for w in writes) else "NORMAL"
        with self._engine.connect() as connection:
            if level != self._level:
                connection.exec_driver_sql(f"PRAGMA synchronous={level}")
                connection.rollback()
                self._level = level
            connection.execute(_upsert, rows)
            connection.commit()

    async def by_uid(self, uid: JobUid) -> JobRecord | None:
        """Return the record with this uid, or None."""
        found = await self._select(_jobs.c.uid == str(uid))
        return found[0] if found else None

    async def by_native_id(self, native_id: NativeId) -> JobRecord | None:
        """Return the newest record to which the scheduler gave this id, or None."""
        found = await self._select(_jobs.c.native_id == str(native_id))
        return found[-1] if found else None

    async def open_or_recent(self, since: datetime) -> list[JobRecord]:
        """Return what belongs in the listing: jobs without an end, or ended after ``since``.

        Oldest first.
        """
        recent = ~_jobs.c.is_removed & (_jobs.c.changed_at >= since.timestamp())
        return await self._select(sa.or_(~_jobs.c.is_final, recent))

    async def _select(self, where: sa.ColumnElement[bool]) -> list[JobRecord]:
        query = sa.select(_jobs.c.document).where(where).order_by(_jobs.c.created_at)

        def read() -> list[JobRecord]:
            with self._engine.connect() as connection:
                return [_decode(document) for (document,) in connection.execute(query)]

        return await self._call(read)

    async def _call(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (SQLAlchemyError, ValueError, OSError) as error:
            raise StoreUnavailable(
                f"The records in {self._path} cannot be used: {getattr(error, 'orig', error)}. "
                "Is the disk full, or the file damaged or locked by another program?"
            ) from error


def _row(record: JobRecord) -> dict[str, object]:
    return {
        "uid": str(record.uid),
        "native_id": record.native_id and str(record.native_id),
        "is_final": record.state.is_final,
        "is_removed": record.removed_at is not None,
        "changed_at": record.state_changed_at.timestamp(),
        "created_at": record.created_at.timestamp(),
        "document": _encode(record),
    }


def _encode(record: JobRecord) -> bytes:
    try:
        return _encoder.encode(record)
    except (UnicodeEncodeError, OverflowError):
        # A scheduler printed bytes that are no UTF-8, or a number of more than 64 bits.
        return json.dumps(msgspec.to_builtins(record, enc_hook=str)).encode()


def _decode(document: bytes) -> JobRecord:
    try:
        return _decoder.decode(document)
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(document), JobRecord, dec_hook=_restore)


def _report_failure(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        _log.error("store.write_failed", problem=str(error))


def _settle(writes: Sequence[_Write], error: Exception | None) -> None:
    for write in writes:
        if write.done.done():
            continue
        if error is None:
            write.done.set_result(None)
        else:
            write.done.set_exception(error)
