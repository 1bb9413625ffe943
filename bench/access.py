"""The cost of asking who asks, and of listings of one's own for a thousand users.

``python -m bench.access``
"""

import http.client
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import uvloop

from bench.scale import waiting
from hpcq.domain import job_merge
from hpcq.domain.principals import Person
from hpcq.domain.units import now
from hpcq.schedulers.testing.service import Service
from hpcq.services.listing.job_entry import Freshness
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.wire import WireFormat

HELD = 50
TURNS = 7
REQUESTS = 400
USERS = 1_000
JOBS = 100_000


def asking(directory: Path) -> None:
    """Measure ``GET /jobs`` without and with the question, in turns."""
    script = directory / "true.sh"
    script.write_text("#!/bin/sh\n:\n")
    quiet = {"SCHEDULER": "LOCAL", "LOG_LEVEL": "WARNING"}
    job = {"workingDirectory": str(directory), "scriptFile": str(script), "reservedSlots": 1}
    with (
        Service(directory / "none", quiet | {"AUTH": "none"}) as unasked,
        Service(directory / "default", quiet) as asked,
    ):
        for service in (unasked, asked):
            for _ in range(HELD):
                service.client.post("/jobs", json=job | {"hold": True}).raise_for_status()
        token = (asked.state_directory / "operator.token").read_text().strip()
        kinds: Mapping[str, tuple[Service, dict[str, str]]] = {
            "AUTH=none": (unasked, {}),
            "peer": (asked, {}),
            "token": (asked, {"Authorization": f"Bearer {token}"}),
        }
        medians: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(TURNS):
            for kind, (service, headers) in kinds.items():
                medians[kind].append(listing(service, headers))
        base = statistics.median(medians["AUTH=none"])
        for kind, turns in medians.items():
            median = statistics.median(turns)
            print(
                f"GET /jobs of {HELD} jobs, {kind:10} {median * 1000:6.3f} ms, ratio "
                f"{median / base:.2f} ({min(turns) * 1000:.3f} to {max(turns) * 1000:.3f})"
            )


def listing(service: Service, headers: dict[str, str]) -> float:
    """Return the median time of a request, over one connection."""
    client = http.client.HTTPConnection("127.0.0.1", service.port)
    seconds = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        client.request("GET", "/jobs", headers=headers)
        answer = client.getresponse()
        body = answer.read()
        seconds.append(time.perf_counter() - began)
        assert answer.status == 200
    assert len(json.loads(body)) == HELD
    client.close()
    return statistics.median(seconds)


async def views() -> None:
    """Measure the making of one body for all, and of one for each of a thousand users."""
    at = now()
    records = [
        job_merge.foreign_record("1", replace(waiting(n), owner=f"user-{n % USERS}"), at)
        for n in range(JOBS)
    ]
    ratios = []
    for _ in range(TURNS):
        seconds = []
        for users in ([None], [Person(f"user-{n}", f"user-{n}") for n in range(USERS)]):
            table = JobTable(WireFormat("1"))
            table.apply(records, as_of=at)
            began = time.perf_counter()
            total = 0
            for user in users:
                whole = table.view(user)
                pieces = await whole.json(Freshness(at, False), usage=False, gzip=False)
                total += sum(piece.count(b'"jobId"') for piece in pieces)
            seconds.append(time.perf_counter() - began)
            assert total == JOBS
        ratios.append(seconds[1] / seconds[0])
        print(f"all {seconds[0]:.2f} s, {USERS} views {seconds[1]:.2f} s")
    print(f"bodies of {JOBS} jobs, {USERS} views: ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        asking(Path(folder))
    uvloop.run(views())
