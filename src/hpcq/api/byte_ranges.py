"""Ranges of bytes in requests (RFC 9110, 14)."""

import re

from hpcq.api.problems import plain_problem

__all__ = ["RangeNotSatisfiable", "read_range"]

_ONE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))", re.IGNORECASE)


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
    found = _ONE.fullmatch((header or "").strip())
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
