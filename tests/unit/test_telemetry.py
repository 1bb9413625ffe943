import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from hpcq.telemetry import RequestLog, configure_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_format_own_and_library_lines(stream: io.StringIO) -> None:
    configure_logging("json", "INFO", stream)

    structlog.get_logger("hpcq.monitor").warning("scheduler.unanswered", jobs=3)
    logging.getLogger("uvicorn.error").info("Uvicorn running on %s", "http://h:1")

    ours, theirs = lines(stream)
    assert (ours["logger"], ours["level"], ours["event"], ours["jobs"]) == (
        "hpcq.monitor",
        "warning",
        "scheduler.unanswered",
        3,
    )
    assert theirs["event"] == "Uvicorn running on http://h:1"
    assert set(theirs) == set(ours) - {"jobs"}
    assert ours["timestamp"].endswith("Z")


def test_console_format_message(stream: io.StringIO) -> None:
    configure_logging("console", "INFO", stream)

    logging.getLogger("uvicorn.error").info(
        "Uvicorn running on %s://%s:%d (Press CTRL+C to quit)", "http", "127.0.0.1", 5049
    )

    assert "Uvicorn running on http://127.0.0.1:5049 (Press CTRL+C to quit)" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_log_level_filter(stream: io.StringIO) -> None:
    configure_logging("json", "WARNING", stream)

    structlog.get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    structlog.get_logger().error("loud")

    assert [line["event"] for line in lines(stream)] == ["loud"]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_exception_traceback(log_format: Any, stream: io.StringIO) -> None:
    configure_logging(log_format, "INFO", stream)

    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("library").exception("failed too")

    assert stream.getvalue().count("ValueError: why") == 2
    if log_format == "json":
        assert len(lines(stream)) == 2


def test_json_format_one_line(stream: io.StringIO) -> None:
    configure_logging("json", "INFO", stream)

    structlog.get_logger().info("job", name="a\nb\udcff", where=object())

    assert lines(stream)[0]["name"] == "a\nb\udcff"


@pytest.mark.parametrize("name", ["password", "authorization", "api_token", "environment"])
def test_secret_values_hidden(name: str, stream: io.StringIO) -> None:
    configure_logging("json", "INFO", stream)

    structlog.get_logger().info("job", **{name: "s3cret"})

    assert "s3cret" not in stream.getvalue()


async def answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/broken":
        raise RuntimeError("broken")
    structlog.get_logger("hpcq.inner").info("inside")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b""})


def request(path: str, **headers: str) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"owner=ana",
        "client": ("192.0.2.7", 36872),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
    }
    asyncio.run(RequestLog(answer, lambda *_: None)(scope, receive, send))
    return sent


def test_request_log_id_without_query(stream: io.StringIO) -> None:
    configure_logging("json", "INFO", stream)

    sent = request("/jobs", x_request_id="abc-1")

    inner, line = lines(stream)
    assert inner["request_id"] == line["request_id"] == "abc-1"
    assert (line["method"], line["path"], line["status"]) == ("GET", "/jobs", 200)
    assert line["client"] == "192.0.2.7:36872"
    assert line["milliseconds"] >= 0
    assert "ana" not in stream.getvalue()
    assert sent[0]["headers"] == [(b"a", b"b"), (b"x-request-id", b"abc-1")]


@pytest.mark.parametrize("given", ["a b", "x" * 200, "a\nb", "", "é"])
def test_request_id_invalid(given: str, stream: io.StringIO) -> None:
    configure_logging("json", "INFO", stream)

    request("/jobs", x_request_id=given)

    assert len(lines(stream)[-1]["request_id"]) == 32


def test_request_log_failed_request(stream: io.StringIO) -> None:
    configure_logging("json", "INFO", stream)

    with pytest.raises(RuntimeError):
        request("/broken")

    assert lines(stream)[-1]["status"] is None


def test_request_log_probes_debug_only(stream: io.StringIO) -> None:
    configure_logging("json", "INFO", stream)
    request("/api/health/live")
    assert [line["event"] for line in lines(stream)] == ["inside"]

    configure_logging("json", "DEBUG", stream)
    request("/api/health/live")
    assert [line["event"] for line in lines(stream)][-1] == "request"


@pytest.mark.parametrize(
    "hostile",
    ["\x1b]0;owned\x07", "\x1b[2J", "a\rb", "a\nforged", "a\u202eb", "\x9b31m", "a\u2028b"],
)
def test_console_format_control_characters(hostile: str, stream: io.StringIO) -> None:
    configure_logging("console", "INFO", stream)

    structlog.get_logger().info("request", path=hostile, whole=[hostile])
    structlog.get_logger().info(hostile)
    logging.getLogger("library").warning("said %s", hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        logging.getLogger("library").exception("failed")

    said = stream.getvalue()
    assert all(character == "\n" or character.isprintable() for character in said)
    assert not any(line.startswith("forged") for line in said.split("\n"))
    assert hostile.encode("unicode_escape").decode() in said
