"""Server-sent events as a client reads them."""

import json
from collections.abc import Generator
from typing import NamedTuple

from hpcq.schedulers.testing.jobs import Json
from hpcq.schedulers.testing.service import Service

__all__ = ["StreamedEvent", "events_of"]


class StreamedEvent(NamedTuple):
    """One event of a stream."""

    kind: str
    data: Json
    number: int | None


def events_of(service: Service, path: str, **headers: str) -> Generator[StreamedEvent, None, None]:
    """Yield the events of a stream until it ends.

    Args:
        service: asked.
        path: of the stream, with its query.
        headers: of the request; ``_`` stands for ``-``.
    """
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    with service.client.stream("GET", path, headers=more) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind, number = "message", None
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                number = int(value)
            elif name == "data":
                yield StreamedEvent(kind, json.loads(value), number)
                kind, number = "message", None
