"""Two hundred values of each header: one answer each, no line of a log forged, nobody let in."""

import json
import random
import re
from collections.abc import Iterator
from itertools import cycle, islice

import pytest
from tests.api.test_connections import exchange

from hpcq.schedulers.testing.contract.hostile import UNSENDABLE, values
from hpcq.schedulers.testing.service import Service

HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Authorization",
    "Content-Length",
    "Content-Type",
    "Cookie",
    "Expect",
    "Forwarded",
    "Host",
    "Idempotency-Key",
    "If-None-Match",
    "Origin",
    "Range",
    "Sec-Fetch-Site",
    "Traceparent",
    "Transfer-Encoding",
    "Upgrade",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Request-ID",
)
MANY = 200
OWN = [
    b"",
    b",",
    b"*",
    b'W/"',
    b"Bearer",
    b"Bearer hpcq_" + b"x" * 43,
    b"Basic cm9vdDpyb290",
    b"chunked, chunked",
    b"gzip;q=1e400, *;q=-1",
    b"-1",
    b"9" * 400,
    b"0x10",
    b"1, 2",
    b"localhost@evil.example",
    b"localhost.",
    b"[::1]:99999",
    b"[::1",
    b"127.0.0.1:5049#",
    b"null",
    b"bytes=0-0,-1" + b",0-0" * 300,
    b"for=127.0.0.1;proto=https;by=\x80",
    b"100-continue, 100-continue",
    b"application/json; charset=utf-7",
    b"x\tx",
    b"\x80\xfe\xff",
    b"x\r y: 1",
    b"x\n\tfolded",
    b"x\r\n folded",
    b"x\0y",
]
BODY = b'{"workingDirectory":"/tmp","reservedSlots":1,"scriptFile":"/nonexistent"}'


def hostile() -> Iterator[bytes]:
    """Yield what no line ends in, and then that with random bytes in it, for ever."""
    known = [*OWN, *(text.encode() for text in values("/tmp/canary"))]
    known += [text.encode("utf-8", "surrogatepass") for text in UNSENDABLE]
    yield from known
    chance = random.Random("headers")  # noqa: S311 - the same in each run
    for value in cycle(known):
        place = chance.randrange(len(value) + 1)
        yield value[:place] + chance.randbytes(4) + value[place:]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"SCHEDULER": "LOCAL", "LOG_FORMAT": "json", "REQUEST_BODY_SECONDS": "1"}
    with Service(tmp_path_factory.mktemp("service"), settings) as service:
        yield service
        assert service.client.get("/jobs").json() == []
        service.stop()
        for path in (service.log, service.state_directory / "audit.jsonl"):
            lines = path.read_bytes().splitlines()
            assert all(isinstance(json.loads(line), dict) for line in lines)
            assert not re.search(rb"[\0-\x09\x0b-\x1f\x7f]", path.read_bytes())


def answers(service: Service, request: bytes, header: str, value: bytes) -> list[int]:
    """Return the status of each answer to a request with one more header."""
    line = b"%s: %s\r\n" % (header.encode(), value)
    head = b"" if header == "Host" else b"Host: localhost\r\n"
    length = b"" if header == "Content-Length" else b"Content-Length: %d\r\n" % len(BODY)
    kind = b"" if header == "Content-Type" else b"Content-Type: application/json\r\n"
    content = length + kind if request.startswith(b"POST") else b""
    body = BODY if content else b""
    closing = b"Connection: close\r\n\r\n"
    received = exchange(service, request + head + content + line + closing + body)
    statuses = re.findall(rb"^HTTP/1.1 (\d+) ", received, re.M)
    return [int(status) for status in statuses]


@pytest.mark.parametrize("header", HEADERS)
def test_header_hostile_values(service: Service, header: str) -> None:
    is_closed = header in ("Authorization", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host")
    for value in islice(hostile(), MANY):
        read = answers(service, b"GET /jobs HTTP/1.1\r\n", header, value)
        case = (header, value, read)
        assert read, case
        assert all(status < 500 or status == 503 for status in read), case
        if is_closed:
            assert not any(200 <= status < 400 for status in read), case
        sent = answers(service, b"POST /jobs HTTP/1.1\r\n", header, value)
        assert sent, (header, value)
        assert all(status < 200 or 400 <= status < 500 for status in sent), (header, value, sent)
    assert service.client.get("/health/live").status_code == 200
