"""The fenced blocks of a Markdown page."""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks"]

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """The text between two fences.

    Attributes:
        kind: the word after the first fence: ``sh``, ``json``.
        text: the lines between them.
        line: the number of the first fence's line.
    """

    kind: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)
        for found in _FENCED.finditer(text)
    ]
