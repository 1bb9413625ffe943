"""Connections that send too much, too slowly or nothing, and that do not read."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

BOUNDS = {
    "SCHEDULER": "LOCAL",
    "MAX_URL_BYTES": "2K",
    "MAX_HEADERS_BYTES": "8K",
    "MAX_HEADERS": "20",
}
HASTE = {
    "SCHEDULER": "LOCAL",
    "REQUEST_HEAD_SECONDS": "1",
    "REQUEST_BODY_SECONDS": "1",
    "KEEP_ALIVE_SECONDS": "1",
    "ANSWER_SECONDS": "1",
}
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with small bounds of requests."""
    with Service(tmp_path_factory.mktemp("bounded"), BOUNDS) as service:
        yield service


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose clients have to be quick."""
    with Service(tmp_path_factory.mktemp("hasty"), HASTE) as service:
        yield service


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS)


def read_all(connection: socket.socket) -> bytes:
    """Return all that comes until the service closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def read_answer(connection: socket.socket) -> bytes:
    """Return one answer with a short body, and leave the connection open."""
    received = b""
    while b"\r\n\r\n" not in received or not received.rstrip().endswith(b"}"):
        chunk = connection.recv(65536)
        assert chunk, received
        received += chunk
    return received


def exchange(service: Service, *sent: bytes) -> bytes:
    with connect(service) as connection:
        for piece in sent:
            try:
                connection.sendall(piece)
            except ConnectionError:
                break
        return read_all(connection)


def metrics(service: Service) -> dict[str, float]:
    """Return the metrics without labels, asked for over a connection of their own."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    pairs = (line.split(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs if "{" not in name}


def problem(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head.lower()
    told: dict[str, Any] = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % told["status"])
    return told


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\n\r\n", 414, "url_too_long"),
        (b"GET /?" + b"a=b&" * 1000 + b" HTTP/1.1\r\n\r\n", 414, "url_too_long"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 9000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"x" * 40_000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 30 + b"\r\n", 431, "headers_too_large"),
        (b"\r\n" * 30_000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 400, "invalid_content"),
        (b"\x16\x03\x01\x02\x00\x01", 400, "invalid_content"),
        (b"x" * 100, 400, "invalid_content"),
    ],
    ids=["url", "query", "value", "name", "many", "blank", "nul", "tls", "noise"],
)
def test_head_beyond_limit(bounded: Service, sent: bytes, status: int, code: str) -> None:
    told = problem(exchange(bounded, sent))
    assert (told["status"], told["code"]) == (status, code)
    assert bounded.client.get("/health/live").status_code == 200


def test_head_endless(bounded: Service) -> None:
    before = resident_bytes(bounded.pid)
    answer = exchange(bounded, b"GET / HTTP/1.1\r\nA: ", *[b"x" * 2**20] * 60)
    assert answer == b"" or problem(answer)["status"] == 431
    assert resident_bytes(bounded.pid) - before < 16 * 2**20


def resident_bytes(pid: int) -> int:
    """Return the most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_trailer_endless(bounded: Service) -> None:
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: "
    before = resident_bytes(bounded.pid)
    answer = exchange(bounded, chunked, *[b"x" * 2**20] * 30)
    assert answer == b"" or problem(answer)["status"] == 431
    assert resident_bytes(bounded.pid) - before < 16 * 2**20


def test_trailer_not_a_header(bounded: Service) -> None:
    chunked = b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n"
    sent = POST + chunked + b"X-Request-ID: from-the-trailer\r\n\r\n"
    assert b"from-the-trailer" not in exchange(bounded, sent)
    own = POST + b"X-Request-ID: from-the-head\r\n" + chunked + b"\r\n"
    assert b"from-the-head" in exchange(bounded, own)


def test_body_in_small_chunks(bounded: Service) -> None:
    body = json.dumps({"name": "x" * 20_000}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    answer = exchange(bounded, head + chunks)
    assert b'"field": "workingDirectory"' in answer


def test_pipelined_requests_few(bounded: Service) -> None:
    last = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answers = exchange(bounded, LIVE * 4 + last)
    assert answers.count(b"HTTP/1.1 200") == 5
    assert answers.endswith(b"[]")


def test_refused_connections_memory(bounded: Service) -> None:
    before = resident_bytes(bounded.pid)
    for _ in range(300):
        exchange(bounded, b"GET /" + b"x" * 200_000)
    assert resident_bytes(bounded.pid) - before < 32 * 2**20


def test_pipelined_requests_flood(bounded: Service) -> None:
    before = resident_bytes(bounded.pid)
    answers = exchange(bounded, *[LIVE * 10_000] * 20)
    assert 1 <= answers.count(b"HTTP/1.1 200") < 10_000
    assert resident_bytes(bounded.pid) - before < 32 * 2**20


@pytest.mark.parametrize(
    ("sent", "part"),
    [
        (b"GET /jobs HTTP/1.1\r\nHo", "head"),
        (LIVE + b"GET", "head"),
        (POST + b"Content-Length: 100\r\n\r\n{", "body"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", "body"),
    ],
    ids=["head", "second head", "body", "chunk"],
)
def test_request_incomplete_timeout(hasty: Service, sent: bytes, part: str) -> None:
    answer = exchange(hasty, sent)
    told = problem(answer[answer.rindex(b"HTTP/1.1 ") :])
    assert (told["status"], told["code"]) == (408, "request_timeout")
    assert f"The {part} of" in told["detail"]


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", LIVE], ids=["nothing", "blank", "between"])
def test_idle_connection_closed(hasty: Service, sent: bytes) -> None:
    answer = exchange(hasty, sent)
    assert answer.count(b"HTTP/1.1") == sent.count(b"GET")


def test_blank_lines_idle_timeout(hasty: Service) -> None:
    with connect(hasty) as connection:
        connection.sendall(LIVE)
        read_answer(connection)

        def closed() -> bool:
            try:
                connection.sendall(b"\r\n")
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        connection.settimeout(0.1)
        assert until(closed)


def test_connections_full_oldest_waiting_closed(tmp_path: Path) -> None:
    settings = {"SCHEDULER": "LOCAL", "MAX_CONNECTIONS": "12", "REQUEST_HEAD_SECONDS": "600"}
    with Service(tmp_path, settings) as service, contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connect(service)) for _ in range(30)]
        for connection in opened[-10:]:
            connection.sendall(LIVE[:10])
        # Not over the client's own connection: it has waited longest, and makes place first.
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        assert read_all(opened[0]) == b""
        opened[-1].sendall(LIVE[10:])
        assert b"200 OK" in read_answer(opened[-1])
        found = metrics(service)
        assert found["hpcq_connections_limit"] == found["hpcq_connections_open"] == 12
        assert found["hpcq_connections_total"] >= 30
        assert found["hpcq_connections_displaced_total"] >= 30 - 12
        assert found["hpcq_log_lines_dropped_total"] == 0


def test_connections_full_refusal(tmp_path: Path) -> None:
    settings = {"SCHEDULER": "LOCAL", "MAX_CONNECTIONS": "10", "REQUEST_BODY_SECONDS": "600"}
    with Service(tmp_path, settings) as service, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connect(service)) for _ in range(10)]
        for connection in busy:
            connection.sendall(POST + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n")
            assert b"100 Continue" in connection.recv(100)
        told = problem(exchange(service, b""))
        assert (told["status"], told["code"], told["retryAfter"]) == (503, "overloaded", 5)
        for connection in busy:
            connection.close()
        until(lambda: b"200 OK" in exchange(service, LIVE[:-2] + b"Connection: close\r\n\r\n"))
        assert metrics(service)["hpcq_connections_refused_total"] >= 1


def test_reader_stalled_cut_off(hasty: Service, tmp_path: Path) -> None:
    script = tmp_path / "s.sh"
    script.write_text("#!/bin/sh\n")
    job = {"workingDirectory": str(tmp_path), "scriptFile": str(script), "reservedSlots": 1}
    for _ in range(80):
        body = {**job, "hold": True, "args": ["x" * 130_000]}
        assert hasty.client.post("/jobs", json=body).status_code == 201
    descriptors = Path(f"/proc/{hasty.pid}/fd")

    def connections() -> int:
        links = (os.readlink(link) for link in descriptors.iterdir() if link.is_symlink())
        return sum(link.startswith("socket:") for link in links)

    with contextlib.ExitStack() as stack:
        before = connections()
        for _ in range(5):
            reader = stack.enter_context(connect(hasty))
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.sendall(LIVE.replace(b"/health/live", b"/jobs"))
            assert reader.recv(5) == b"HTTP/"
        until(lambda: connections() <= before)
    assert len(hasty.client.get("/jobs").json()) == 80
