"""Server-sent events, as the HTML standard defines their text."""

import json
from collections.abc import Mapping

__all__ = ["HEADERS", "HEARTBEAT", "MEDIA_TYPE", "encode_event"]

MEDIA_TYPE = "text/event-stream"
HEADERS: Mapping[str, str] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
HEARTBEAT = b": waiting\n\n"
"""A comment: the stream is alive."""


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
