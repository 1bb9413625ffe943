"""The application of ``hpcq top``: the jobs as they change, and the keys."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static

from hpcq.cli.commands import EXIT_INTERRUPTED
from hpcq.cli.screen import plain
from hpcq.cli.screen import state as state_text
from hpcq.cli.texts import error_text
from hpcq.cli.texts import translated as _
from hpcq.cli.top_screens import HelpScreen, JobScreen, QuestionScreen
from hpcq.cli.top_table import JobRows
from hpcq.client import AsyncClient, AsyncJob
from hpcq.client.answers import Queue
from hpcq.client.errors import ClientError

__all__ = ["TopApp"]

_RETRY_SECONDS = 2.0
_QUEUES_SECONDS = 5.0


class TopApp(App[None]):
    """The live table of jobs.

    Attributes:
        error: what ended it.
    """

    TITLE = "hpcq top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary, #stream { height: 1; }
    #queues { height: 1; }
    #filter { display: none; border: none; height: 1; padding: 0; }
    JobRows { height: 1fr; overflow-x: hidden; }
    #known { height: auto; max-height: 60%; overflow-y: auto; }
    #fields { height: auto; }
    #output { height: 1fr; min-height: 3; }
    QuestionScreen, HelpScreen { align: center middle; }
    .box { width: auto; max-width: 100%; height: auto; border: round ansi_default; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", _("Open")),
        Binding("slash", "filter", _("Filter"), key_display="/"),
        Binding("s", "sort", _("Sort")),
        Binding("S", "reverse", show=False),
        Binding("d", "delete", _("End")),
        Binding("h", "act('hold')", _("Hold")),
        Binding("r", "act('release')", _("Release")),
        Binding("question_mark", "help", _("Help"), key_display="?"),
        Binding("q", "quit", _("Quit")),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("escape", "clear_filter", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self.error: ClientError | None = None
        # It tells at once that the service is away; `_follow` comes back.
        self._client = AsyncClient(patience=0)
        self._queues: list[Queue] = []
        self._is_lost = False
        self._is_loaded = False
        self._is_stale = False
        self._are_queues_old = True

    def compose(self) -> ComposeResult:
        """Lay the application out."""
        yield Static(_("Reading the jobs …"), id="summary")
        yield Static(id="queues")
        yield JobRows()
        yield Input(id="filter", placeholder=_("words; Enter keeps them, Escape shows all"))
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow the jobs."""
        self.query_one(JobRows).focus()
        self.set_interval(1.0, self.query_one(JobRows).refresh)
        self.set_interval(_QUEUES_SECONDS, self._read_queues)
        self._read_queues()
        self._follow()

    async def on_unmount(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @work
    async def _follow(self) -> None:
        """Follow the jobs, and come back whenever the connection is lost."""
        while True:
            try:
                async for change in self._client.changes():
                    table = self._table
                    if change.is_reload:
                        table.replace([job async for job in self._client.jobs()])
                    elif change.jobs or change.gone:
                        table.update_jobs(change.jobs, change.gone)
                    self._are_queues_old |= bool(change.is_reload or change.jobs or change.gone)
                    self._is_loaded, was_lost, self._is_lost = True, self._is_lost, False
                    self._is_stale = change.stale
                    self._show_summary()
                    self._show_in_open_screen()
                    if was_lost:
                        self.notify(_("The service is back."))
                        for screen in self._open_jobs:
                            screen.follow()
            except ClientError as error:
                if not (self._is_loaded and error.is_temporary):
                    self.error = error
                    self.exit()
                    return
                self._is_lost = True
                self._show_summary()
            await asyncio.sleep(_RETRY_SECONDS)

    @work(group="queues", exclusive=True)
    async def _read_queues(self) -> None:
        """Read the load of the queues if jobs changed since the last time."""
        if not self._are_queues_old:
            return
        self._are_queues_old = False
        try:
            self._queues = await self._client.queues()
        except ClientError:
            # A scheduler without them, or one that is away: the jobs tell of it.
            self._queues = []
        self._show_summary()

    @property
    def _table(self) -> JobRows:
        return self.screen_stack[0].query_one(JobRows)

    def _show_summary(self) -> None:
        """Show how many jobs are in each state, the queues' load, and a lost connection."""
        first, table = self.screen_stack[0], self._table
        counts = Counter(job.state for job in table.jobs.values())
        line = Text()
        if self._is_lost:
            line.append(_(" The connection is lost; trying again … "), "bold reverse")
            line.append(" ")
        is_part = len(table.rows) < len(table.jobs)
        told = _("jobs: {shown} of {count}") if is_part else _("jobs: {count}")
        line.append(told.format(shown=len(table.rows), count=len(table.jobs)), "bold")
        for word, count in counts.most_common():
            line.append("  ").append(f"{count} ").append(state_text(word))
        filter_line = first.query_one(Input)
        if filter_line.value and not filter_line.display:
            line.append("  ").append(f"/{filter_line.value}", "bold")
        if self._is_stale:
            line.append("  ").append(_("The scheduler is silent; this is old."), "bold")
        first.query_one("#summary", Static).update(line)
        loads = Text()
        for queue in self._queues:
            figures = (queue.slots_used, queue.slots_total)
            used, total = ("?" if figure is None else str(figure) for figure in figures)
            loads.append(plain(queue.name), "bold").append(f" {used}/{total}  ")
        first.query_one("#queues", Static).update(loads)

    def _show_in_open_screen(self) -> None:
        """Show the fields of the open job as they are now."""
        for screen in self._open_jobs:
            fresh = self._table.jobs.get(screen.job.uid)
            if fresh is not None and fresh is not screen.job:
                screen.show(fresh)

    @property
    def _open_jobs(self) -> list[JobScreen]:
        return [screen for screen in self.screen_stack if isinstance(screen, JobScreen)]

    @property
    def _chosen(self) -> AsyncJob | None:
        """The job that keys act on: the open one, or that under the cursor."""
        return self.screen.job if isinstance(self.screen, JobScreen) else self._table.selected

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether a key means something on the present screen."""
        if action in ("open", "filter", "sort", "reverse", "clear_filter"):
            return len(self.screen_stack) == 1
        if action in ("delete", "act"):
            return not isinstance(self.screen, QuestionScreen | HelpScreen)
        return True

    def action_open(self) -> None:
        """Open the job under the cursor."""
        if (job := self._chosen) is not None:
            self.push_screen(JobScreen(job))

    def on_job_table_opened(self) -> None:
        """Open the job that was clicked twice."""
        self.action_open()

    def action_filter(self) -> None:
        """Ask for the words of the filter."""
        line = self.query_one(Input)
        line.display = True
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter by what is typed so far."""
        self._table.filter(event.value)
        self._show_summary()

    def on_input_submitted(self) -> None:
        """Go back to the table; the summary tells the filter from now on."""
        self.query_one(Input).display = False
        self._table.focus()
        self._show_summary()

    def action_clear_filter(self) -> None:
        """Show all jobs again."""
        line = self.query_one(Input)
        line.value = ""
        line.display = False
        self._table.focus()

    def action_sort(self) -> None:
        """Sort by the next column."""
        self._table.sort_by_next()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._table.reverse()

    def action_delete(self) -> None:
        """Ask, and end the chosen job or take it off the listing."""
        job = self._chosen
        if job is None:
            return
        asked = _("Take {job} off the listing?") if job.is_over else _("End {job}?")

        def answered(answer: bool | None) -> None:
            if answer:
                self._act(job, job.delete)

        name = f"{job.id} {job.name or ''}".strip()
        self.push_screen(QuestionScreen(asked.format(job=name)), answered)

    def action_act(self, name: str) -> None:
        """Hold or release the chosen job."""
        if (job := self._chosen) is not None:
            self._act(job, {"hold": job.hold, "release": job.release}[name])

    @work
    async def _act(self, job: AsyncJob, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except ClientError as error:
            self.notify(plain(error_text(error)), severity="error", markup=False)
        else:
            self.notify(_("{job}: done.").format(job=job.id), markup=False)

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen())

    def action_interrupt(self) -> None:
        """Leave as an interrupted program does."""
        self.exit(return_code=EXIT_INTERRUPTED)
