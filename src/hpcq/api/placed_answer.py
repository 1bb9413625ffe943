"""Streamed answers, of which there are only so many, to readers who may lose their rights."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from hpcq.api import event_stream
from hpcq.api.context import Context
from hpcq.api.guard import principal_now
from hpcq.domain.principals import Principal
from hpcq.services.readers import Place

__all__ = ["PlacedAnswer", "event_answer", "while_allowed"]

_T = TypeVar("_T")

_RECHECKED_SECONDS = 10.0


class PlacedAnswer(StreamingResponse):
    """A streamed answer that has one of the places of readers until its end."""

    place: Place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.place:
            await super().__call__(scope, receive, send)


def event_answer(events: AsyncIterator[bytes], place: Place) -> PlacedAnswer:
    """Return a stream of server-sent events as an answer."""
    answer = PlacedAnswer(events, media_type=event_stream.MEDIA_TYPE, headers=event_stream.HEADERS)
    answer.place = place
    return answer


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
