"""Problems of a catalogue file, in words and with the line."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from tomllib import TOMLDecodeError

from pydantic_core import ErrorDetails

__all__ = ["CatalogueError", "Lines", "describe", "problem", "syntax_problem"]

_TABLE = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\- ]+?)\s*\]")
_KEY = re.compile(r"\s*[\"']?([A-Za-z0-9_-]+)[\"']?\s*=")
# Of what pydantic finds wrong, the kinds whose own words speak of Python.
_IN_WORDS = {
    "extra_forbidden": "there is no such key",
    "missing": "it is missing",
    "string_type": "it has to be text",
    "list_type": "it has to be a list",
    "model_type": "it has to be a table",
    "too_short": "it is empty",
}

Place = tuple[str | int, ...]


class CatalogueError(Exception):
    """A catalogue file cannot be used.

    Attributes:
        problems: a sentence for each, with the file and the line.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Lines:
    """The lines of the tables and keys of a file that is valid TOML."""

    def __init__(self, text: str) -> None:
        self._known: dict[Place, int] = {}
        counts: dict[Place, int] = {}
        table: Place = ()
        in_text = False
        for number, line in enumerate(text.splitlines(), 1):
            was_in_text = in_text
            if (line.count('"""') + line.count("'''")) % 2:
                in_text = not in_text
            if was_in_text:
                continue
            if head := _TABLE.match(line):
                table = _place(head[2], head[1] == "[[", counts)
                self._known.setdefault(table, number)
            elif key := _KEY.match(line):
                self._known.setdefault((*table, key[1]), number)

    def of(self, place: Place) -> int:
        """Return the line of a place, ``("program", 0, "name")``, or of what holds it."""
        while place and place not in self._known:
            place = place[:-1]
        return self._known.get(place, 1)


def _place(name: str, is_list: bool, counts: dict[Place, int]) -> Place:
    place: Place = ()
    parts = [part.strip() for part in name.split(".")]
    for number, part in enumerate(parts, 1):
        place = (*place, part)
        if is_list and number == len(parts):
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def problem(path: Path, lines: Lines, place: Place, why: str) -> str:
    """Return the sentence about one place of a file: file, line, key, reason."""
    names = [part for part in place if isinstance(part, str)]
    keys = [name for name in names if name not in ("program", "arguments")]
    end = "" if why.endswith("?") else "."
    return f"{path}, line {lines.of(place)}: {(keys or names[-1:])[0]}: {why}{end}"


def syntax_problem(path: Path, text: str, error: TOMLDecodeError) -> str:
    """Return the sentence about a text that is not TOML."""
    message = str(error)
    found = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = found[1] if found else str(max(1, len(text.splitlines())))
    return f"{path}, line {line}: it is not TOML: {message.partition(' (at ')[0]}."


def describe(error: ErrorDetails, known: Sequence[str]) -> str:
    """Return the reason of one of pydantic's errors in the words of a catalogue.

    Args:
        error: as pydantic tells it.
        known: the keys that there are.
    """
    key, message = error["loc"][-1], _IN_WORDS.get(error["type"])
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(key), known, n=1)
        return f"{message}; did you mean {close[0]}?" if close else f"{message}"
    if error["type"] == "list_type" and key in ("program", "arguments"):
        tables = "[[program]]" if key == "program" else "[[program.arguments]]"
        return f"it has to be a list of tables; write {tables}"
    if message is not None:
        return message
    words = error["msg"].removeprefix("Value error, ")
    return words.replace("Input should be", "it has to be")
