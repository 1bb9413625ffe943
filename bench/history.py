"""A million finished jobs in the records: what the service does with them behind it.

``python -m bench.history [JOBS] [DATABASE_URL]``; 1,000,000 in SQLite by default. The tables of
the database are made for the measurement; take one that holds nothing else. The records are
written directly; then the service runs as users run it, and is spoken to over HTTP.
"""

import asyncio
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import sqlalchemy as sa

from bench.listing import resident_mib
from bench.scale import SETTINGS, Full
from hpcq.domain import job_merge, submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation, Usage
from hpcq.domain.states import JobState
from hpcq.domain.units import now
from hpcq.schedulers.testing.service import Service
from hpcq.services.listing.pagination import AfterEnded, write_cursor
from hpcq.services.listing.wire import WireFormat
from hpcq.services.submission.paths import PathChecker
from hpcq.services.wiring import assemble
from hpcq.storage.database import Database
from hpcq.storage.documents import encode
from hpcq.storage.leases import Lease
from hpcq.storage.migrate import Deployment

OPEN = 1_000
LATELY = 20_000
STARTS = 3
READS = 100
LOOKS = 30
DAY = timedelta(days=1)
WAITED, RAN = timedelta(minutes=50), timedelta(minutes=40)
FIRST_NUMBER = 10_000_000
BATCH = 20_000
COLUMNS = (
    "uid, deployment_id, native_id, is_ours, is_settled, is_removed, changed_at, created_at, "
    "revision, change, document"
)
CLUSTER_ID = "bench"


class History:
    """Finished jobs in a database, one document each, numbered from the newest.

    Args:
        url: of the database.
        jobs: how many.
        lately: how many of them ended within the last day.
    """

    def __init__(self, url: str, jobs: int, lately: int) -> None:
        self.url = url
        self.jobs = jobs
        self._lately = lately
        self._now = datetime.now(UTC)

    def uid(self, number: int) -> str:
        return str(uuid.UUID(int=number + (1 << 96), version=4))

    def native_id(self, number: int) -> str:
        return str(FIRST_NUMBER + number)

    def ended_at(self, number: int) -> datetime:
        """All that ended lately within the last twenty hours, the others before the last day."""
        if number < self._lately:
            return self._now - timedelta(hours=20) * (number / self._lately)
        return self._now - DAY - timedelta(seconds=30) * (number - self._lately + 1)

    def write(self) -> None:
        """Write them all."""
        if self.url.startswith("sqlite"):
            self._insert()
        else:
            self._copy()

    def _rows(self, deployment: int) -> Iterator[tuple[object, ...]]:
        yes, no = (1, 0) if self.url.startswith("sqlite") else (True, False)
        one = self._record(0)
        document = encode(one)
        before = self._words(0)
        for number in reversed(range(self.jobs)):
            words = self._words(number)
            mine = document
            for old, new in zip(before, words, strict=True):
                mine = mine.replace(old, new)
            ended = self.ended_at(number)
            created = (ended - WAITED).timestamp()
            ids = self.uid(number), deployment, self.native_id(number)
            yield *ids, yes, yes, no, ended.timestamp(), created, one.revision, 1, mine

    def _words(self, number: int) -> list[bytes]:
        """Return what tells the document of one job from those of others."""
        ended = self.ended_at(number)
        return [
            self.uid(number).encode(),
            f'"{self.native_id(number)}"'.encode(),
            f"/studies/{number:07}".encode(),
            *(msgspec.json.encode(ended - before) for before in (WAITED, RAN, timedelta())),
        ]

    def _record(self, number: int) -> JobRecord:
        ended = self.ended_at(number)
        native_id = NativeId(self.native_id(number))
        folder = f"/home/ana/studies/{number:07}"
        seen = replace(
            SEEN,
            native_id=native_id,
            submit_time=ended - WAITED,
            start_time=ended - RAN,
            end_time=ended,
            working_directory=folder,
        )
        record = submission.intent(
            JobUid(self.uid(number)),
            replace(SPEC, working_directory=folder),
            ended - WAITED,
            by="bench",
            is_promised=False,
        )
        taken = submission.submitted(record, native_id, ended - WAITED)
        return job_merge.observe(taken, seen, ended)

    def _insert(self) -> None:
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            deployment = _deployment(connection)
            marks = ", ".join("?" * 11)
            statement = f"INSERT INTO jobs ({COLUMNS}) VALUES ({marks})"  # noqa: S608
            for batch in _batches(self._rows(deployment)):
                connection.exec_driver_sql(statement, batch)
        engine.dispose()

    def _copy(self) -> None:
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            deployment = _deployment(connection)
            driver = connection.connection.driver_connection
            assert driver is not None
            with driver.cursor() as cursor, cursor.copy(f"COPY jobs ({COLUMNS}) FROM STDIN") as to:
                for row in self._rows(deployment):
                    to.write_row(row)
        with engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE jobs")
        engine.dispose()


SPEC = JobSpec(
    name="study",
    working_directory="/",
    script_file="/home/ana/run.sh",
    args=("--case", "base"),
    slots=16,
    environment={"OMP_NUM_THREADS": "16"},
)
SEEN = Observation(
    native_id=NativeId("1"),
    state=JobState.DONE,
    native_state="COMPLETED",
    exit_code=0,
    name="study",
    owner="ana",
    queue="batch",
    account="planning",
    script_file="/home/ana/run.sh",
    slots=16,
    hosts=("node-17",),
    usage=Usage(cpu_seconds=38_211.5, max_memory_bytes=8.1e9, io_bytes=3.2e9),
)


def _deployment(connection: sa.Connection) -> int:
    """Return whose records they are."""
    query = sa.text("SELECT id FROM deployments WHERE cluster_id = :id")
    return int(connection.execute(query, {"id": CLUSTER_ID}).scalar_one())


def _whose(url: str) -> Deployment:
    """Return the deployment as the service has entered it."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    query = sa.text("SELECT cluster_id, scheduler FROM deployments WHERE cluster_id = :id")
    with engine.connect() as connection:
        cluster_id, scheduler = connection.execute(query, {"id": CLUSTER_ID}).one()
    engine.dispose()
    return Deployment(cluster_id, scheduler)


def _batches(rows: Iterator[tuple[object, ...]]) -> Iterator[list[tuple[object, ...]]]:
    batch: list[tuple[object, ...]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def measure(title: str, jobs: int, lately: int, url: str | None) -> None:
    print(f"\n{title}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        script = directory / "true.sh"
        script.write_text("#!/bin/sh\n:\n")
        settings = {"SCHEDULER": "LOCAL", "CLUSTER_ID": CLUSTER_ID}
        settings |= {"LOG_LEVEL": "WARNING", "POLL_INTERVAL_SECONDS": "5"}
        if url is not None:
            emptied(url)
            settings["DATABASE_URL"] = url
        service = Service(directory, settings)
        where = url or f"sqlite:///{service.state_directory / 'jobs.sqlite3'}"
        job = {
            "workingDirectory": folder,
            "scriptFile": str(script),
            "reservedSlots": 1,
            "hold": True,
        }
        with service:
            client = Client(service)
            show("POST, 1,000 open jobs alone", [client.post(job) for _ in range(OPEN)][-READS:])
        show("look, 1,000 open jobs alone", asyncio.run(looks(where)))
        history = History(where, jobs, lately)
        began = time.perf_counter()
        history.write()
        print(f"{jobs:,} records written in {time.perf_counter() - began:.0f} s", flush=True)
        show("look, with the records", asyncio.run(looks(where)))
        starts(service)
        with service:
            reads(Client(service), history, lately, job)
            print(f"{'resident memory':34} {resident_mib(service.pid):8} MiB", flush=True)


def emptied(url: str) -> None:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()


async def looks(url: str) -> list[float]:
    """Return the milliseconds that looks take at a queue in which nothing changes."""
    scheduler = Full()
    database = Database(url, _whose(url))
    await database.open()
    me = uuid.uuid4().hex
    services = assemble(
        scheduler,
        database,
        PathChecker(scheduler, SETTINGS),
        SETTINGS,
        WireFormat(CLUSTER_ID),
        now,
        me=me,
    )
    await services.monitor.load()
    scheduler.listed = tuple(
        Observation(native_id=r.native_id, state=r.state, submission_key=r.key)
        for r in services.table.records()
        if r.native_id is not None and not r.is_settled
    )
    lease = Lease(database, me, timedelta(minutes=10))
    if database.is_shared:
        await lease.take()
    await services.monitor.look()
    milliseconds = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        await services.monitor.look()
        milliseconds.append((time.perf_counter() - began) * 1000)
    if database.is_shared:
        await lease.give_back()
    await database.close()
    return milliseconds


def starts(service: Service) -> None:
    milliseconds = []
    for _ in range(STARTS):
        began = time.perf_counter()
        service.start()
        milliseconds.append((time.perf_counter() - began) * 1000)
        service.stop()
    show("start until ready", milliseconds)


def reads(client: "Client", history: History, lately: int, job: dict[str, object]) -> None:
    first = "/jobs?limit=100"
    following = client.get(first)[1]
    deep = first
    for _ in range(min(lately, 15_000) // 1000):
        deep = client.get(deep.replace("limit=100&", "limit=1000&"))[1] or deep
    deep = deep.replace("limit=1000&", "limit=100&")
    half = AfterEnded(history.ended_at(lately // 2).timestamp(), "")
    pages = {"first page": first, "next page": following, "page 15,000 jobs on": deep}
    if lately > LATELY:
        pages["page half the day back"] = f"{first}&cursor={write_cursor(half)}"
    for title, path in pages.items():
        timed(title, lambda path=path: client.get(path))  # type: ignore[misc]
    step = history.jobs // 2 // READS
    old = range(history.jobs // 2, history.jobs, step)[:READS]
    for title, name in (("uid", history.uid), ("jobId", history.native_id)):
        paths = iter([f"/jobs/{name(number)}" for number in old])
        timed(f"an old job by {title}", lambda paths=paths: client.get(next(paths)))  # type: ignore[misc]
    show("POST, with the records", [client.post(job) for _ in range(READS)])


class Client:
    """One connection to the service."""

    def __init__(self, service: Service) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port)

    def get(self, path: str) -> tuple[bytes, str]:
        """Return a body, and the path of the next page."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        link = answer.headers.get("Link", "")
        return body, link.partition("<")[2].partition(">")[0]

    def post(self, job: dict[str, object]) -> float:
        """Submit a job; return the milliseconds that it took."""
        began = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/jobs", json.dumps(job), headers)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 201, body
        return (time.perf_counter() - began) * 1000


def timed(title: str, work: Callable[[], object]) -> None:
    milliseconds = []
    for _ in range(READS):
        began = time.perf_counter()
        work()
        milliseconds.append((time.perf_counter() - began) * 1000)
    show(title, milliseconds)


def show(title: str, milliseconds: list[float]) -> None:
    print(
        f"{title:34} median {statistics.median(milliseconds):8.1f} ms, "
        f"{min(milliseconds):.1f} to {max(milliseconds):.1f} ms, {len(milliseconds)} times",
        flush=True,
    )


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    url = sys.argv[2] if len(sys.argv) > 2 else None
    measure(f"{LATELY:,} of {jobs:,} ended within the last day", jobs, LATELY, url)
    measure(f"all of {jobs:,} ended within the last day", jobs, jobs, url)
