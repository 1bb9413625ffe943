"""The cost of 200 readers of events beside 50 followers of output, and how late events are.

``python -m bench.event_readers``
"""

import http.client
import json
import statistics
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

from bench.followers import follow, read_times, report
from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service

READERS = 200
FOLLOWERS = 50
FILES = 10
JOBS = 100
POLL_SECONDS = 0.5


def read_events(service: Service, arrivals: list[tuple[str, float]]) -> None:
    """Read the events of all jobs, and note when each end of a job arrived."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    while line := answer.readline():
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if event.get("state") == "DONE":
                arrivals.append((event["jobId"], time.time()))


def main(directory: Path) -> None:
    """Measure the times of others without and with readers, then how late ends are told."""
    settings = {
        "SCHEDULER": "LOCAL",
        "LOG_LEVEL": "WARNING",
        "INTERNAL_SCHEDULER_MAX_SLOTS": "50",
        "POLL_INTERVAL_SECONDS": str(POLL_SECONDS),
    }
    with Service(directory / "service", settings) as service:
        jobs = Jobs(service)
        study = Study(directory / "study")
        script = study.script("while [ ! -e go ]; do date; sleep 0.1; done\n")
        ids = [jobs.submit(study.job(script)) for _ in range(FILES)]
        for job_id in ids:
            jobs.running(job_id)
        report("no reader", service, read_times(service, ids[0]))
        arrivals: list[list[tuple[str, float]]] = [[] for _ in range(READERS)]
        received = [0] * FOLLOWERS
        threads = [
            threading.Thread(target=read_events, args=(service, arrivals[n]), daemon=True)
            for n in range(READERS)
        ] + [
            threading.Thread(target=follow, args=(service, ids[n % FILES], received, n))
            for n in range(FOLLOWERS)
        ]
        for thread in threads:
            thread.start()
        while not all(received):
            time.sleep(0.05)
        report(f"{READERS} + {FOLLOWERS}", service, read_times(service, ids[0]))
        short = study.script("exit 0\n", "short.sh")
        done = [jobs.submit(study.job(short)) for _ in range(JOBS)]
        while not all(len(one) >= JOBS for one in arrivals):
            time.sleep(0.05)
        ended = {
            job_id: datetime.fromisoformat(jobs.read(job_id)["endTime"]).timestamp()
            for job_id in done
        }
        late = sorted(at - ended[job_id] for one in arrivals for job_id, at in one)
        print(
            f"end of a job to its readers: median {statistics.median(late) * 1000:.0f} ms, "
            f"p99 {late[int(len(late) * 0.99)] * 1000:.0f} ms, {len(late)} events"
        )
        report("after them", service, read_times(service, ids[0]))
        (study.directory / "go").touch()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
