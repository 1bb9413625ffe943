"""Large answers: sent in pieces, from bytes that all their readers share.

A listing changes with every poll. Each reader that is slow keeps one version of it in memory, so
their number, not that of the readers, is bounded.
"""

import asyncio
from collections.abc import Mapping

import structlog
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

__all__ = ["LargeAnswers"]

_log = structlog.get_logger("hpcq.answers")

# The server waits until one has been taken before it gets the next.
_PIECE_BYTES = 2**20
# The newest, and the one that most readers read when it came.
_NEVER_CUT = 2


class LargeAnswers:
    """The bodies that clients are reading, the oldest first.

    Args:
        most_bytes: how much memory they may take; the readers of the oldest are cut off then,
            unless there are only two.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._readers: dict[int, tuple[bytes, set[asyncio.Timeout]]] = {}

    def response(self, body: bytes, headers: Mapping[str, str]) -> Response:
        """Return a body of JSON as an answer."""
        kind = Response if len(body) <= _PIECE_BYTES else _PiecewiseResponse
        answer = kind(body, media_type="application/json", headers=headers)
        if isinstance(answer, _PiecewiseResponse):
            answer.answers = self
        return answer

    async def send(self, body: bytes, send: Send) -> None:
        """Send a body, unless its readers are cut off."""
        limit = asyncio.timeout(None)
        view = memoryview(body)
        _, readers = entry = self._readers.setdefault(id(body), (body, set()))
        try:
            async with limit:
                readers.add(limit)
                self._cut_oldest()
                for begin in range(0, len(body), _PIECE_BYTES):
                    piece = view[begin : begin + _PIECE_BYTES]
                    has_more = begin + _PIECE_BYTES < len(body)
                    await send({"type": "http.response.body", "body": piece, "more_body": has_more})
        except TimeoutError:
            _log.warning("answer.cut", reason="its reader was slow, and memory was short")
        finally:
            readers.discard(limit)
            if not readers and self._readers.get(id(body)) is entry:
                del self._readers[id(body)]

    def _cut_oldest(self) -> None:
        held = sum(len(body) for body, _ in self._readers.values())
        for key, (body, readers) in list(self._readers.items())[:-_NEVER_CUT]:
            if held <= self._most_bytes:
                break
            held -= len(body)
            del self._readers[key]
            for reader in readers:
                reader.reschedule(0)


class _PiecewiseResponse(Response):
    answers: LargeAnswers

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        await self.answers.send(bytes(self.body), send)
