"""Server-sent events, as the HTML standard defines their text."""

import json
from collections.abc import Mapping

__all__ = ["HEADERS", "HEARTBEAT", "MEDIA_TYPE", "encode_event"]

MEDIA_TYPE = "text/event-stream"
HEADERS: Mapping[str, str] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
HEARTBEAT = b": waiting\n\n"
"""A comment: the stream is alive."""


def encode_event(data: object, *, event_id: object = None, kind: str | None = None) -> bytes:
    """Return one event.

    Args:
        data: its content, written as JSON on one line.
        event_id: the place from which a client that comes back goes on.
        kind: the name of the event; None for ``message``.
    """
    lines = [] if event_id is None else [f"id: {event_id}"]
    if kind is not None:
        lines.append(f"event: {kind}")
    lines.append(f"data: {json.dumps(data, ensure_ascii=False)}")
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")
