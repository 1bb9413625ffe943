"""On which line of a TOML file something stands, which the standard library's parser forgets."""

import re

__all__ = ["Lines"]

_TABLE = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\- ]+?)\s*\]")
_KEY = re.compile(r"\s*[\"']?([A-Za-z0-9_-]+)[\"']?\s*=")

Place = tuple[str | int, ...]


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
