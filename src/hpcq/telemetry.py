"""Logs: one format for this service, uvicorn and every library, on standard error."""

import logging
import re
import time
import uuid
from typing import TYPE_CHECKING, Literal, TextIO

import structlog

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RequestLog", "configure_logging"]

_SECRET_NAME = re.compile(r"authorization|cookie|credential|environ|password|secret|token", re.I)
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

_log = structlog.get_logger("hpcq.request")


def configure_logging(
    log_format: Literal["console", "json"], log_level: str, stream: TextIO | None = None
) -> None:
    """Send all log lines to ``stream``, standard error by default. May be called again.

    Args:
        log_format: ``console``, to read; ``json``, one object a line.
        log_level: the lowest level to log, such as ``INFO``.
        stream: a text stream; colours are used when it is a terminal.
    """
    handler = logging.StreamHandler(stream)
    colours = log_format == "console" and handler.stream.isatty()
    handler.setFormatter(_formatter(log_format, colours))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(log_level)
    level = logging.getLevelNamesMapping()[log_level]
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _shared() -> list[structlog.typing.Processor]:
    """Return the processors of every line, ours and other libraries'."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]


def _formatter(
    log_format: Literal["console", "json"], colours: bool
) -> structlog.stdlib.ProcessorFormatter:
    last: list[structlog.typing.Processor]
    if log_format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _hide_secrets(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replace values with names that mark them as secret."""
    for name in event:
        if _SECRET_NAME.search(name):
            event[name] = "[hidden]"
    return event


class RequestLog:
    """ASGI middleware: one log line for each request, and an ``X-Request-ID`` for each answer.

    A caller's own ``X-Request-ID`` is kept if it is an ordinary word, so that one id follows a
    request through several services. The query is not logged, because it may hold private filters.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        status: int | None = None

        async def send_with_id(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                header = (b"x-request-id", request_id.encode("ascii"))
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                _log_request(scope, status, time.perf_counter() - began)


def _request_id(scope: "Scope") -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return text
    return uuid.uuid4().hex


def _log_request(scope: "Scope", status: int | None, seconds: float) -> None:
    # Probes come every few seconds; successful ones are not worth a line.
    probe = "/health/" in scope["path"] and status == 200
    write = _log.debug if probe else _log.info
    client = scope.get("client")
    write(
        "request",
        client=None if client is None else f"{client[0]}:{client[1]}",
        method=scope["method"],
        path=scope["path"],
        status=status,
        milliseconds=round(seconds * 1000, 1),
    )
