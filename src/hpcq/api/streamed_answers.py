"""Streamed answers, of which there are only so many, to readers who may lose their rights.

Server-sent events are text as the HTML standard defines it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from hpcq.api.context import Context
from hpcq.api.guard import principal_now
from hpcq.domain.errors import NotAuthorized
from hpcq.domain.principals import Principal
from hpcq.services.readers import Place

__all__ = [
    "HEARTBEAT",
    "PlacedAnswer",
    "encode_event",
    "event_answer",
    "while_allowed",
    "while_unchanged",
]

_T = TypeVar("_T")

_RECHECKED_SECONDS = 10.0
_HEADERS: Mapping[str, str] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
HEARTBEAT = b": waiting\n\n"
"""A comment: the stream is alive."""


class PlacedAnswer(StreamingResponse):
    """A streamed answer that has one of the places of readers until its end."""

    place: Place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.place:
            await super().__call__(scope, receive, send)


def event_answer(events: AsyncIterator[bytes], place: Place) -> PlacedAnswer:
    """Return a stream of server-sent events as an answer."""
    answer = PlacedAnswer(events, media_type="text/event-stream", headers=_HEADERS)
    answer.place = place
    return answer


def encode_event(
    data: object | bytes, *, event_id: object = None, kind: str | None = None
) -> bytes:
    """Return one event.

    Args:
        data: its content, written as JSON on one line; bytes are such a line already.
        event_id: the place from which a client that comes back goes on.
        kind: the name of the event; None for ``message``.
    """
    lines = [] if event_id is None else [f"id: {event_id}"]
    if kind is not None:
        lines.append(f"event: {kind}")
    if not isinstance(data, bytes):
        data = json.dumps(data, ensure_ascii=False).encode("utf-8", "replace")
    head = "".join(f"{line}\n" for line in lines)
    return b"%sdata: %s\n\n" % (head.encode(), data)


async def while_allowed(
    followed: AsyncIterator[_T],
    request: Request,
    context: Context,
    check: Callable[[Principal], Awaitable[object]],
) -> AsyncIterator[_T]:
    """Yield from what is followed, and ask again now and then whether its reader still may.

    Args:
        followed: what is told.
        request: the reader's.
        context: knows who asks.
        check: raises when the principal, as it is then, may read no more.
    """
    clock = asyncio.get_running_loop().time
    checked_at = clock()
    async for told in followed:
        if clock() - checked_at > _RECHECKED_SECONDS:
            await check(await principal_now(request.scope, context))
            checked_at = clock()
        yield told


def while_unchanged(
    followed: AsyncIterator[_T], request: Request, context: Context, principal: Principal
) -> AsyncIterator[_T]:
    """Yield from what is followed, as long as its reader has the rights that it was begun with."""

    async def check(now: Principal) -> None:
        if now != principal:
            raise NotAuthorized("The rights of the reader changed.")

    return while_allowed(followed, request, context, check)
