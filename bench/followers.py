"""The cost of fifty followers of output: memory, and the time of ``GET /jobs/{id}`` meanwhile.

``python -m bench.followers``
"""

import http.client
import re
import statistics
import tempfile
import threading
import time
from pathlib import Path

from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service

FOLLOWERS = 50
FILES = 10
SECONDS = 6.0


def resident_megabytes(pid: int) -> float:
    """Return the memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def read_times(service: Service, job_id: str) -> list[float]:
    """Return how long each of many requests for a job took, in milliseconds, sorted."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    times = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        connection.request("GET", f"/jobs/{job_id}")
        connection.getresponse().read()
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(0.002)
    connection.close()
    return sorted(times)


def follow(service: Service, job_id: str, received: list[int], number: int) -> None:
    """Read the events of a job's output, and count their bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    connection.request("GET", f"/jobs/{job_id}/output?follow=true")
    answer = connection.getresponse()
    while data := answer.read1(65536):
        received[number] += len(data)


def report(what: str, service: Service, times: list[float]) -> None:
    """Print one line."""
    p99 = times[int(len(times) * 0.99)]
    print(
        f"{what:14} median {statistics.median(times):6.2f} ms, p99 {p99:6.2f} ms, "
        f"{len(times)} requests, {resident_megabytes(service.pid):.0f} MB"
    )


def main(directory: Path) -> None:
    """Measure without and with followers of jobs that print a line ten times a second."""
    quiet = {"SCHEDULER": "LOCAL", "LOG_LEVEL": "WARNING", "INTERNAL_SCHEDULER_MAX_SLOTS": "50"}
    with Service(directory / "service", quiet) as service:
        jobs = Jobs(service)
        study = Study(directory / "study")
        script = study.script("while [ ! -e go ]; do date; sleep 0.1; done\n")
        ids = [jobs.submit(study.job(script)) for _ in range(FILES)]
        for job_id in ids:
            jobs.running(job_id)
        report("no follower", service, read_times(service, ids[0]))
        received = [0] * FOLLOWERS
        threads = [
            threading.Thread(target=follow, args=(service, ids[n % FILES], received, n))
            for n in range(FOLLOWERS)
        ]
        for thread in threads:
            thread.start()
        while not all(received):
            time.sleep(0.05)
        report(f"{FOLLOWERS} followers", service, read_times(service, ids[0]))
        (study.directory / "go").touch()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
