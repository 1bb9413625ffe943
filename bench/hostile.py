"""Other callers' time, and memory, while clients misbehave.

``python -m bench.hostile``: thousands of idle and slow connections, slow readers of the largest
listing, and ten floods at once, each for some seconds.
"""

import asyncio
import contextlib
import http.client
import itertools
import json
import multiprocessing
import resource
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hpcq.schedulers.testing.service import Service

SECONDS = 12.0
IDLE, SLOW, READERS = 2000, 1000, 15
JOBS, ARGUMENT_BYTES = 300, 130_000
QUIET = {"SCHEDULER": "LOCAL", "LOG_LEVEL": "WARNING", "POLL_INTERVAL_SECONDS": "1"}
POST = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(body: bytes) -> bytes:
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


ONES = post(b'{"args":[' + b",".join([b"1"] * 520_000) + b"]}")
UNKNOWN = post(b"{" + b",".join(b'"k%d":1' % n for n in range(90_000)) + b"}")
WRONG = post(b'{"environment":{' + b",".join(b'"k%d":1' % n for n in range(9_000)) + b"}}")
DEPENDS = post(b'{"dependsOn":[' + b",".join([b'"1"'] * 9_000) + b"]}")
NESTED = post(b"[" * 500_000)
BLANKS = post(b'{"workingDirectory":"/tmp","reservedSlots":1,"scriptFile":"%s"}' % (b"/ a" * 1360))
# What each client of a flood sends again and again, on a new connection when its own is closed.
FLOODS = {
    "half a million values": ONES,
    "90,000 unknown fields": UNKNOWN,
    "9,000 wrong variables": WRONG,
    "9,000 dependencies": DEPENDS,
    "deep nesting": NESTED,
    "blanks in a path": BLANKS,
    "endless header": b"GET / HTTP/1.1\r\nA: " + b"x" * 2**20,
    "endless trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"x" * 2**20,
    "pipelined requests": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10_000,
    "long URL": b"GET /" + b"x" * 2**20,
}


async def flood(port: int, request: bytes) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                while True:
                    writer.write(request)
                    await writer.drain()
                    if not await reader.read(65536):
                        break
        await asyncio.sleep(0.001)


async def idle(port: int, number: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                await reader.read()
        await asyncio.sleep(number % 100 / 100)


async def slow(port: int, number: int) -> None:
    begin = GET[:10] if number % 2 else post(b"{" + b" " * 1000)[:200]
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                writer.write(begin)
                while not reader.at_eof():
                    await asyncio.sleep(1)
                    writer.write(b"x")
                    await writer.drain()
        await asyncio.sleep(number % 100 / 100)


async def read_slowly(port: int, number: int) -> None:
    # Each begins at another moment, so that each has a version of the listing of its own.
    await asyncio.sleep(number / 2)
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
            with contextlib.closing(writer):
                writer.write(GET)
                while not reader.at_eof():
                    await reader.read(65536)
                    await asyncio.sleep(0.5)
        await asyncio.sleep(0.5)


def run_clients(act: Callable[[int, Any], Awaitable[None]], port: int, what: list[Any]) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def all_of_them() -> None:
        await asyncio.gather(*(act(port, one) for one in what))

    asyncio.run(all_of_them())


def misbehave(
    service: Service, title: str, job: dict[str, object], *acts: tuple[Any, list[Any]]
) -> None:
    """Measure the others' calls while these clients act."""
    clients = [
        multiprocessing.Process(target=run_clients, args=(act, service.port, what), daemon=True)
        for act, what in acts
    ]
    for client in clients:
        client.start()
    time.sleep(2.0 if clients else 0.0)
    milliseconds = call(service, job)
    for client in clients:
        client.kill()
        client.join()
    for name, times in milliseconds.items():
        times.sort()
        print(
            f"{title}; {name}: median {statistics.median(times):.1f} ms, "
            f"99 % within {times[int(len(times) * 0.99)]:.0f} ms, at most {times[-1]:.0f} ms, "
            f"{len(times)} times",
            flush=True,
        )
    print(f"{title}: at most {memory(service.pid)} MB of memory", flush=True)


def call(service: Service, job: dict[str, object]) -> dict[str, list[float]]:
    """Call the service as an ordinary client does, each call on a thread of its own."""
    ends = time.monotonic() + SECONDS
    body = json.dumps(job)
    calls = {
        "GET /health/live": ("GET", "/health/live", None),
        "GET /jobs/1": ("GET", "/jobs/1", None),
        "POST /jobs": ("POST", "/jobs", body),
    }
    milliseconds: dict[str, list[float]] = {name: [] for name in calls}

    def again(name: str, method: str, path: str, content: str | None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        headers = {"Content-Type": "application/json"} if content else {}
        while time.monotonic() < ends:
            began = time.perf_counter()
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status in (200, 201), answer.status
            milliseconds[name].append((time.perf_counter() - began) * 1000)
            time.sleep(0.02)

    threads = [threading.Thread(target=again, args=(n, *how)) for n, how in calls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return milliseconds


def memory(pid: int) -> int:
    """Return the most memory that the process has had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 // 10**6


def measure(folder: Path) -> None:
    script = folder / "s.sh"
    script.write_text("#!/bin/sh\n:\n")
    job: dict[str, object] = {
        "workingDirectory": str(folder),
        "scriptFile": str(script),
        "reservedSlots": 1,
        "hold": True,
    }
    with Service(folder / "service", QUIET) as service:
        service.client.post("/jobs", json=job).raise_for_status()
        misbehave(service, "nobody else", job)
        numbers = (list(range(IDLE)), list(range(SLOW)))
        many = f"{IDLE} idle and {SLOW} slow connections"
        misbehave(service, many, job, (idle, numbers[0]), (slow, numbers[1]))
        requests = list(itertools.islice(itertools.cycle(FLOODS.values()), len(FLOODS)))
        misbehave(service, "ten floods", job, (flood, requests))
    with Service(folder / "large", QUIET) as service:
        for _ in range(JOBS):
            large = {**job, "args": ["x" * ARGUMENT_BYTES]}
            service.client.post("/jobs", json=large).raise_for_status()
        print(f"the largest listing: {len(service.client.get('/jobs').content) / 1e6:.0f} MB")
        print(f"after it: at most {memory(service.pid)} MB of memory")
        readers = (read_slowly, list(range(READERS)))
        misbehave(service, f"{READERS} slow readers", job, readers)
        misbehave(
            service,
            "all at once",
            job,
            (idle, numbers[0]),
            (slow, numbers[1]),
            (flood, list(FLOODS.values())),
            readers,
        )


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name))
