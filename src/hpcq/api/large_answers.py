"""Large answers: sent in pieces, from bytes that all their readers share.

A listing changes with every poll. Each reader that is slow keeps one version of it in memory, so
the memory of versions, not the number of readers, is bounded.
"""

import asyncio
from collections.abc import Mapping

import structlog
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from hpcq.services.listing.job_listing import Pieces

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
        self._readers: dict[int, tuple[Pieces, set[asyncio.Timeout]]] = {}

    def response(self, body: Pieces, headers: Mapping[str, str]) -> Response:
        """Return a body of JSON as an answer."""
        size = sum(map(len, body))
        if size <= _PIECE_BYTES:
            return Response(b"".join(body), media_type="application/json", headers=headers)
        return _PiecewiseResponse(self, body, {**headers, "Content-Length": str(size)})

    async def send(self, body: Pieces, send: Send) -> None:
        """Send a body, unless its readers are cut off."""
        limit = asyncio.timeout(None)
        _, readers = entry = self._readers.setdefault(id(body), (body, set()))
        try:
            async with limit:
                readers.add(limit)
                self._cut_oldest()
                for piece in body:
                    view = memoryview(piece)
                    for begin in range(0, len(piece), _PIECE_BYTES):
                        part = view[begin : begin + _PIECE_BYTES]
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            _log.warning("answer.cut", reason="its reader was slow, and memory was short")
        finally:
            readers.discard(limit)
            if not readers and self._readers.get(id(body)) is entry:
                del self._readers[id(body)]

    def _cut_oldest(self) -> None:
        for key, (_, readers) in list(self._readers.items())[:-_NEVER_CUT]:
            # Versions share most of their pieces.
            held = {id(piece): len(piece) for body, _ in self._readers.values() for piece in body}
            if sum(held.values()) <= self._most_bytes:
                break
            del self._readers[key]
            for reader in readers:
                reader.reschedule(0)


class _PiecewiseResponse(Response):
    def __init__(self, answers: LargeAnswers, body: Pieces, headers: Mapping[str, str]) -> None:
        super().__init__(media_type="application/json", headers=headers)
        self._answers = answers
        self._pieces = body

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        await self._answers.send(self._pieces, send)
