"""Answers with the content of files, or with ranges of its bytes (RFC 9110, 14).

They are sent in pieces, each read when the one before was taken.
"""

import codecs
import re
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import quote

import structlog
from fastapi.responses import Response

from hpcq.api.problems import plain_problem
from hpcq.api.streamed_answers import HEARTBEAT, PlacedAnswer, encode_event, event_answer
from hpcq.domain.errors import HpcqError
from hpcq.execution.opened import OpenedFile
from hpcq.services.output.follow_events import Ended, Piece, Restarted, Waiting
from hpcq.services.output.job_files import JobFiles
from hpcq.services.readers import Place

__all__ = ["Followed", "attachment", "file_answer", "follow_answer"]

Followed = AsyncIterator[Piece | Restarted | Waiting | Ended]

_log = structlog.get_logger("hpcq.output")

_PIECE_BYTES = 256 * 1024
_ONE_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))", re.IGNORECASE)


async def file_answer(
    files: JobFiles,
    file: OpenedFile,
    admit: Callable[[], Place],
    headers: Mapping[str, str],
    *,
    asked: str | None,
    begin: int = 0,
) -> Response:
    """Return the content of a file as an answer; what is added meanwhile is not in it.

    Args:
        files: reads it.
        file: an open file.
        admit: gives the place of a reader.
        headers: more of them.
        asked: the ``Range`` header of the request.
        begin: where the answer begins, without a range.
    """
    size = (await files.read(file, lambda file: file.status())).st_size
    try:
        part = read_range(asked, size)
    except RangeNotSatisfiable as error:
        return error.answer
    shown = range(min(begin, size), size) if part is None else part
    more = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-store",
        "Content-Length": str(len(shown)),
    }
    if part is not None:
        more["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    place = admit()
    answer = PlacedAnswer(
        _pieces(files, file, shown), 200 if part is None else 206, {**headers, **more}
    )
    answer.place = place
    return answer


async def _pieces(files: JobFiles, file: OpenedFile, shown: range) -> AsyncIterator[bytes]:
    at = shown.start
    while at < shown.stop:
        begin, most = at, min(_PIECE_BYTES, shown.stop - at)
        data = await files.read(file, lambda file: file.read(begin, most))  # noqa: B023
        if not data:
            # The length was told: the connection ends early, and the client notices.
            raise ConnectionAbortedError("the file became shorter while it was sent")
        yield data
        at += len(data)


def follow_answer(followed: Followed, place: Place) -> Response:
    """Return the events of a followed output as an answer."""
    return event_answer(_events(followed), place)


async def _events(followed: Followed) -> AsyncIterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        async for told in followed:
            if isinstance(told, Piece):
                text = decoder.decode(told.data)
                # A character that is not complete yet comes with the next event.
                end = told.offset + len(told.data) - len(decoder.getstate()[0])
                if text:
                    yield encode_event({"text": text}, event_id=end)
            elif isinstance(told, Restarted):
                decoder.reset()
                yield encode_event({}, event_id=0, kind="restart")
            elif isinstance(told, Ended):
                text = decoder.decode(b"", final=True)
                if text:
                    yield encode_event({"text": text})
                data = {"state": told.record.state, "detail": told.missing}
                yield encode_event(data, kind="end")
            else:
                yield HEARTBEAT
    except HpcqError as error:
        # The head of the answer is sent. A client that comes back learns what it is, or goes on.
        _log.info("output.follow_ended", reason=error.detail)


def attachment(name: str) -> str:
    """Return the ``Content-Disposition`` of a file that a browser is to save (RFC 6266).

    >>> attachment("saída 1.txt")
    "attachment; filename*=UTF-8''sa%C3%ADda%201.txt"
    """
    return f"attachment; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


class RangeNotSatisfiable(Exception):
    """A range holds no byte of the file."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.answer = plain_problem(
            416,
            f"The range begins behind the end of the file, which has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )


def read_range(header: str | None, size: int) -> range | None:
    """Return the bytes that a ``Range`` header asks for; None for all of the file.

    Several ranges, and what is no range of bytes, count as no header, as the RFC allows.

    Raises:
        RangeNotSatisfiable: none of them exists.

    >>> read_range("bytes=-3", 10)
    range(7, 10)
    """
    found = _ONE_RANGE.fullmatch((header or "").strip())
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        asked = range(max(0, size - int(suffix)), size)
    else:
        end = size if last is None else min(size, int(last) + 1)
        if last is not None and int(last) < int(first):
            return None
        asked = range(int(first), end)
    if not asked:
        raise RangeNotSatisfiable(size)
    return asked
