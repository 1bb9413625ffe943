"""The forms of output: tables and colours on a terminal, plain lines in a pipe, JSON on request."""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "complain",
    "duration",
    "gigabytes",
    "leave_quietly",
    "local_time",
    "out",
    "plain",
    "print_fields",
    "print_json",
    "print_json_line",
    "print_output",
    "print_row",
    "print_table",
    "sign_of_life",
    "sparkline",
    "state",
    "table_of",
    "unsteered",
]

Cell = str | Text

out = Console(highlight=False, soft_wrap=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)
_encoder = msgspec.json.Encoder()
_NOT_PLAIN_ASCII = re.compile(r"[^\n -~]+")
# Colours, and the end of a line cleared, as bars that show progress do.
_STYLES = re.compile(r"(\x1b\[[0-9;]*[mK])")
_COLOURS = {
    "RUNNING": "green",
    "QUEUED": "yellow",
    "REQUEUED": "yellow",
    "QUEUED_HELD": "magenta",
    "REQUEUED_HELD": "magenta",
    "SUSPENDED": "magenta",
    "DONE": "dim",
    "FAILED": "red",
}
# A column is never narrower than its texts up to this; what has no room is cut off at the right.
_KEPT_CELLS = 24
_BARS = "▁▂▃▄▅▆▇█"


def complain(sentence: str) -> None:
    """Print a sentence on standard error."""
    _errors.print(Text(plain(sentence), style="red" if _errors.is_terminal else ""))


def plain(text: str, keep: str = "") -> str:
    """Return text without characters that would steer a terminal or break a line.

    Args:
        text: from anywhere.
        keep: characters to leave in it.
    """
    return "".join(one if one.isprintable() or one in keep else "\ufffd" for one in text)


def print_json(answer: Any) -> None:
    """Print an answer as JSON."""
    print(_steerless_json(msgspec.json.format(_encoder.encode(answer), indent=2)))


def print_json_line(answer: Any) -> None:
    """Print an answer as JSON on one line, at once."""
    print(_steerless_json(_encoder.encode(answer)), flush=True)


def _steerless_json(document: bytes) -> str:
    """Return JSON that writes what would steer a terminal, or hide text, as escapes."""
    return _NOT_PLAIN_ASCII.sub(
        lambda found: "".join(
            one if one.isprintable() else json.dumps(one)[1:-1] for one in found[0]
        ),
        document.decode(),
    )


def print_output(text: str) -> None:
    """Print what a job wrote, at once: as it is in a pipe, without what steers on a terminal."""
    print(unsteered(text) if sys.stdout.isatty() else text, end="", flush=True)


def unsteered(text: str) -> str:
    """Return output as a terminal may show it: with colours, and with moves within its line.

    Other sequences could set the clipboard, the title, or what stands elsewhere on the screen.
    """
    parts = _STYLES.split(text)
    # The odd ones are styles.
    parts[::2] = (plain(part, keep="\t\n\r\b") for part in parts[::2])
    return "".join(parts)


def table_of(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """Return a table for a terminal; its last column takes what the width leaves."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    listed = list(rows)
    for place, header in enumerate(headers[:-1]):
        longest = max((cell_len(str(row[place])) for row in listed), default=0)
        least = max(len(header), min(longest, _KEPT_CELLS))
        table.add_column(header.upper(), no_wrap=True, overflow="ellipsis", min_width=least)
    # Rich narrows columns that may wrap first; the texts in this one do not, and are cut off.
    table.add_column(headers[-1].upper())
    for row in listed:
        cells = [Text(plain(cell)) if isinstance(cell, str) else cell for cell in row]
        cells[-1].no_wrap, cells[-1].overflow = True, "ellipsis"
        table.add_row(*cells)
    return table


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print rows: a table with headers on a terminal, lines without them in a pipe."""
    if out.is_terminal:
        out.print(table_of(headers, rows))
        return
    for row in rows:
        print_row(row)


def print_row(row: Sequence[Cell]) -> None:
    """Print one row at once, of a table that grows: with colours on a terminal."""
    if out.is_terminal:
        cells = (Text(plain(cell)) if isinstance(cell, str) else cell for cell in row)
        out.print(Text("  ").join(cells), soft_wrap=True)
    else:
        print("\t".join(plain(str(cell)) for cell in row), flush=True)


def print_fields(fields: Iterable[tuple[str, Cell]]) -> None:
    """Print names and values, one pair a line."""
    if not out.is_terminal:
        print_table((), fields)
        return
    grid = Table.grid(padding=(0, 2))
    for name, value in fields:
        grid.add_row(Text(name, "bold"), Text(plain(value)) if isinstance(value, str) else value)
    out.print(grid)


def state(word: str) -> Text:
    """Return a job's state in its colour."""
    return Text(plain(word), _COLOURS.get(word, ""))


def local_time(moment: datetime | None) -> str:
    """Return a time as the user's clock shows it; empty if it is unknown."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | None) -> str:
    """Return a duration; empty if it is unknown.

    >>> duration(93784)
    '1-02:03:04'
    """
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (
        f"{days}-{hours:02}:{minutes:02}:{rest:02}" if days else f"{hours}:{minutes:02}:{rest:02}"
    )


def gigabytes(figure: float | None) -> str:
    """Return a figure in GB; empty if it is unknown."""
    return "" if figure is None else f"{figure:.3g} GB"


def sparkline(figures: Sequence[float], width: int = 60) -> str:
    """Return a line of bars from zero to the greatest figure, at most so many.

    >>> sparkline([0, 2, 4, 8])
    '▁▃▅█'
    """
    step = max(1, -(-len(figures) // width))
    groups = [figures[begin : begin + step] for begin in range(0, len(figures), step)]
    means = [sum(group) / len(group) for group in groups]
    top = max(means, default=0.0) or 1.0
    return "".join(_BARS[round((len(_BARS) - 1) * max(0.0, mean) / top)] for mean in means)


def sign_of_life(sentence: str) -> AbstractContextManager[object]:
    """Show a sentence on standard error while something is waited for, if it is a terminal."""
    return _errors.status(Text(plain(sentence))) if _errors.is_terminal else nullcontext()


def leave_quietly() -> None:
    """Let nothing more be written to a pipe that nobody reads, at the end of the process either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
