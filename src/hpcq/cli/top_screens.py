"""The screens over the table of ``hpcq top``: a job, a question, the keys."""

import contextlib
import re
from collections.abc import Sequence
from time import monotonic
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Log, Static

from hpcq.cli.jobs import charts, fields
from hpcq.cli.screen import duration, plain
from hpcq.cli.texts import error_text
from hpcq.cli.texts import translated as _
from hpcq.client import AsyncJob
from hpcq.client.answers import ResourceUsage
from hpcq.client.errors import ClientError

__all__ = ["HelpScreen", "JobScreen", "QuestionScreen"]

_MOST_LINES = 10_000
_TAIL = 1_000
# Colours and movements that a job writes; a piece of output may hold a part of one alone.
_STEERING = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


class JobScreen(Screen[None]):
    """A job: what is known of it, what it used, and its output, which follows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", _("Back")),
        Binding("e", "switch_stream", _("Output/errors")),
        Binding("tab", "app.focus_next", show=False),
    ]

    def __init__(self, job: AsyncJob) -> None:
        super().__init__()
        self.job = job
        self._samples: Sequence[ResourceUsage] = ()
        self._stream = "stdout"
        self._read_at = monotonic()

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        with Vertical(id="known"):
            yield Static(id="fields")
        yield Static(id="stream")
        yield Log(id="output", max_lines=_MOST_LINES)
        yield Footer()

    def on_mount(self) -> None:
        """Show what is known, and begin to read the rest."""
        self.show(self.job)
        self.set_interval(1.0, self._draw)
        self.query_one(Log).focus()
        self.follow()

    def show(self, job: AsyncJob) -> None:
        """Show the fields of the job as they are now."""
        self.job = job
        self._read_at = monotonic()
        self._draw()
        self._read_usage()

    def _draw(self) -> None:
        shown = dict(fields(self.job))
        if self.job.state == "RUNNING" and self.job.elapsed is not None:
            shown[_("elapsed")] = duration(self.job.elapsed + monotonic() - self._read_at)
        if len(self._samples) > 1:
            bars = dict(charts(self.job, self._samples))
            shown.update((name, bars[name]) for name in (_("CPUs in use"), _("memory")))
        grid = Table.grid(padding=(0, 2))
        for name, value in shown.items():
            text = Text(plain(value)) if isinstance(value, str) else value
            grid.add_row(Text(name, "bold"), text)
        self.query_one("#fields", Static).update(grid)

    def action_switch_stream(self) -> None:
        """Show the other of output and errors."""
        self._stream = "stderr" if self._stream == "stdout" else "stdout"
        self.follow()

    @work(group="usage", exclusive=True)
    async def _read_usage(self) -> None:
        # A job that waits has none, and the screen is of use without.
        with contextlib.suppress(ClientError):
            self._samples = await self.job.usage()
            self._draw()

    @work(group="output", exclusive=True)
    async def follow(self) -> None:
        """Show the end of the output, and what is written from now on."""
        log, title = self.query_one(Log), self.query_one("#stream", Static)
        name = _("output") if self._stream == "stdout" else _("errors")
        title.update(Text(f"── {name} ", "bold"))
        log.clear()
        try:
            async for text in self.job.output(self._stream).follow(_TAIL):
                unsteered = _STEERING.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")
                log.write(plain(unsteered.expandtabs(), keep="\n"))
        except ClientError as error:
            title.update(Text(f"── {name}: {plain(error_text(error))}", "bold"))


class QuestionScreen(ModalScreen[bool]):
    """A question that is answered with yes or no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,s", "answer(True)"),
        Binding("n,escape,q,enter", "answer(False)"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Lay the question out."""
        yield Static(Text(f"{plain(self._question)}\n\n{_('y yes   n no')}"), classes="box")

    def action_answer(self, answer: bool) -> None:
        """End with the answer."""
        self.dismiss(answer)


class HelpScreen(ModalScreen[None]):
    """The keys, and what they do."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "dismiss")]

    def compose(self) -> ComposeResult:
        """Lay the keys out."""
        grid = Table.grid(padding=(0, 2))
        for keys, meaning in (
            ("↑ ↓ PgUp PgDn Home End", _("choose a job")),
            ("Enter", _("open it: all that is known, and its output as it is written")),
            ("/", _("show the jobs alone that hold these words; Escape shows all")),
            ("s S", _("sort by the next column; turn the order round")),
            ("d", _("end the job, or take it off the listing when it is over")),
            ("h r", _("hold the queued job; release it")),
            ("e", _("in an open job: its errors in the place of its output")),
            ("q", _("back; leave")),
        ):
            grid.add_row(Text(keys, "bold"), meaning)
        yield Static(grid, classes="box")
