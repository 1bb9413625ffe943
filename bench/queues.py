"""A week of the load of ten queues in the records: their size, and the time of answers.

``python -m bench.queues [QUEUES]``. The samples are written directly; then the service runs as
users run it, and is spoken to over HTTP.
"""

import asyncio
import random
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from bench.history import Client, timed
from hpcq.domain.units import format_time, now
from hpcq.schedulers.testing.service import Service
from hpcq.storage.database import Database
from hpcq.storage.migrate import Deployment
from hpcq.storage.schema import queue_samples

MINUTES = 7 * 24 * 60
FIGURES = ("slots_used", "slots_queued", "jobs_running", "jobs_queued")


async def fill(path: Path, queues: int) -> int:
    """Write a week of samples; return how many bytes they take."""
    database = Database(f"sqlite:///{path}", Deployment("bench", "LOCAL"))
    await database.open()
    before = await database.apart(_size)

    def write(connection: sa.Connection, deployment_id: int) -> None:
        last = int(now().timestamp()) // 60
        for minute in range(last - MINUTES, last):
            rows = [
                {name: random.randrange(2000) for name in FIGURES}  # noqa: S311
                | {"deployment_id": deployment_id, "queue": f"queue-{number}.q"}
                | {"minute": minute, "slots_total": 2000}
                for number in range(queues)
            ]
            connection.execute(queue_samples.insert(), rows)

    await database.apart(write)
    grown = await database.apart(_size) - before
    await database.close()
    return grown


def _size(connection: sa.Connection, _deployment: int) -> int:
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    return int(pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one())


def measure(queues: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        service = Service(directory, {"CLUSTER_ID": "bench", "LOG_LEVEL": "WARNING"})
        service.state_directory.mkdir(mode=0o700)
        grown = asyncio.run(fill(service.state_directory / "jobs.sqlite3", queues))
        print(f"{queues * MINUTES:,} samples: {grown / 2**20:.1f} MiB")
        with service:
            client, path = Client(service), "/queues/queue-1.q/usage"
            week = format_time(now() - timedelta(days=7))
            for title, query in (
                ("a day, 480 points", ""),
                ("the week, 480 points", f"?since={week}"),
                ("the week, 2000 points", f"?since={week}&points=2000"),
            ):
                size = len(client.get(path + query)[0])
                timed(f"{title} ({size:,} B)", lambda query=query: client.get(path + query))  # type: ignore[misc]


if __name__ == "__main__":
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
