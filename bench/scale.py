"""A hundred thousand jobs in a queue: what the service does with them, and what it costs others.

``python -m bench.scale [JOBS]``; 100,000 by default. Slurm's listing is made up, in the form that
``squeue`` prints; all the rest is the service's own code. "Held up" is the longest time during
which the event loop, and so every other request, had to wait.
"""

import asyncio
import contextlib
import gc
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

from hpcq.cli.serve import COLLECT_SELDOM
from hpcq.domain import submission
from hpcq.domain.jobs import JobSpec, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.schedulers.base import Listing
from hpcq.schedulers.testing import FakeScheduler
from hpcq.services.clock import now
from hpcq.services.monitor import Monitor, MonitorOptions
from hpcq.services.snapshot import Board, Freshness
from hpcq.storage.jobs import JobStore

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = MonitorOptions(
    interval_seconds=5, usage_interval_seconds=15, listed_for=timedelta(days=1)
)


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
    store = JobStore(directory / "jobs.sqlite3")
    await store.open()
    board = Board("1")
    monitor = Monitor(scheduler, store, board, "1", OPTIONS)
    scheduler.listed = tuple(waiting(number) for number in range(jobs))
    await timed("first listing", monitor.tick)
    await timed("listing, nothing new", monitor.tick)
    started = [
        replace(seen, state=JobState.RUNNING, start_time=seen.submit_time)
        for seen in scheduler.listed[:1000]
    ]
    scheduler.listed = (*started, *scheduler.listed[1000:])
    await timed("listing, 1,000 started", monitor.tick)
    await timed("GET /jobs, packed, first", lambda: listing(board))
    await timed("GET /jobs, packed, again", lambda: listing(board))
    await timed("one submission shown", lambda: submission(monitor, store))
    await store.close()


async def listing(board: Board) -> None:
    await board.snapshot.listing(Freshness(board.snapshot.as_of, False), usage=False, gzip=True)


async def submission(monitor: Monitor, store: JobStore) -> None:
    spec = JobSpec(name="one", working_directory="/", script_file="/run.sh")
    record = submission.submitted(
        submission.intent(JobUid.new(), spec, now(), by="test", is_promised=False),
        NativeId("999999999"),
        now(),
    )
    monitor.adopt(record)
    await store.save([record])


async def timed(title: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with longest_hold() as hold:
        began = time.perf_counter()
        await work()
        took = time.perf_counter() - began
    print(f"{title:28} {took * 1000:8.1f} ms, held up {max(hold) * 1000:7.1f} ms", flush=True)


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
    gc.set_threshold(*COLLECT_SELDOM)
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, Path(folder)))
