"""Node lists as Slurm abbreviates them: ``n[01-03,7],gpu1``."""

import functools
import itertools
import re
from collections.abc import Iterator

__all__ = ["MAX_HOSTS", "expand_hosts"]

MAX_HOSTS = 10_000
"""A list that stands for more than this is left as printed."""

_PART = re.compile(r"[^,\[]*(?:\[[^\]]*\][^,\[]*)*")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


@functools.lru_cache(maxsize=4096)
def expand_hosts(text: str) -> tuple[str, ...]:
    """Return the single names, in order; the text itself where it cannot be taken apart.

    Several brackets in a name multiply out (``r[1-2]n[1-2]``); leading zeros are kept.
    """
    if "[" not in text:
        return tuple(text.split(","))
    try:
        names = tuple(itertools.islice(_expand(text), MAX_HOSTS + 1))
    except ValueError:
        return (text,)
    return names if len(names) <= MAX_HOSTS else (text,)


def _expand(text: str) -> Iterator[str]:
    position = 0
    while position <= len(text):
        match = _PART.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise ValueError(f"not a node list: {text!r}")
        yield from _multiply(match[0])
        position = match.end() + 1


def _multiply(part: str) -> Iterator[str]:
    pieces = re.split(r"\[([^\]]*)\]", part)
    choices = [_numbers(p) if i % 2 else [p] for i, p in enumerate(pieces)]
    return map("".join, itertools.product(*choices))


def _numbers(ranges: str) -> list[str]:
    names: list[str] = []
    for item in ranges.split(","):
        match = _RANGE.fullmatch(item)
        if match is None:
            raise ValueError(f"not a range: {item!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first > MAX_HOSTS:
            raise ValueError(f"too long a range: {item!r}")
        names.extend(str(number).zfill(len(match[1])) for number in range(first, last + 1))
    return names
