"""``hpcq top`` without a terminal: each key and screen, as Textual's pilot presses and sees."""

import asyncio
import importlib
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
from tests.client.cutting import cutting
from tests.client.many_jobs import many_jobs
from textual.pilot import Pilot

from hpcq.cli import texts, top_app
from hpcq.client import Client, Job, async_connection
from hpcq.client.errors import Unreachable
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import ROOT_PATH, Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, eventually

Submit = Callable[..., Job]


class Top:
    """The running application."""

    def __init__(self, pilot: Pilot[None]) -> None:
        self.app = pilot.app
        self._pilot = pilot

    def lines(self) -> list[str]:
        """Return the lines of the screen as they are drawn."""
        return [strip.text.rstrip() for strip in self.app.screen._compositor.render_strips()]

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until they are handled."""
        await self._pilot.press(*keys)
        await self._pilot.pause()

    async def see(self, pattern: str) -> str:
        """Wait until the screen holds a pattern; return the screen."""
        return await self._look(pattern, is_there=True)

    async def miss(self, pattern: str) -> str:
        """Wait until the screen holds a pattern no longer; return the screen."""
        return await self._look(pattern, is_there=False)

    async def _look(self, pattern: str, *, is_there: bool) -> str:
        deadline = monotonic() + PATIENCE_SECONDS
        while (re.search(pattern, shown := "\n".join(self.lines())) is not None) != is_there:
            assert monotonic() < deadline, f"{pattern!r}: {not is_there} in\n{shown}"
            await asyncio.sleep(0.02)
        return shown

    def names(self) -> list[str]:
        """Return the names of the jobs of the table, from top to bottom."""
        return [job.name or "" for job in self.app.screen_stack[0].query_one("JobRows").rows]  # type: ignore[attr-defined]


@asynccontextmanager
async def opened(width: int = 120, height: int = 30) -> AsyncIterator[Top]:
    # As imported now: the language is chosen with the import.
    app = sys.modules["hpcq.cli.top_app"].TopApp()
    async with app.run_test(size=(width, height), notifications=True) as pilot:
        try:
            yield Top(pilot)
        finally:
            # The application ends them before its screens; the pilot takes the screens first.
            app.workers.cancel_all()


@pytest.fixture(autouse=True)
def address(service: Service, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tells ``hpcq`` the service, which lists no job yet."""
    for job in client.jobs():
        job.delete()
    monkeypatch.setenv("HPCQ_URL", f"{service.url}{ROOT_PATH}")


@pytest.fixture
def submit(client: Client, study: Study, waiting_script: str) -> Submit:
    """Submits a job that waits to be released, unless told otherwise."""

    def make(name: str, *, hold: bool = True, slots: int = 1) -> Job:
        folder = study.directory
        return client.submit(
            waiting_script, name=name, hold=hold, slots=slots, working_directory=folder
        )

    return make


def test_sort_and_reverse(submit: Submit) -> None:
    for name, slots in (("bravo", 1), ("charlie", 3), ("alpha", 2)):
        submit(name, slots=slots)

    async def run() -> None:
        async with opened() as top:
            shown = await top.see(r"(?s)alpha.*charlie.*bravo")
            assert "▼" not in shown
            await top.press("s", "s", "s")
            assert "NAME▼" in await top.see("NAME.")
            assert top.names() == ["alpha", "bravo", "charlie"]
            await top.press("S")
            await top.see("NAME▲")
            assert top.names() == ["charlie", "bravo", "alpha"]
            await top.press("S", "s", "s", "s")
            await top.see("SLOTS▼")
            assert top.names() == ["bravo", "alpha", "charlie"]
            await top.press("s", "s")
            await top.miss("▼")

    asyncio.run(run())


def test_filter_keep_and_clear(submit: Submit) -> None:
    submit("november")
    submit("december")

    async def run() -> None:
        async with opened() as top:
            await top.see(r"(?s)december.*november")
            await top.press("slash", *"nove")
            await top.miss("december")
            await top.press("enter")
            await top.see(r"jobs: 1 of 2.* /nove")
            await top.press("s")
            assert top.names() == ["november"]
            await top.press("escape")
            await top.see("jobs: 2 ")
            await top.press("slash", *"none such", "escape")
            await top.see(r"(?s)jobs: 2 .*december")

    asyncio.run(run())


def test_open_and_follow_output(submit: Submit, study: Study) -> None:
    job = submit("november", hold=False)

    async def run() -> None:
        async with opened(height=40) as top:
            await top.see("RUNNING +november")
            await top.press("enter")
            await top.see(rf"(?s)job +{job.id}\n.*── output.*began")
            await top.press("slash", "s", "S")
            (study.directory / "go").touch()
            await top.see(r"(?s)exit code +3.*ended")
            await top.press("e")
            await top.see("── errors")
            await top.miss("ended$")
            await top.press("escape")
            await top.see(rf"{job.id} +FAILED +november")

    asyncio.run(run())


def test_hold_release_and_refusal(submit: Submit) -> None:
    job = submit("november")

    async def run() -> None:
        async with opened() as top:
            await top.see("QUEUED_HELD +november")
            await top.press("r")
            await top.see(f"{job.id}: done")
            await top.see("RUNNING +november")
            await top.press("h")
            await top.see("this one is RUNNING")
            assert top.names() == ["november"]

    asyncio.run(run())


@pytest.mark.parametrize("refusing", ["n", "escape", "enter", "q"])
def test_delete_refused(submit: Submit, client: Client, refusing: str) -> None:
    job = submit("november")

    async def run() -> None:
        async with opened() as top:
            await top.see("QUEUED_HELD +november")
            await top.press("d")
            await top.see(rf"End {job.id} november\?")
            await top.press("d", "h", refusing)
            await top.miss(r"november\?")

    asyncio.run(run())
    assert client.job(job.id).state == "QUEUED_HELD"


def test_delete_confirmed(submit: Submit, client: Client) -> None:
    job = submit("november", hold=False)

    async def run() -> None:
        async with opened() as top:
            await top.see("RUNNING +november")
            await top.press("enter", "d")
            await top.see(rf"End {job.id} november\?")
            await top.press("y")
            await top.see("state +FAILED|jobs: 0|done")
            await top.press("escape")
            await top.see("jobs: 0")

    asyncio.run(run())
    assert client.job(job.uid).wait().failure_kind == "CANCELLED"


def test_help_and_quit(submit: Submit) -> None:
    submit("november")

    async def run() -> None:
        async with opened() as top:
            await top.see("november")
            await top.press("question_mark")
            await top.see("sort by the next column; turn the order round")
            await top.press("d", "q")
            await top.miss("turn the order round")
            assert "november" in "\n".join(top.lines())
            await top.press("q")
            assert (top.app.return_code, top.app.error) == (0, None)  # type: ignore[attr-defined]
        async with opened() as top:
            await top.press("question_mark", "ctrl+c")
            assert top.app.return_code == 130

    asyncio.run(run())


@pytest.mark.parametrize(
    ("width", "headers"),
    [
        (60, ["JOB", "STATE", "NAME", "REMARK"]),
        (160, ["JOB", "STATE", "NAME", "OWNER", "QUEUE", "SLOTS", "ELAPSED", "REMARK"]),
    ],
)
def test_columns_each_width(submit: Submit, width: int, headers: list[str]) -> None:
    submit("a-name-that-is-longer-than-its-column-in-every-width")

    async def run() -> None:
        async with opened(width=width) as top:
            shown = await top.see(r"QUEUED_HELD +a-name-that[a-z-]*…")
            assert headers in [line.split() for line in shown.splitlines()]
            assert max(map(len, shown.splitlines())) <= width
            await top.see("Open.*Filter.*Sort.*End.*Hold.*Release")

    asyncio.run(run())


def test_sentences_portuguese(submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit("november")
    monkeypatch.setattr(texts, "_speaks_portuguese", True)
    for name in ("hpcq.cli.top_screens", "hpcq.cli.top_app"):
        monkeypatch.delitem(sys.modules, name)
    importlib.import_module("hpcq.cli.top_app")

    async def run() -> None:
        async with opened() as top:
            shown = await top.see("QUEUED_HELD +november")
            assert re.search("JOB +ESTADO +NOME +DONO +FILA +SLOTS", shown)
            await top.see("Abrir.*Sair")
            await top.press("d")
            await top.see(rf"Encerrar {job.id} november\?")
            await top.press("n", "question_mark")
            await top.see("escolhem um job")

    asyncio.run(run())


def test_no_jobs() -> None:
    async def run() -> None:
        async with opened() as top:
            await top.see("jobs: 0")
            await top.press("enter", "d", "h", "r", "s", "S", "down", "end", "pagedown")
            assert len(top.app.screen_stack) == 1
            assert top.app.return_code is None

    asyncio.run(run())


def test_ten_thousand_jobs(submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    with many_jobs(submit("november").refresh(), 10_000) as url:
        monkeypatch.setenv("HPCQ_URL", url)

        async def run() -> None:
            async with opened() as top:
                await top.see("jobs: 10000")
                await top.press("end")
                await top.see("study-9999")
                await top.press("s")
                await top.see("JOB▼")
                await top.press("S", "home")
                await top.see(r"(?s)▲.*\n109999 ")
                await top.press("slash", *"study-4711", "enter")
                await top.see("jobs: 1 of 10000")
                assert top.names() == ["study-4711"]

        asyncio.run(run())


def test_service_away_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: Study
) -> None:
    monkeypatch.setattr(top_app, "_RETRY_SECONDS", 0.1)
    with Service(tmp_path, {"SCHEDULER": "LOCAL"}) as service, Client(service.url) as client:
        service.settings["PORT"] = str(service.port)
        monkeypatch.setenv("HPCQ_URL", service.url)
        script = study.script("exit 0\n")
        client.submit(script, name="november", hold=True, working_directory=study.directory)

        async def run() -> None:
            async with opened() as top:
                await top.see("QUEUED_HELD +november")
                await asyncio.to_thread(service.stop)
                assert "november" in await top.see("The connection is lost")
                await top.press("h")
                await top.see("cannot be reached")
                await asyncio.to_thread(service.start)
                await top.see("The service is back")
                assert "november" in await top.miss("The connection is lost")

        asyncio.run(run())


def test_output_goes_on_after_loss(
    submit: Submit, service: Service, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_app, "_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(async_connection, "SILENCE_SECONDS", 1.0)
    with cutting(service) as proxy:
        monkeypatch.setenv("HPCQ_URL", f"{proxy.url}{ROOT_PATH}")
        submit("november", hold=False)

        async def run() -> None:
            async with opened(height=40) as top:
                await top.see("RUNNING +november")
                await top.press("enter")
                await top.see("\nbegan")
                proxy.stall()
                (study.directory / "go").touch()
                await top.see("The service is back")
                await top.see("\nbegan\nended")

        asyncio.run(run())


def test_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCQ_URL", "http://127.0.0.1:1")

    async def run() -> None:
        async with opened() as top:
            await eventually(lambda: asyncio.sleep(0, not top.app.is_running))
            assert isinstance(top.app.error, Unreachable)  # type: ignore[attr-defined]

    asyncio.run(run())
