"""One database, SQLite or PostgreSQL: how it is opened, written to and read from.

All that wants to be written at the same moment shares one transaction, made by one thread; reads
have threads of their own.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from hpcq.domain.errors import StoreUnavailable
from hpcq.domain.events import EventDraft
from hpcq.storage.connection import explain, make_engine, take_lock, with_driver
from hpcq.storage.documents import encode
from hpcq.storage.migrate import Deployment, bring_up_to_date
from hpcq.storage.schema import deployments, events

__all__ = ["Database", "Transaction"]

_T = TypeVar("_T")
_LAST_READS_SECONDS = 2.0
_READERS = 4
_CLOSED = "The records are closed: this service is ending."


@dataclass(slots=True)
class Transaction:
    """One transaction, as far as it has come.

    Attributes:
        connection: to write with.
        deployment_id: the owner of the records.
        change: its own number; those of earlier transactions are lower.
        event_drafts: what it has to tell, in order; they become events when it ends.
    """

    connection: sa.Connection
    deployment_id: int
    change: int
    event_drafts: list[EventDraft] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    do: Callable[[Transaction], Any]
    done: asyncio.Future[Any]


class _OneFailed(Exception):
    """One piece of work in a transaction failed by itself; the others may be well."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(index)
        self.index = index
        self.error = error


class Database:
    """The database of one deployment.

    Every method but the constructor raises `StoreUnavailable` when it cannot be used.

    Args:
        url: ``sqlite:///PATH`` or ``postgresql://…``.
        deployment: the owner of the records.
        beside_the_service: whether the service may use it at the same time, also where it is not
            shared; then it must be as this release makes it.

    Attributes:
        is_shared: whether other processes may use it too.
        newest_event: the number of the newest event that this process wrote or found; 0 before
            the first.
    """

    def __init__(
        self, url: str, deployment: Deployment, *, beside_the_service: bool = False
    ) -> None:
        self._url = with_driver(sa.make_url(url))
        self._deployment = deployment
        self._beside_the_service = beside_the_service
        self._deployment_id = 0
        self.newest_event = 0
        self.is_shared = self._url.get_backend_name() != "sqlite"
        self._engine = make_engine(self._url, _READERS + 1)
        self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._reader_threads = ThreadPoolExecutor(_READERS, thread_name_prefix="store-read")
        self._running: set[Future[Any]] = set()
        self._waiting: list[_Work] = []
        self._writer: asyncio.Task[None] | None = None
        self._lock: TextIO | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Open the database, and make or migrate its tables."""
        try:
            await self._in_thread(self._writer_thread, self._prepare)
        except BaseException:
            self._unlock()
            raise

    def _prepare(self) -> None:
        if not self.is_shared:
            self._lock = take_lock(self._url, or_none=self._beside_the_service)
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        is_service_running = not self.is_shared and self._lock is None
        bring_up_to_date(self._engine, self._deployment, may_change=not is_service_running)
        with self._engine.begin() as connection:
            self._deployment_id = _enter(connection, self._deployment)
            # What can be read may still be read-only, or on a disk that is full.
            _, self.newest_event = _begin(connection, self._deployment_id)

    async def close(self) -> None:
        """Finish what is being written and let the database go; harmless when it is closed."""
        if self._is_closed:
            return
        while self._writer is not None:
            await self._writer
        # Reads go on though nobody waits for them any more, and give their connections back.
        reads = asyncio.gather(
            *map(asyncio.wrap_future, tuple(self._running)), return_exceptions=True
        )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reads, _LAST_READS_SECONDS)
        await self._in_thread(self._writer_thread, self._engine.dispose)
        self._is_closed = True
        for threads in (self._writer_thread, self._reader_threads):
            threads.shutdown(wait=False, cancel_futures=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write(self, do: Callable[[Transaction], _T]) -> "asyncio.Future[_T]":
        """Do something within a transaction, which survives a power failure once it is done.

        Args:
            do: called in another thread, possibly again after a transaction that it shared with
                others was given up. An exception of its undoes what it wrote, and no more.
        """
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Work(do, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._drain())
        return done

    async def read(self, do: Callable[[sa.Connection, int], _T]) -> _T:
        """Return what a function reads, given a connection and the deployment's id.

        All that it reads is of one moment.
        """

        def work() -> _T:
            with self._engine.connect() as connection:
                _begin_to_read(connection)
                return do(connection, self._deployment_id)

        return await self._in_thread(self._reader_threads, work)

    async def apart(self, do: Callable[[sa.Connection, int], _T]) -> _T:
        """Return what a function does in a transaction of its own, which waits for no other."""

        def work() -> _T:
            with self._engine.begin() as connection:
                return do(connection, self._deployment_id)

        return await self._in_thread(self._reader_threads, work)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                works, self._waiting = self._waiting, []
                for work, outcome in zip(works, await self._outcomes(works), strict=True):
                    _settle(work.done, self._explained(outcome))
        finally:
            self._writer = None

    async def _outcomes(self, works: Sequence[_Work]) -> Sequence[Any]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._writer_thread, self._write_together, works)
        except RuntimeError:
            return [StoreUnavailable(_CLOSED)] * len(works)

    def _write_together(self, works: Sequence[_Work]) -> list[Any]:
        """Return what each piece of work returned or raised."""
        failed: dict[int, Exception] = {}
        left = list(range(len(works)))
        while left:
            try:
                done = self._write([works[i] for i in left])
            except _OneFailed as failure:
                failed[left.pop(failure.index)] = failure.error
            except Exception as error:
                return [failed.get(i, error) for i in range(len(works))]
            else:
                outcomes: dict[int, Any] = {**failed, **dict(zip(left, done, strict=True))}
                return [outcomes[i] for i in range(len(works))]
        return [failed[i] for i in range(len(works))]

    def _write(self, works: Sequence[_Work]) -> list[Any]:
        with self._engine.begin() as connection:
            transaction, last_event = _begin(connection, self._deployment_id)
            outcomes = [_done(index, work, transaction) for index, work in enumerate(works)]
            newest_event = _write_events(transaction, last_event)
        self.newest_event = newest_event
        return outcomes

    async def _in_thread(self, threads: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        if self._is_closed:
            raise StoreUnavailable(_CLOSED)
        try:
            running = threads.submit(work)
            self._running.add(running)
            running.add_done_callback(self._running.discard)
            return await asyncio.wrap_future(running)
        except Exception as error:
            raise self._explained(error) from error

    def _explained(self, outcome: Any) -> Any:
        if not isinstance(outcome, SQLAlchemyError | sqlite3.Error | OSError):
            return outcome
        unavailable = StoreUnavailable(explain(outcome, self._url))
        unavailable.__cause__ = outcome
        return unavailable


def _enter(connection: sa.Connection, deployment: Deployment) -> int:
    """Return the id of the deployment, which is entered when it is new."""
    known = sa.select(deployments.c.id).where(
        deployments.c.cluster_id == deployment.cluster_id,
        deployments.c.scheduler == deployment.scheduler,
    )
    found = connection.execute(known).scalar()
    if found is None:
        row = {
            "cluster_id": deployment.cluster_id,
            "scheduler": deployment.scheduler,
            "last_event": 0,
            "last_change": 0,
        }
        with contextlib.suppress(sa.exc.IntegrityError), connection.begin_nested():
            connection.execute(deployments.insert(), row)
        found = connection.execute(known).scalar_one()
    return int(found)


def _begin_to_read(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        # The driver would begin a transaction only with the first row that is written.
        connection.exec_driver_sql("BEGIN")
    else:
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _begin(connection: sa.Connection, deployment_id: int) -> tuple[Transaction, int]:
    """Lock the deployment; return its transaction, and the number of its last event so far."""
    ours = deployments.c.id == deployment_id
    connection.execute(
        deployments.update().where(ours).values(last_change=deployments.c.last_change + 1)
    )
    change, last_event = connection.execute(
        sa.select(deployments.c.last_change, deployments.c.last_event).where(ours)
    ).one()
    return Transaction(connection, deployment_id, change), last_event


def _done(index: int, work: _Work, transaction: Transaction) -> Any:
    """Do one piece of work.

    Raises:
        _OneFailed: it failed, for reasons of its own.
    """
    try:
        return work.do(transaction)
    except (sa.exc.OperationalError, sa.exc.InterfaceError):
        # The disk, the server, or the way to it: no other would fare better.
        raise
    except Exception as error:
        raise _OneFailed(index, error) from error


def _write_events(transaction: Transaction, last_event: int) -> int:
    """Number what happened and write it down as events; return the number of the newest."""
    if not transaction.event_drafts:
        return last_event
    rows = [
        {
            "deployment_id": transaction.deployment_id,
            "number": number,
            "uid": str(what.uid),
            "kind": str(what.kind),
            "at": what.at.timestamp(),
            "data": encode(what.data),
        }
        for number, what in enumerate(transaction.event_drafts, last_event + 1)
    ]
    transaction.connection.execute(events.insert(), rows)
    transaction.connection.execute(
        deployments.update()
        .where(deployments.c.id == transaction.deployment_id)
        .values(last_event=last_event + len(rows))
    )
    return last_event + len(rows)


def _settle(done: "asyncio.Future[Any]", outcome: Any) -> None:
    if done.done():
        return
    if isinstance(outcome, BaseException):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
