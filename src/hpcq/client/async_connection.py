"""The asynchronous exchange with the service; `async_client` says what is asked.

``scripts/sync_client.py`` makes the synchronous one from this file.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, TypeVar

import httpx
import msgspec
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse

from hpcq import __version__
from hpcq.client.address import Address
from hpcq.client.answers import Event, decode
from hpcq.client.errors import ClientError, Problem, Unreachable, errors_told, problem_of
from hpcq.client.patience import Patience

__all__ = ["SILENCE_SECONDS", "AsyncConnection"]

_T = TypeVar("_T")

SILENCE_SECONDS = 45.0
"""A stream that brings nothing for so long is broken: at least a comment comes every 15 s."""
_UNDONE = ("not_ready", "overloaded", "too_many_requests")
"""Codes of problems that the service answers before it has done anything."""
_encoder = msgspec.json.Encoder()
_event = msgspec.json.Decoder(Event)


class AsyncConnection:
    """A connection to the service that sends again what failed for the moment.

    Args:
        address: the service.
        patience: for how many seconds a request is sent again.
        timeout: for how many seconds one request may take.
    """

    def __init__(self, address: Address, patience: float, timeout: float) -> None:
        headers = {"User-Agent": f"hpcq/{__version__}"}
        if address.token is not None:
            headers["Authorization"] = f"Bearer {address.token}"
        socket = address.socket
        # The certificates of authorities take longer to load than a request takes.
        verify = address.may_be_encrypted
        self._url = address.url
        self._patience, self._timeout = patience, timeout
        self._http = httpx.AsyncClient(
            base_url=address.base_url,
            headers=headers,
            timeout=timeout,
            verify=verify,
            trust_env=not address.is_local,
            transport=None if socket is None else httpx.AsyncHTTPTransport(verify, uds=socket),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool = True,
    ) -> httpx.Response:
        """Send a request, again while it fails for the moment; return the answer.

        Args:
            method: of HTTP.
            path: below the address.
            query: its parameters.
            body: sent as JSON.
            headers: more headers.
            is_repeatable: whether it may be sent again when the service may have carried it out.

        Raises:
            ClientError: it failed for good, or for longer than the client is patient.
        """
        content = None if body is None else _encoder.encode(body)
        sent = {} if body is None else {"Content-Type": "application/json"}
        sent.update(headers or {})
        patience = Patience(self._patience)
        while True:
            try:
                with errors_told(self._url):
                    answer = await self._http.request(
                        method, path, params=query, content=content, headers=sent
                    )
                if answer.is_success:
                    return answer
                raise problem_of(answer)
            except ClientError as error:
                is_undone = isinstance(error, Problem) and error.code in _UNDONE
                if not is_repeatable and not is_undone:
                    raise
                await asyncio.sleep(patience.pause_after(error))

    async def read(
        self,
        path: str,
        decoder: msgspec.json.Decoder[_T],
        query: Mapping[str, str] | None = None,
    ) -> _T:
        """Return what a path answers."""
        return decode(await self.request("GET", path, query=query), decoder)

    async def save(self, path: str, into: BinaryIO) -> None:
        """Write what a path answers into an open file, however long it is.

        Raises:
            ClientError: it failed; what was written stays.
        """
        with errors_told(self._url):
            async with self._http.stream("GET", path) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise problem_of(answer)
                async for piece in answer.aiter_bytes():
                    into.write(piece)

    async def follow_events(
        self,
        path: str,
        types: Sequence[str],
        after: int | None,
        query: Mapping[str, str],
        silence: float | None = None,
    ) -> AsyncIterator[Event]:
        """Yield the events of jobs, as `follow` does.

        Args:
            path: of the stream.
            types: the types of events; all if empty.
            after: the id of the event to go on behind.
            query: more parameters.
            silence: ends it when nothing comes for so many seconds.
        """
        given = query if not types else {**query, "type": ",".join(types)}
        last = None if after is None else str(after)
        async for event in self.follow(path, given, last, silence):
            told = _event.decode(event.data)
            told.id, told.type, told.data = int(event.id), event.event, json.loads(event.data)
            yield told

    async def follow(
        self,
        path: str,
        query: Mapping[str, str],
        last: str | None = None,
        silence: float | None = None,
    ) -> AsyncIterator[ServerSentEvent]:
        """Yield the events of a stream, and connect again when it is cut, until 204 answers.

        Args:
            path: of the stream.
            query: its parameters.
            last: the id of the event to go on behind.
            silence: ends it when nothing comes for so many seconds.
        """
        patience = Patience(self._patience)
        while True:
            try:
                async with self.connect(path, query, last, silence or SILENCE_SECONDS) as source:
                    if source is None:
                        return
                    patience = Patience(self._patience)
                    async for event in source.aiter_sse():
                        last = event.id or last
                        # httpx-sse 0.4 takes the empty line behind a comment for an event, once
                        # an id was told; the specification dispatches nothing without data.
                        if event.data:
                            yield event
                raise Unreachable(f"The stream {path} of {self._url} was cut off.")
            except ClientError as error:
                if silence is not None and isinstance(error.__cause__, httpx.ReadTimeout):
                    return
                await asyncio.sleep(patience.pause_after(error))

    @asynccontextmanager
    async def connect(
        self,
        path: str,
        query: Mapping[str, str],
        last: str | None = None,
        silence: float = SILENCE_SECONDS,
    ) -> AsyncIterator[EventSource | None]:
        """Connect once to a stream of events; None says that it is over.

        Args:
            path: of the stream.
            query: its parameters.
            last: the id of the event to go on behind.
            silence: for how many seconds nothing may come.
        """
        headers = {} if last is None else {"Last-Event-ID": last}
        timeout = httpx.Timeout(self._timeout, read=silence)
        with errors_told(self._url):
            async with aconnect_sse(
                self._http, "GET", path, params=dict(query), headers=headers, timeout=timeout
            ) as source:
                if not source.response.is_success:
                    await source.response.aread()
                    raise problem_of(source.response)
                yield None if source.response.status_code == 204 else source
