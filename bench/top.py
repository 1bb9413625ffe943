"""``hpcq top`` with 10,000 jobs: its first rows, and its cost while nothing or one job changes.

``python -m bench.top``
"""

import asyncio
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from hpcq.cli.top_app import TopApp
from hpcq.cli.top_table import JobRows
from hpcq.schedulers.testing.service import Service

ARRAYS, TASKS = 10, 1_000
TURNS = 5
IDLE_SECONDS = 30
CHANGES = 20


async def watch(service: Service, held: dict[str, Any]) -> tuple[float, float, float]:
    """Return the seconds until the rows stand, and of CPU while idle and for each change."""
    app = TopApp()
    began = time.perf_counter()
    async with app.run_test(size=(120, 40)) as pilot:
        rows = app.query_one(JobRows)
        while len(rows.rows) < ARRAYS * TASKS:
            await pilot.pause(0.005)
        first = time.perf_counter() - began
        await asyncio.sleep(2)
        used = time.process_time()
        await asyncio.sleep(IDLE_SECONDS)
        idle = time.process_time() - used
        used, before = time.process_time(), len(rows.rows)
        for _ in range(CHANGES):
            answer = await asyncio.to_thread(service.client.post, "/jobs", json=held)
            answer.raise_for_status()
            before += 1
            while len(rows.rows) < before:
                await pilot.pause(0.02)
        return first, idle, (time.process_time() - used) / CHANGES


def measure(folder: Path) -> None:
    with Service(folder, {"SCHEDULER": "LOCAL", "LOG_LEVEL": "WARNING"}) as service:
        os.environ["HPCQ_URL"] = service.url
        held = {
            "name": "case",
            "workingDirectory": str(folder),
            "reservedSlots": 1,
            "script": "#!/bin/sh\n:\n",
            "hold": True,
        }
        for _ in range(ARRAYS):
            array = {**held, "array": {"first": 1, "last": TASKS}}
            service.client.post("/jobs", json=array).raise_for_status()
        time.sleep(3)
        print(f"{len(service.client.get('/jobs').json())} jobs")
        firsts, idles, changes = zip(
            *(asyncio.run(watch(service, held)) for _ in range(TURNS)), strict=True
        )
    print(f"first rows       median {statistics.median(firsts):.2f} s, at most {max(firsts):.2f} s")
    share = statistics.median(idles) / IDLE_SECONDS * 100
    print(f"idle             median {share:.1f} % of a core")
    print(f"one job more     median {statistics.median(changes) * 1000:.0f} ms of CPU")
    print(f"resident memory  {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name))
