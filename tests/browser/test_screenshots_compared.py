"""The pictures of ``docs/compared.md``: a scheduler's commands, ``hpcq`` and the page."""

import contextlib
import io
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from tests.backends import SGE, SLURM
from tests.browser.conftest import Reader, submit
from tests.browser.test_screenshots import folder, take
from tests.client.terminal import CommandLine

from hpcq.schedulers.testing.service import Service, clean_environment

__all__ = ["folder"]

COLUMNS = 116
FORMAT = """<meta charset="utf-8"><style>
body {{ margin: 0; padding: 12px; background: {background}; color: {foreground}; }}
pre {{ margin: 0; font: 13px/1.35 "DejaVu Sans Mono", monospace; }}
</style><pre>{code}</pre>"""


@dataclass(frozen=True)
class Terminal:
    """A terminal of somebody who asks about jobs of one service.

    Attributes:
        service: answers ``hpcq``; its settings lead the scheduler's commands.
        browser: draws the terminal.
        folder: takes the pictures.
    """

    service: Service
    browser: Browser
    folder: Path

    def native(self, name: str, *commands: str) -> str:
        """Run commands of the scheduler, and draw them; return their output."""
        environment = {**clean_environment(), **self.service.settings, "COLUMNS": str(COLUMNS)}
        outputs = [
            subprocess.run(
                shlex.split(command),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            ).stdout
            for command in commands
        ]
        self._draw(name, zip(commands, outputs, strict=True))
        return "".join(outputs)

    def hpcq(self, name: str, *words: str) -> str:
        """Run ``hpcq`` in a terminal, and draw it; return its output."""
        variables = {"HPCQ_URL": self.service.url, "COLUMNS": str(COLUMNS)}
        output, status = CommandLine(self.service.directory, variables).in_terminal(*words)
        assert status == 0, output
        self._draw(name, [(" ".join(("hpcq", *words)), output)])
        return output

    def _draw(self, name: str, commands: Iterable[tuple[str, str]]) -> None:
        console = Console(
            record=True,
            width=COLUMNS,
            file=io.StringIO(),
            force_terminal=True,
            legacy_windows=False,
        )
        for command, output in commands:
            console.print(Text(f"$ {command}", style="bold"))
            console.print(Text.from_ansi(output.rstrip("\n")))
        page = self.browser.new_page(viewport={"width": 940, "height": 100})
        page.set_content(console.export_html(theme=MONOKAI, code_format=FORMAT, inline_styles=True))
        page.screenshot(path=self.folder / name, full_page=True, scale="css")
        page.close()


@contextlib.contextmanager
def waiting_job(service: Service) -> Iterator[str]:
    """Keep a job that waits for a held one; give its native id."""
    first = submit(service, name="study", hold=True)
    depends = [{"jobId": first["uid"], "condition": "any"}]
    second = submit(service, name="follow-up", dependsOn=depends)
    try:
        yield second["jobId"]
    finally:
        for job in (second, first):
            service.client.delete(f"/jobs/{job['uid']}").raise_for_status()


@pytest.mark.slurm
def test_pictures_of_slurm_compared(
    start_service: Callable[..., Service], browser: Browser, reader: Reader, folder: Path
) -> None:
    service = start_service(**SLURM.settings())
    terminal = Terminal(service, browser, folder)
    failed = submit(service, name="decomp", script="#!/bin/sh\nexit 3\n")
    page = reader(service)
    expect(page.get_by_role("row", name="decomp")).to_contain_text("Failed")
    with waiting_job(service) as waits:
        shown = terminal.native(
            "slurm-waits.png", f"squeue --jobs {waits}", f"scontrol show job {waits}"
        )
        assert "Reason=Dependency" in shown
        assert "follow-up" in terminal.hpcq("slurm-waits-hpcq.png", "show", waits)
        page.get_by_role("row", name="follow-up").click()
        expect(page.locator(".timeline")).to_contain_text("Submitted")
        take(page, folder / "slurm-page.png")
    shown = terminal.native(
        "slurm-failed.png",
        f"squeue --jobs {failed['jobId']}",
        f"sacct --jobs {failed['jobId']}",
    )
    assert "3:0" in shown
    assert "decomp" in terminal.hpcq("slurm-failed-hpcq.png", "show", failed["jobId"])


@pytest.mark.sge
def test_pictures_of_sge_compared(
    start_service: Callable[..., Service], browser: Browser, folder: Path
) -> None:
    service = start_service(**SGE.settings())
    terminal = Terminal(service, browser, folder)
    with waiting_job(service) as waits:
        assert waits in terminal.native("sge-waits.png", "qstat", f"qstat -j {waits}")
        assert "follow-up" in terminal.hpcq("sge-waits-hpcq.png", "show", waits)
