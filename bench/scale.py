"""A hundred thousand jobs in a queue: what the service does with them, and what it costs others.

``python -m bench.scale [JOBS]``; 100,000 by default. Slurm's listing is made up, in the form that
``squeue`` prints; all the rest is the service's own code. "Held up" is the longest time during
which the event loop, and so every other request, had to wait.
"""

import asyncio
import contextlib
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

from hpcq.cli.serve import GARBAGE_THRESHOLDS
from hpcq.domain.jobs import JobSpec, NativeId, Observation
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import JobState
from hpcq.domain.units import now
from hpcq.schedulers.base import Listing
from hpcq.schedulers.testing import FakeScheduler
from hpcq.services.listing.job_entry import Freshness
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.wire import WireFormat
from hpcq.services.settings import ServiceSettings
from hpcq.services.submission.paths import PathChecker
from hpcq.services.wiring import Services, assemble
from hpcq.storage.database import Database
from hpcq.storage.migrate import Deployment

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = ServiceSettings()
SUBMISSIONS = 50


class Full(FakeScheduler):
    """A scheduler whose queue is given."""

    listed: tuple[Observation, ...] = ()

    async def jobs(self) -> Listing:
        return Listing(observations=self.listed)


def waiting(number: int) -> Observation:
    return Observation(
        native_id=NativeId(str(number)),
        state=JobState.QUEUED,
        native_state="PENDING",
        state_reason="It waits for resources.",
        name=f"study-{number % 97}",
        owner="ana",
        queue="batch",
        submit_time=BEGIN + timedelta(seconds=number),
        working_directory=f"/home/ana/studies/{number}",
        script_file="/home/ana/run.sh",
        slots=16,
    )


async def measure(jobs: int, directory: Path) -> None:
    scheduler = Full()
    database = Database(f"sqlite:///{directory / 'jobs.sqlite3'}", Deployment("1", "FAKE"))
    await database.open()
    services = assemble(
        scheduler, database, PathChecker(scheduler, SETTINGS), SETTINGS, WireFormat("1"), now
    )
    monitor, table = services.monitor, services.table
    scheduler.listed = tuple(waiting(number) for number in range(jobs))
    await timed("first listing", monitor.tick)
    await timed("listing, nothing new", monitor.tick)
    started = [
        replace(seen, state=JobState.RUNNING, start_time=seen.submit_time)
        for seen in scheduler.listed[:1000]
    ]
    scheduler.listed = (*started, *scheduler.listed[1000:])
    await timed("listing, 1,000 started", monitor.tick)
    await timed("GET /jobs, packed, first", lambda: listing(table))
    await timed("GET /jobs, packed, again", lambda: listing(table))
    script = directory / "run.sh"
    script.write_text("#!/bin/sh\n")
    one = JobSpec(name="one", working_directory=str(directory), script_file=str(script))
    await timed("first submission", lambda: submission(services, one))
    each = [await seconds(submission(services, one)) for _ in range(SUBMISSIONS)]
    print(
        f"a submission, median of {SUBMISSIONS} {statistics.median(each) * 1000:8.1f} ms",
        flush=True,
    )
    await database.close()


async def listing(table: JobTable) -> None:
    await table.listing.json(Freshness(table.as_of, False), usage=False, gzip=True)


async def submission(services: Services, spec: JobSpec) -> None:
    await services.submitter.submit(UNASKED, spec)


async def timed(title: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with longest_hold() as hold:
        took = await seconds(work())
    print(f"{title:28} {took * 1000:8.1f} ms, held up {max(hold) * 1000:7.1f} ms", flush=True)


async def seconds(work: Coroutine[Any, Any, None]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


@contextlib.asynccontextmanager
async def longest_hold() -> AsyncIterator[list[float]]:
    seen = [0.0]

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            seen.append(time.perf_counter() - before - 0.001)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    yield seen
    await asyncio.sleep(0.01)
    watching.cancel()


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, Path(folder)))
