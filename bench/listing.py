"""Lists per second with many held jobs in a real Slurm: this service against slurmrestd.

``python -m bench.listing [JOBS]``; 10,000 by default.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from bench import slurm
from bench.load import Address, Load, Report
from hpcq.schedulers.testing.service import Service

QUIET = {"LOG_LEVEL": "WARNING", "POLL_INTERVAL_SECONDS": "5", "LISTING_LIMIT_BYTES": "1G"}


def measure(jobs: int) -> None:
    environment = slurm.settings()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(slurm.held_jobs(environment, jobs, directory))
        with slurm.slurmrestd(environment, directory) as address:
            theirs = Load(address, "/slurm/v0.0.38/jobs", seconds=20).run()
            show("slurmrestd, 1 client", theirs)
        with Service(directory, {**environment, **QUIET}) as service:
            wait_for(service, jobs)
            ours(service, theirs)


def ours(service: Service, theirs: Report) -> None:
    address = Address(port=service.port)
    packed = {"Accept-Encoding": "gzip"}
    for clients in (1, 8):
        compare(f"gzip, {clients} client(s)", Load(address, "/jobs", packed, clients), theirs)
        compare(f"plain, {clients} client(s)", Load(address, "/jobs", {}, clients), theirs)
    known = {"If-None-Match": httpx.get(f"{service.url}/jobs").headers["ETag"]}
    compare("unchanged, 8 client(s)", Load(address, "/jobs", known, 8), theirs)
    report = Load(address, f"/jobs/{first_id(service)}", {}, 8).run()
    show("this service, one job, 8 clients", report)
    print(f"resident memory of the service: {resident_mib(service.pid)} MiB")


def compare(title: str, load: Load, theirs: Report) -> None:
    ours = load.run()
    show(f"this service, {title}", ours, f"{ours.per_second / theirs.per_second:8.0f} x")


def wait_for(service: Service, jobs: int) -> None:
    while len(httpx.get(f"{service.url}/jobs", timeout=60).json()) < jobs:
        time.sleep(0.5)


def first_id(service: Service) -> str:
    return str(httpx.get(f"{service.url}/jobs", timeout=60).json()[0]["jobId"])


def resident_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


def show(title: str, report: Report, more: str = "") -> None:
    print(f"{title:40} {report} {more}", flush=True)


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
