"""``POST /jobs`` against a loop of bare ``sbatch``, on a real Slurm, in turns.

``python -m bench.submission [JOBS]``; 100 of each by default.
"""

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench import slurm
from hpcq.schedulers.testing.service import Service

ROUNDS = 5
NAME = "bench-submission"
HEADERS = {"Content-Type": "application/json"}


def measure(jobs: int) -> None:
    environment = slurm.settings()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        script = directory / "true.sh"
        script.write_text("#!/bin/sh\ntrue\n")
        settings = {**environment, "LOG_LEVEL": "WARNING", "POLL_INTERVAL_SECONDS": "5"}
        try:
            with Service(directory, settings) as service:
                compare(
                    jobs,
                    {
                        "sbatch in a loop": partial(sbatch, environment, script, jobs),
                        "POST /jobs, 1 client": partial(posts, service, script, jobs, 1),
                        "POST /jobs, 4 clients": partial(posts, service, script, jobs, 4),
                    },
                )
        finally:
            slurm.command(environment, "scancel", "--name", NAME)


def sbatch(environment: Mapping[str, str], script: Path, jobs: int) -> None:
    submit = f"sbatch --hold -J {NAME} -D {script.parent} {script}"
    slurm.command(environment, "sh", "-c", f"for i in $(seq {jobs}); do {submit} >/dev/null; done")


def posts(service: Service, script: Path, jobs: int, clients: int) -> None:
    job = {
        "workingDirectory": str(script.parent),
        "scriptFile": str(script),
        "reservedSlots": 1,
        "hold": True,
        "name": NAME,
    }
    with ThreadPoolExecutor(clients) as threads:
        shares = [threads.submit(post, service.port, job, jobs // clients) for _ in range(clients)]
        for share in shares:
            share.result()


def post(port: int, job: Mapping[str, object], times: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(times):
        client.request("POST", "/jobs", json.dumps(job), HEADERS)
        answer = client.getresponse()
        body = answer.read()
        assert answer.status == 201, body
    client.close()


def compare(jobs: int, ways: Mapping[str, Callable[[], None]]) -> None:
    """Time each way in turn, several rounds; the first is what the others are compared with."""
    for work in ways.values():
        work()
    rounds = [[timed(work) / jobs * 1000 for work in ways.values()] for _ in range(ROUNDS)]
    for index, title in enumerate(ways):
        each = statistics.median(one[index] for one in rounds)
        ratios = sorted(one[index] / one[0] for one in rounds)
        print(
            f"{title:22} {each:6.2f} ms each, {statistics.median(ratios):5.2f} x "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}); medians of {ROUNDS} rounds of {jobs}"
        )


def timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
