"""Connections of clients: bounds of requests, time limits, and how many there may be.

uvicorn itself bounds neither heads nor trailers, closes no connection that never sends a whole
request, and cuts no reader off that does not read.
"""

import asyncio
import functools
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import httptools
import structlog
from fastapi.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hpcq.api.problems import plain_problem, problem_of
from hpcq.api.settings import HttpSettings
from hpcq.auth.authenticator import PEER
from hpcq.auth.peer import loopback_peer, unix_peer
from hpcq.domain.errors import Overloaded
from hpcq.execution.descriptors import RESERVED

__all__ = ["Connection", "Connections"]

_log = structlog.get_logger("hpcq.connections")

# Parsed at once; the parser's callbacks notice a bound only between pieces.
_PIECE_BYTES = 16 * 1024
_BUFFERED_BYTES = 256 * 1024
_MOST_PIPELINED = 8
_ACCEPTED_AT_ONCE = 100
# A refused client gets its answer only if what it still sends is read for a moment.
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 4 * 2**20


class _Refused(Exception):
    """A request is beyond a bound; raised in a callback of the parser."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


def _answer_to(error: httptools.HttpParserError) -> Response:
    # No frame of the parser's caller may know the reason, whose traceback knows that frame: with it
    # the data would stay until some later garbage collection.
    reason = error.__context__
    if isinstance(reason, _Refused):
        return reason.answer
    return plain_problem(400, "This is not a request of HTTP/1.1.")


class Connections:
    """All connections of the service, and their bounds.

    Args:
        settings: the bounds.
        descriptors: how many files this process may open.

    Attributes:
        most: how many may be open.
        accepted: how many were opened so far.
        refused: how many found no place, or could not be opened.
        displaced: how many were closed to make place for another.
        waiting: those without a whole head of a request, beginning with that which has waited
            longest.
    """

    def __init__(self, settings: HttpSettings, descriptors: int) -> None:
        self.settings = settings
        self.most = min(settings.max_connections, max(10, descriptors - RESERVED))
        self.accepted = self.refused = self.displaced = 0
        self.waiting: OrderedDict[Connection, None] = OrderedDict()
        self._open: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """The number of open connections."""
        return len(self._open)

    @property
    def protocol(self) -> Any:
        """The class of connections, as uvicorn takes it."""
        return functools.partial(Connection, shared=self)

    def admit(self, connection: "Connection") -> bool:
        """Count a new connection; return False when there is no place for it."""
        self.accepted += 1
        if len(self._open) >= self.most:
            if not self.waiting:
                self.refused += 1
                return False
            self._close_oldest()
        self._open.add(connection)
        self.waiting[connection] = None
        return True

    def forget(self, connection: "Connection") -> None:
        """Give the place of a connection to the next."""
        self._open.discard(connection)
        self.waiting.pop(connection, None)

    def accept(self, listener: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        """Take connections that wait at a socket, as many as one turn of the event loop bears.

        The event loop's own server takes one in a turn: while each turn serves a large request,
        connections would wait for ever.

        Args:
            listener: a socket that listens and does not block.
            make: makes the protocol of a connection.
        """
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                _log.warning("connections.refused", reason=error.strerror)
                self.refused += 1
                self._close_oldest()
                return
            client.setblocking(False)
            task = loop.create_task(_connect(client, make))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _close_oldest(self) -> None:
        if self.waiting:
            oldest, _ = self.waiting.popitem(last=False)
            self._open.discard(oldest)
            self.displaced += 1
            oldest.abort()

    def check_times(self, now: float) -> None:
        """Close each connection whose time is over.

        Args:
            now: the time of the event loop.
        """
        for connection in list(self._open):
            connection.check_time(now)


async def _connect(client: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(make, client)
    except OSError:
        # The client has gone already.
        client.close()


class Connection(HttpToolsProtocol):
    """A connection with bounds. ``transport`` is at hand before a request's ``scope`` is made."""

    def __init__(self, *args: Any, shared: Connections, **more: Any) -> None:
        super().__init__(*args, **more)
        self._shared = shared
        self._settings = shared.settings
        # When the client must have sent what it is sending; None while it is not its turn.
        self._due: float | None = None
        # When the client must have taken what was written; None unless much waits for it.
        self._write_due: float | None = None
        self._in_head = False
        # What the parser got since it last gave something.
        self._held_bytes = 0
        self._is_refused = False
        # The account at the other end; None while it is not known.
        self._peer: int | None = None
        self._lingered_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.client is not None and self.server is not None:
            self._peer = loopback_peer(self.client, (self.server[0], self.server[1] or 0))
        elif transport.get_extra_info("socket").family == socket.AF_UNIX:
            self._peer = unix_peer(transport.get_extra_info("socket").fileno())
        # The next piece of a large answer is at hand before the one before is gone.
        transport.set_write_buffer_limits(high=_BUFFERED_BYTES)
        self._due = self.loop.time() + self._settings.request_head_seconds
        if not self._shared.admit(self):
            _log.warning("connections.full", most=self._shared.most)
            self._refuse(problem_of(Overloaded("All connections of this service are in use.")))

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.forget(self)
        super().connection_lost(exc)
        self.pipeline.clear()
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        for begin in range(0, len(data), _PIECE_BYTES):
            if self._is_refused:
                self._linger(len(data) - begin)
                return
            if self.transport.is_closing():
                return
            self._feed(data if len(data) <= _PIECE_BYTES else data[begin : begin + _PIECE_BYTES])

    def _feed(self, piece: bytes) -> None:
        self._held_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here: the request was answered as it is.
            return
        except httptools.HttpParserError as error:
            self._refuse(_answer_to(error))
            return
        if self._held_bytes > self._settings.max_headers_bytes:
            part = "head" if self._in_head else "part between two pieces of the body"
            self._refuse(
                plain_problem(
                    431,
                    f"The request's {part} is longer than {self._settings.max_headers_bytes} "
                    "bytes, the limit here (MAX_HEADERS_BYTES).",
                )
            )

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise _Refused(problem_of(Overloaded("Too many requests came before their answers.")))
        self._unset_keepalive_if_required()
        self._in_head = True
        self._due = self.loop.time() + self._settings.request_head_seconds
        super().on_message_begin()
        if self._peer is not None:
            self.scope["extensions"] = {PEER: {"user_id": self._peer}}

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._settings.max_url_bytes:
            raise _Refused(
                plain_problem(
                    414,
                    f"The URL is longer than {self._settings.max_url_bytes} bytes, the limit here "
                    "(MAX_URL_BYTES).",
                )
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # A trailer: a header that came too late to be checked as one is none (RFC 9110, 6.5.1).
            return
        if len(self.headers) >= self._settings.max_headers:
            raise _Refused(
                plain_problem(
                    431,
                    f"The request has more than {self._settings.max_headers} headers, the limit "
                    "here (MAX_HEADERS).",
                )
            )
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._held_bytes = 0
        self._due = self.loop.time() + self._settings.request_body_seconds
        self._shared.waiting.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._held_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._held_bytes = 0
        self._due = None
        super().on_message_complete()
        if self.cycle.response_complete:
            self._shared.waiting[self] = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_head:
            self._unset_keepalive_if_required()
        if self.transport.is_closing() or self.pipeline:
            return
        if self._in_head or self._due is None:
            self._shared.waiting[self] = None

    def pause_writing(self) -> None:
        self._write_due = self.loop.time() + self._settings.answer_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        self._write_due = None
        super().resume_writing()

    def check_time(self, now: float) -> None:
        """Close the connection if the client's time is over."""
        is_closing = self.transport.is_closing()
        if is_closing and self.cycle is not None and not self.cycle.response_complete:
            # The answer was broken off: what is left of it is worth nothing, and keeps memory.
            self.abort()
        elif is_closing and self._write_due is None:
            # What was written last is under way.
            self._write_due = now + self._settings.answer_seconds
        elif self._write_due is not None and now > self._write_due:
            _log.info("connection.cut", client=self.client, reason="it does not read")
            self.abort()
        elif self._due is not None and now > self._due:
            if self._is_refused or not (self._in_head or self._is_in_body):
                self.abort()
                return
            part = "head" if self._in_head else "body"
            self._refuse(plain_problem(408, f"The {part} of the request did not arrive in time."))

    @property
    def _is_in_body(self) -> bool:
        return self.cycle is not None and self.cycle.more_body

    def _refuse(self, answer: Response) -> None:
        """Answer the request that is being sent with a problem, and close."""
        self._is_refused = True
        self._shared.waiting.pop(self, None)
        self._unset_keepalive_if_required()
        _log.info("request.refused", client=self.client, status=answer.status_code)
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and not self.cycle.more_body:
            # This one is for a later request: those before it get their answers first.
            self.cycle.keep_alive = False
            self._due = None
            return
        if self.cycle is not None and self.cycle.more_body:
            if self.cycle.response_started or self.pipeline:
                # It has a part of its answer, or others come first.
                self.abort()
                return
            self._disconnect()
        answer.headers["Connection"] = "close"
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        head = STATUS_LINE[answer.status_code] + lines + b"\r\n"
        self.transport.write(head + bytes(answer.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._due = self.loop.time() + _LINGER_SECONDS

    def _linger(self, received_bytes: int) -> None:
        self._lingered_bytes += received_bytes
        if self._lingered_bytes > _LINGER_BYTES:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once, whatever is under way."""
        self._disconnect()
        self.transport.abort()

    def _disconnect(self) -> None:
        """Tell the request under way that nobody waits for its answer; it writes no more."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
