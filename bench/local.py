"""The embedded scheduler: start of the service, submission, and many trivial jobs.

``python -m bench.local``
"""

import asyncio
import http.client
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

from hpcq.schedulers.testing.service import Service

STARTS = 7
SUBMISSIONS = 200
JOBS = 500
CLIENTS = 8
QUIET = {"SCHEDULER": "LOCAL", "LOG_LEVEL": "WARNING", "INTERNAL_SCHEDULER_MAX_SLOTS": "8"}


def measure() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        script = directory / "true.sh"
        script.write_text("#!/bin/sh\n:\n")
        job = {
            "workingDirectory": folder,
            "scriptFile": str(script),
            "reservedSlots": 1,
            "stdoutPath": "/dev/null",
            "stderrPath": "/dev/null",
        }
        starts(directory)
        with Service(directory / "one", QUIET) as service:
            submissions(service, job | {"hold": True})
        with Service(directory / "many", QUIET) as service:
            asyncio.run(many(service, job))


def starts(directory: Path) -> None:
    seconds = []
    for number in range(STARTS):
        service = Service(directory / f"start-{number}", QUIET)
        began = time.perf_counter()
        service.start()
        seconds.append(time.perf_counter() - began)
        service.stop()
    show("from start to ready", [s * 1000 for s in seconds])


def submissions(service: Service, job: dict[str, object]) -> None:
    client = http.client.HTTPConnection("127.0.0.1", service.port)
    milliseconds = []
    for _ in range(SUBMISSIONS):
        began = time.perf_counter()
        client.request("POST", "/jobs", json.dumps(job), {"Content-Type": "application/json"})
        answer = client.getresponse()
        assert answer.status == 201, answer.read()
        answer.read()
        milliseconds.append((time.perf_counter() - began) * 1000)
    show("POST /jobs, one client", milliseconds)


async def many(service: Service, job: dict[str, object]) -> None:
    began = time.perf_counter()
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=60) as client:
        left = iter(range(JOBS))

        async def submit() -> None:
            for _ in left:
                (await client.post("/jobs", json=job)).raise_for_status()

        await asyncio.gather(*(submit() for _ in range(CLIENTS)))
        submitted = time.perf_counter() - began
        while True:
            states = [j["state"] for j in (await client.get("/jobs")).json()]
            if states.count("DONE") == JOBS:
                break
            assert "FAILED" not in states
            await asyncio.sleep(0.2)
    total = time.perf_counter() - began
    print(
        f"{JOBS} trivial jobs: submitted in {submitted:.1f} s, all done in {total:.1f} s, "
        f"{JOBS / total:.0f} a second"
    )


def show(title: str, milliseconds: list[float]) -> None:
    print(
        f"{title}: median {statistics.median(milliseconds):.1f} ms, "
        f"{min(milliseconds):.1f} to {max(milliseconds):.1f} ms, {len(milliseconds)} times"
    )


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    measure()
