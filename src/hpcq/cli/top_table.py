"""The table of ``hpcq top``: draws the rows in sight alone, however many there are."""

import getpass
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from hpcq.cli.jobs import headers, is_of, row
from hpcq.cli.screen import duration, plain
from hpcq.cli.screen import state as state_text
from hpcq.client import AsyncJob

__all__ = ["JobRows"]

# The most cells of each column but the last, which takes the rest; and those of a narrow screen.
_WIDTHS = (14, 14, 24, 12, 12, 6, 11)
_NARROW = 70
_NARROW_COLUMNS = (0, 1, 2, 7)
_NARROW_NAME = 12
_WIDE_NAMES = 100
_STATE, _NAME, _ELAPSED = 1, 2, 6
_NUMBERS = (5, 6)
# Columns by which one sorts, in the order of the key ``s``; None is the table's own order.
_SORTS = (None, 0, 1, 2, 3, 4, 5, 6)

SortKey = Callable[[AsyncJob], tuple[bool, float | str]]


def _text_key(read: Callable[[AsyncJob], str | None]) -> SortKey:
    return lambda job: (False, (read(job) or "").casefold())


def _number_key(read: Callable[[AsyncJob], float | None]) -> SortKey:
    return lambda job: ((found := read(job)) is None, found or 0)


_KEYS: Mapping[int, SortKey] = {
    # Ids that are numbers in the order of their numbers.
    0: _text_key(lambda job: f"{len(job.id.partition('_')[0]):04}{job.id}"),
    1: _text_key(lambda job: job.state),
    2: _text_key(lambda job: job.name),
    3: _text_key(lambda job: job.owner),
    4: _text_key(lambda job: job.queue),
    5: _number_key(lambda job: job.reserved_slots),
    6: _number_key(lambda job: job.elapsed),
}


class JobRows(ScrollView, can_focus=True):
    """Jobs in rows, with a cursor that stays on its job when rows move."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "first", show=False),
        Binding("end", "last", show=False),
    ]

    class Opened(Message):
        """The user pressed a row of the table twice with the mouse."""

    def __init__(self) -> None:
        super().__init__()
        self._user = getpass.getuser()
        self.jobs: dict[str, AsyncJob] = {}
        self.rows: list[AsyncJob] = []
        self._read_at: dict[str, float] = {}
        self._texts: dict[str, str] = {}
        self._words: list[str] = []
        self._sort: int | None = None
        self._is_reversed = False
        self._cursor = 0
        self._widths: tuple[int, ...] = _WIDTHS

    @property
    def selected(self) -> AsyncJob | None:
        """The job under the cursor."""
        return self.rows[self._cursor] if self.rows else None

    @property
    def _room(self) -> Size:
        """The size that lines have beside the scrollbar."""
        return self.scrollable_content_region.size

    def replace(self, jobs: Iterable[AsyncJob]) -> None:
        """Show these jobs in the place of all."""
        self.jobs.clear()
        self._read_at.clear()
        self._texts.clear()
        self.update_jobs(jobs, ())

    def update_jobs(self, jobs: Iterable[AsyncJob], gone: Iterable[str]) -> None:
        """Show jobs that came or changed, and no longer those that left."""
        moment = monotonic()
        for uid in gone:
            self.jobs.pop(uid, None)
            self._read_at.pop(uid, None)
            self._texts.pop(uid, None)
        for job in jobs:
            self.jobs[job.uid] = job
            self._read_at[job.uid] = moment
            self._texts.pop(job.uid, None)
        self._arrange()

    def filter(self, text: str) -> None:
        """Show the jobs alone that hold all words of a text."""
        self._words = text.casefold().split()
        self._arrange()

    def sort_by_next(self) -> None:
        """Sort by the next column."""
        self._sort = _SORTS[(_SORTS.index(self._sort) + 1) % len(_SORTS)]
        self._arrange()

    def reverse(self) -> None:
        """Turn the order of the rows round."""
        self._is_reversed = not self._is_reversed
        self._arrange()

    def _arrange(self) -> None:
        """Choose and order the rows; keep the cursor on its job."""
        selected = self.selected
        found = [job for job in self.jobs.values() if self._fits(job)]
        if self._sort is None:
            found.sort(key=self._own_order, reverse=self._is_reversed)
        else:
            found.sort(key=_KEYS[self._sort], reverse=self._is_reversed)
        self.rows = found
        places = (place for place, job in enumerate(found) if selected and job.uid == selected.uid)
        self._cursor = next(places, min(self._cursor, max(0, len(found) - 1)))
        self._measure()
        self.virtual_size = Size(self._room.width, len(found) + 1)
        self._show_cursor()

    def _own_order(self, job: AsyncJob) -> tuple[bool, bool, float]:
        """Own jobs first, those that are not over before the others, and new before old."""
        submitted = 0.0 if job.submit_time is None else -job.submit_time.timestamp()
        return (not is_of(self._user, job), job.is_over, submitted)

    def _fits(self, job: AsyncJob) -> bool:
        if not self._words:
            return True
        text = self._texts.get(job.uid)
        if text is None:
            text = self._texts[job.uid] = " ".join(map(str, row(job))).casefold()
        return all(word in text for word in self._words)

    def _measure(self) -> None:
        """Make each column as wide as its texts, up to its most."""
        texts = (
            [job.id for job in self.rows],
            [job.state for job in self.rows],
            [job.name or "" for job in self.rows],
            [job.owner or "" for job in self.rows],
            [job.queue or "" for job in self.rows],
        )
        longest = [max(map(len, words), default=0) for words in texts] + [_WIDTHS[5], _WIDTHS[6]]
        names = (len(header) + 2 for header in headers())
        self._widths = tuple(
            min(most, max(least, length))
            for most, least, length in zip(_WIDTHS, names, longest, strict=False)
        )

    def _columns(self) -> list[tuple[int, int]]:
        """Return the columns that the width has room for, each with its width."""
        width = self._room.width
        shown = _NARROW_COLUMNS if width < _NARROW else tuple(range(len(_WIDTHS) + 1))
        widths = dict(enumerate(self._widths))
        if width < _WIDE_NAMES:
            widths[_NAME] = min(widths[_NAME], _NARROW_NAME)
        columns = [(column, widths[column]) for column in shown[:-1]]
        rest = width - sum(cells + 1 for _, cells in columns)
        return [*columns, (shown[-1], max(0, rest))]

    def render_line(self, y: int) -> Strip:
        """Return a line of the screen: the headers in the first, then rows."""
        width = self._room.width
        if y == 0:
            return self._header().adjust_cell_length(width)
        place = round(self.scroll_offset.y) + y - 1
        if place >= len(self.rows):
            return Strip.blank(width)
        job = self.rows[place]
        # Reversed, and not only coloured: it is seen without colours too.
        base = Style(reverse=place == self._cursor, bold=place == self._cursor and self.has_focus)
        cells = list(map(str, row(job)))
        if job.state == "RUNNING" and job.elapsed is not None:
            cells[_ELAPSED] = duration(job.elapsed + monotonic() - self._read_at[job.uid])
        pieces = []
        for column, cell_width in self._columns():
            text = plain(cells[column])
            if column in _NUMBERS:
                text = text.rjust(cell_width)
            elif cell_len(text) > cell_width > 1:
                text = f"{set_cell_size(text, cell_width - 1)}…"
            style = base
            if column == _STATE:
                style = base + Style.parse(str(state_text(job.state).style) or "none")
            pieces.append(Segment(f"{set_cell_size(text, cell_width)} ", style))
        return Strip(pieces).adjust_cell_length(width, base)

    def _header(self) -> Strip:
        pieces = []
        for column, cell_width in self._columns():
            mark = ("▲" if self._is_reversed else "▼") if column == self._sort else ""
            text = f"{headers()[column].upper()}{mark}"
            if column in _NUMBERS:
                text = text.rjust(cell_width)
            pieces.append(Segment(f"{set_cell_size(text, cell_width)} ", Style(bold=True)))
        return Strip(pieces)

    def _show_cursor(self) -> None:
        """Scroll so far that the row of the cursor is in sight."""
        room = max(1, self._room.height - 1)
        top = round(self.scroll_offset.y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + room:
            self.scroll_to(y=self._cursor - room + 1, animate=False)
        self.refresh()

    def _go_to(self, place: int) -> None:
        self._cursor = max(0, min(place, len(self.rows) - 1))
        self._show_cursor()

    def action_move(self, rows: int) -> None:
        """Move the cursor by so many rows."""
        self._go_to(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by so many screens."""
        self._go_to(self._cursor + pages * max(1, self._room.height - 2))

    def action_first(self) -> None:
        """Move the cursor to the first row."""
        self._go_to(0)

    def action_last(self) -> None:
        """Move the cursor to the last row."""
        self._go_to(len(self.rows) - 1)

    def on_resize(self) -> None:
        """Fit the rows into the new size."""
        self.virtual_size = Size(self._room.width, len(self.rows) + 1)
        self._show_cursor()

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to a row; open its job at the second click."""
        if event.y >= 1 and self.rows:
            self._go_to(round(self.scroll_offset.y) + event.y - 1)
            if event.chain > 1:
                self.post_message(self.Opened())
