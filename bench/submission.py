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
from collections.abc import Callable
from pathlib import Path

from tests.service import Service

from bench import slurm

ROUNDS = 5


def measure(jobs: int) -> None:
    environment = slurm.settings()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        script = directory / "true.sh"
        script.write_text("#!/bin/sh\ntrue\n")
        quiet = {"LOG_LEVEL": "WARNING", "POLL_INTERVAL_SECONDS": "5"}
        with Service(directory, {**environment, **quiet}) as service:
            client = http.client.HTTPConnection("127.0.0.1", service.port)
            job = {
                "workingDirectory": folder,
                "scriptFile": str(script),
                "reservedSlots": 1,
                "hold": True,
                "name": "bench-submission",
            }

            def post() -> None:
                client.request(
                    "POST", "/jobs", json.dumps(job), {"Content-Type": "application/json"}
                )
                answer = client.getresponse()
                assert answer.status == 201, answer.read()
                answer.read()

            def posts() -> None:
                for _ in range(jobs):
                    post()

            def sbatch() -> None:
                argv = f"for i in $(seq {jobs}); do sbatch -H -J bench-submission -D {folder}"
                slurm.command(environment, "sh", "-c", f"{argv} {script} >/dev/null; done")

            try:
                report(jobs, posts, sbatch)
            finally:
                slurm.command(environment, "scancel", "--name", "bench-submission")


def report(jobs: int, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    timed(ours)
    pairs = [(timed(theirs), timed(ours)) for _ in range(ROUNDS)]
    for title, index in (("sbatch in a loop", 0), ("POST /jobs, one client", 1)):
        figures = [pair[index] / jobs * 1000 for pair in pairs]
        print(f"{title:24} {statistics.median(figures):6.2f} ms each (median of {ROUNDS} rounds)")
    ratios = [mine / bare for bare, mine in pairs]
    print(
        f"ratio                    {statistics.median(ratios):6.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
