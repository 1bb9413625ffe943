"""Logs: one format for this service, uvicorn and every library, on standard error."""

import io
import logging
import re
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

from hpcq.log_writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RequestLog", "configure_logging"]

_SECRET_NAME = re.compile(r"authorization|cookie|credential|environ|password|secret|token", re.I)
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

_log = structlog.get_logger("hpcq.request")


def configure_logging(
    log_format: Literal["console", "json"], log_level: str, stream: TextIO | None = None
) -> logging.Handler:
    """Send all log lines to ``stream``, standard error by default; return what writes them.

    Args:
        log_format: ``console``, to read; ``json``, one object a line.
        log_level: the lowest level to log, such as ``INFO``.
        stream: a text stream; None for standard error, written to by a thread, so that no line
            waits until somebody reads it. Colours are used on a terminal.
    """
    handler: logging.Handler = (
        LogWriter(sys.stderr.fileno()) if stream is None else logging.StreamHandler(stream)
    )
    colours = log_format == "console" and (stream or sys.stderr).isatty()
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
    return handler


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
        last = [
            _escape,
            structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=_escaped_traceback),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _escape(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape what a terminal would obey, and what would begin another line."""
    return {
        name: "".join(map(_visible, value)) if isinstance(value, str) else value
        for name, value in event.items()
    }


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def _escaped_traceback(stream: TextIO, exc_info: Any) -> None:
    """Write a traceback, indented so that no line of it passes for one of the log."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    for line in text.getvalue().rstrip().split("\n"):
        stream.write("\n    " + "".join(map(_visible, line)))


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

    Args:
        app: what answers.
        observe: called at the end of each request, with its scope, the status of its answer (None
            if none began) and the seconds that it took.
    """

    def __init__(
        self, app: "ASGIApp", observe: "Callable[[Scope, int | None, float], None]"
    ) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
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
                seconds = time.perf_counter() - began
                self._observe(scope, status, seconds)
                _log_request(scope, status, seconds)


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
    principal = scope["state"].get("principal")
    write(
        "request",
        client=None if client is None else f"{client[0]}:{client[1]}",
        method=scope["method"],
        path=scope["path"],
        **({"user": principal.user} if principal is not None and principal.user else {}),
        status=status,
        milliseconds=round(seconds * 1000, 1),
    )
