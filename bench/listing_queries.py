"""Filters, orders and pages of ``GET /jobs`` with a million finished jobs in SQLite.

``python -m bench.listing_queries [JOBS]``; 1,000,000 by default. The records are written as an
earlier release left them, so that the first start migrates them. Then the service runs as users run
it, and is spoken to over HTTP.
"""

import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import sqlalchemy as sa
from tests.databases import BACK_TO_0004

from bench.history import CLUSTER_ID, LATELY, History
from hpcq.domain.units import format_time
from hpcq.schedulers.testing.service import Service

TIMES = 100
OWNERS = 50
NAMES = 5_000
ONCE_IN = {"failed": 20, "rare": 100_000}


class Mixed(History):
    """Jobs of fifty people, of five thousand names; every twentieth failed."""

    def _words(self, number: int) -> list[bytes]:
        name = f"study-{number % NAMES}" if number else "study"
        owner = f"user{number % OWNERS}" if number else "ana"
        if number and number % ONCE_IN["rare"] == 0:
            owner = "rarely"
        state = "FAILED" if number and number % ONCE_IN["failed"] == 0 else "DONE"
        return [
            *super()._words(number),
            f'"name":"{name}"'.encode(),
            f'"owner":"{owner}"'.encode(),
            f'"state":"{state}"'.encode(),
        ]


def measure(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"SCHEDULER": "LOCAL", "CLUSTER_ID": CLUSTER_ID, "LOG_LEVEL": "WARNING"}
        service = Service(Path(folder), settings)
        with service:
            pass
        url = f"sqlite:///{service.state_directory / 'jobs.sqlite3'}"
        history = Mixed(url, jobs, LATELY)
        began = time.perf_counter()
        history.write()
        print(f"{jobs:,} records written in {time.perf_counter() - began:.0f} s", flush=True)
        migrate(url)
        with service:
            queries(service, history)


def migrate(url: str) -> None:
    """Have the service's own code migrate the records, and print how long it takes."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in BACK_TO_0004:
            connection.exec_driver_sql(statement)
    engine.dispose()
    before = Path(engine.url.database or "").stat().st_size
    program = (
        "import asyncio\n"
        "from hpcq.storage.database import Database\n"
        "from hpcq.storage.migrate import Deployment\n"
        "async def main():\n"
        f"    database = Database({url!r}, Deployment({CLUSTER_ID!r}, 'LOCAL'))\n"
        "    await database.open()\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    seconds = time.perf_counter() - began
    more = (Path(engine.url.database or "").stat().st_size - before) / 2**20
    print(f"migrated in {seconds:.0f} s, {more:.0f} MiB more", flush=True)


def queries(service: Service, history: History) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    half = history.ended_at(history.jobs // 2)
    month = {"endedAfter": format_time(half - timedelta(days=30)), "endedBefore": format_time(half)}
    submitted = {"submittedBefore": format_time(half)}
    old = {"archived": "true"}
    for title, parameters in {
        "GET /jobs?limit=100": {"limit": "100"},
        "name, in memory (20,000 jobs)": {"name": "study-7"},
        "text, in memory": {"text": "STUDY-77"},
        "sort=-endTime, in memory": {"sort": "-endTime", "limit": "100"},
        "archived, newest 100": old,
        "archived, newest 1,000": {**old, "limit": "1000"},
        "a month, half way back": month,
        "a month, failed": {**month, "state": "FAILED"},
        "a month, one owner": {**month, "owner": "user7"},
        "submittedBefore": submitted,
        "submittedBefore, one owner": {**submitted, "owner": "user7"},
        "owner": {**old, "owner": "user7"},
        "owner of ten jobs": {**old, "owner": "rarely"},
        "owner of ten jobs, sort=submitTime": {**old, "owner": "rarely", "sort": "submitTime"},
        "two owners": {**old, "owner": "user7,user8"},
        "owner and name": {**old, "owner": "user7", "name": "study-7"},
        "owner and name, none fits": {**old, "owner": "user8", "name": "study-7"},
        "name": {**old, "name": "study-7"},
        "name with *": {**old, "name": "*-77"},
        "workingDirectory": {**old, "workingDirectory": "/home/ana/studies/0500000"},
        "state": {**old, "state": "FAILED"},
        "text that many have": {**old, "text": "STUDY-77"},
        "text that none has": {**old, "text": "nothing has this"},
    }.items():
        timed(connection, title, f"/jobs?{urlencode(parameters)}")
    timed(connection, "summary, name", "/jobs/summary?name=study-7")


def timed(connection: http.client.HTTPConnection, title: str, path: str) -> None:
    milliseconds = []
    size = 0
    for _ in range(TIMES):
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        milliseconds.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, body
        size = body.count(b'"jobId"')
    milliseconds.sort()
    print(
        f"{title:36} median {statistics.median(milliseconds):7.1f} ms, "
        f"p99 {milliseconds[int(TIMES * 0.99) - 1]:7.1f} ms, {size} jobs",
        flush=True,
    )


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
