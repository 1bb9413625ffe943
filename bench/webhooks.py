"""How soon webhooks are told of jobs under load, and what that costs, beside receivers that fail.

``python -m bench.webhooks``
"""

import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx

from bench.followers import resident_megabytes
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service

STEADY_JOBS = 120
PER_SECOND = 4
BURST_JOBS = 400
CLIENTS = 4
GOOD = 3
ROUNDS = 2
PAUSE_SECONDS = 0.01


def receive(port: int, status: int, notes: Path, is_ready: Event) -> None:
    """Answer every message with a status; note when it came and what it tells."""
    file = notes.open("a", buffering=1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            at = time.time()
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = datetime.fromisoformat(message["timestamp"]).timestamp()
            data = message["data"]
            file.write(f"{data['uid']} {data.get('state')} {at - told}\n")
            self.send_response_only(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 100

    with Server(("127.0.0.1", port), Handler) as server:
        is_ready.set()
        server.serve_forever()


@contextmanager
def receivers(directory: Path) -> Iterator[tuple[Sequence[str], Sequence[Path]]]:
    """Run the receivers, each in a process: good ones, one that answers 500, one that hangs.

    Yields:
        Their URLs, and the notes of the good ones.
    """
    context = multiprocessing.get_context("spawn")
    urls, notes, processes = [], [], []
    for number in range(GOOD + 1):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        path, is_ready = directory / f"notes-{number}", context.Event()
        status = 204 if number < GOOD else 500
        process = context.Process(target=receive, args=(port, status, path, is_ready), daemon=True)
        process.start()
        is_ready.wait()
        processes.append(process)
        urls.append(f"http://127.0.0.1:{port}/")
        notes.append(path)
    try:
        with socket.create_server(("127.0.0.1", 0), backlog=1000) as silent:
            urls.append(f"http://127.0.0.1:{silent.getsockname()[1]}/")
            yield urls, notes[:GOOD]
    finally:
        for process in processes:
            process.terminate()
            process.join()


def submit_steadily(service: Service, study: Study, script: Path) -> None:
    """Submit jobs at a rate that is high for a cluster."""
    began = time.perf_counter()
    for number in range(STEADY_JOBS):
        time.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
        service.client.post("/jobs", json=study.job(script)).raise_for_status()


def submit_at_once(service: Service, study: Study, script: Path) -> None:
    """Submit jobs from several clients, as fast as they are taken."""

    def some(_client: int) -> None:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            for _ in range(BURST_JOBS // CLIENTS):
                client.post("/jobs", json=study.job(script)).raise_for_status()

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(some, range(CLIENTS)))


def list_jobs(service: Service, times: list[float], is_over: threading.Event) -> None:
    """Ask for a page of the listing again and again; note the milliseconds of each answer."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        while not is_over.is_set():
            began = time.perf_counter()
            client.get("/jobs?limit=100").raise_for_status()
            times.append((time.perf_counter() - began) * 1000)
            time.sleep(PAUSE_SECONDS)


def done(service: Service) -> int:
    """Return how many jobs are done."""
    return int(service.client.get("/jobs/summary").json()["byState"].get("DONE", 0))


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def count(path: Path) -> int:
    """Return how many messages came."""
    return len(path.read_text().splitlines())


def ends(path: Path) -> dict[str, float]:
    """Return how late each job's end came, in seconds, by uid."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {uid: float(late) for uid, state, late in lines if state == "DONE"}


def wait_for(service: Service, jobs: int, notes: Sequence[Path]) -> None:
    """Wait until so many jobs are done, and the good receivers know."""
    while done(service) < jobs or any(len(ends(path)) < jobs for path in notes):
        time.sleep(0.05)


def run(directory: Path, urls: Sequence[str], notes: Sequence[Path]) -> list[float]:
    """Have a service run jobs and tell these URLs; return the times of its listing meanwhile."""
    settings = {
        "SCHEDULER": "LOCAL",
        "LOG_LEVEL": "ERROR",
        "WEBHOOK_NETWORKS": "127.0.0.0/8",
        "POLL_INTERVAL_SECONDS": "0.5",
    }
    with Service(directory / "service", settings) as service:
        for url in urls:
            service.client.post("/webhooks", json={"url": url}).raise_for_status()
        study = Study(directory / "study")
        script = study.script("exit 0\n")
        times: list[float] = []
        is_over = threading.Event()
        listing = threading.Thread(target=list_jobs, args=(service, times, is_over))
        used = cpu_seconds(service.pid)
        listing.start()
        submit_steadily(service, study, script)
        wait_for(service, STEADY_JOBS, notes)
        is_over.set()
        listing.join()
        print(
            f"{len(urls)} webhooks, {STEADY_JOBS} jobs, {PER_SECOND} a second: "
            f"{cpu_seconds(service.pid) - used:.1f} s of CPU time, "
            f"{resident_megabytes(service.pid):.0f} MB"
        )
        report_delays(notes)
        began, used = time.perf_counter(), cpu_seconds(service.pid)
        told = sum(count(path) for path in notes)
        submit_at_once(service, study, script)
        wait_for(service, STEADY_JOBS + BURST_JOBS, ())
        worked = time.perf_counter() - began
        wait_for(service, STEADY_JOBS + BURST_JOBS, notes)
        seconds = time.perf_counter() - began
        told = sum(count(path) for path in notes) - told
        print(
            f"{len(urls)} webhooks, {BURST_JOBS} jobs at once: done after {worked:.1f} s, all told "
            f"after {seconds:.1f} s, {told / seconds:.0f} messages a second, "
            f"{cpu_seconds(service.pid) - used:.1f} s of CPU time, "
            f"{resident_megabytes(service.pid):.0f} MB"
        )
    return times


def report_delays(notes: Sequence[Path]) -> None:
    """Print how late the ends of jobs came to the good receivers."""
    late = sorted(delay for path in notes for delay in ends(path).values())
    if late:
        print(
            f"  end of a job to a good receiver: median {statistics.median(late) * 1000:.0f} ms, "
            f"p99 {late[int(len(late) * 0.99)] * 1000:.0f} ms, {len(late)} messages"
        )


def report(what: str, times: Sequence[float]) -> None:
    """Print the times of the listing."""
    print(
        f"GET /jobs?limit=100, {what}: median {statistics.median(times):.1f} ms, "
        f"p99 {times[int(len(times) * 0.99)]:.1f} ms, {len(times)} requests"
    )


def main(directory: Path) -> None:
    """Measure without and with webhooks, in turn."""
    without: list[float] = []
    told: list[float] = []
    for number in range(ROUNDS):
        without += run(directory / f"without-{number}", (), ())
        folder = directory / f"with-{number}"
        folder.mkdir()
        with receivers(folder) as (urls, notes):
            told += run(folder, urls, notes)
    report("no webhook", sorted(without))
    report(f"{GOOD} good webhooks, 1 that answers 500, 1 that hangs", sorted(told))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
