"""Records to keep, and the stores of several services before one database."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from hpcq.domain import job_merge, submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.domain.submission import IdempotencyKey
from hpcq.storage.database import Database
from hpcq.storage.jobs import JobStore
from hpcq.storage.migrate import Deployment

__all__ = [
    "DEPLOYMENT",
    "LONG_AGO",
    "SPEC",
    "T0",
    "Store",
    "add",
    "ended",
    "execute",
    "foreign",
    "job",
    "key",
    "opened",
    "several",
]

DEPLOYMENT = Deployment("1", "LOCAL")
T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")


@dataclass
class Store:
    """The store of one service.

    Attributes:
        now: what its clock shows; a test may set it.
    """

    database: Database
    now: datetime = T0

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.database, timedelta(days=1), lambda: self.now)


@asynccontextmanager
async def opened(url: str, deployment: Deployment = DEPLOYMENT) -> AsyncIterator[Store]:
    """The store of one service on this database."""
    database = Database(url, deployment)
    try:
        await database.open()
        yield Store(database)
    finally:
        await database.close()


@asynccontextmanager
async def several(url: str, count: int = 2) -> AsyncIterator[list[Store]]:
    """The stores of so many services on one shared database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opened(url)) for _ in range(count)]


def job(number: int | None = None, seconds: float = 0, **spec: Any) -> JobRecord:
    """A job of ours; the scheduler has it when it has a number."""
    at = T0 + timedelta(seconds=seconds)
    record = submission.intent(JobUid.new(), replace(SPEC, **spec), at, by="me", is_promised=False)
    return record if number is None else submission.submitted(record, NativeId(str(number)), at)


def ended(record: JobRecord, seconds: float) -> JobRecord:
    """The job after it ended."""
    at = T0 + timedelta(seconds=seconds)
    assert record.native_id is not None
    end = Observation(native_id=record.native_id, state=JobState.DONE, end_time=at)
    return job_merge.observe(record, end, at)


def foreign(number: int, **fields: Any) -> JobRecord:
    """A job that somebody else submitted, as the queue shows it."""
    seen = Observation(native_id=NativeId(str(number)), state=JobState.RUNNING, submit_time=T0)
    return job_merge.foreign_record("1", replace(seen, **fields), T0)


def key(text: str = "a", spec: JobSpec = SPEC) -> IdempotencyKey:
    """The idempotency key of a client's submission."""
    return IdempotencyKey.of(text, spec)


async def add(store: Store, records: Iterable[JobRecord]) -> list[JobRecord]:
    """Write new records; return them as written."""
    return await store.jobs.publish([(None, record) for record in records], holder=None)


async def execute(store: Store, statement: str, **values: object) -> None:
    """Do something to the tables behind the store's back."""

    def do(connection: sa.Connection, _deployment: int) -> None:
        connection.execute(sa.text(statement), values)

    await store.database.apart(do)
