"""The command line in a real terminal: screens that change, keys, colours, Ctrl-C."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.terminal import HPCQ, CommandLine
from tests.client.tmux import Tmux

from hpcq.client import Client
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import ROOT_PATH, Service
from hpcq.schedulers.testing.waiting import until

COLOUR = "\x1b[3"

pytestmark = pytest.mark.tmux


@pytest.fixture
def hpcq(service: Service, client: Client, study: Study) -> CommandLine:
    """The command, in the working directory of a study; its jobs are ended with the test."""
    return CommandLine(study.directory, {"HPCQ_URL": f"{service.url}{ROOT_PATH}"})


@pytest.fixture
def terminal(hpcq: CommandLine) -> Iterator[Tmux]:
    # The path of a socket is short.
    with (
        tempfile.TemporaryDirectory(prefix="hpcq-t-") as folder,
        Tmux(hpcq, Path(folder) / "tmux") as new,
    ):
        yield new


@pytest.fixture
def held(client: Client, study: Study, waiting_script: str) -> str:
    """A job that waits to be released."""
    folder = study.directory
    job = client.submit(waiting_script, name="november", hold=True, working_directory=folder)
    return job.id


def test_top_jobs_and_keys(
    terminal: Tmux, held: str, client: Client, study: Study, waiting_script: str
) -> None:
    terminal.start("top")
    shown = terminal.wait_for(rf"\n{held} +QUEUED_HELD +november")
    assert "1 QUEUED_HELD" in shown
    assert max(map(len, shown.splitlines())) <= 80
    terminal.wait_for(r"Open .*Filter .*Sort .*End .*Hold .*Release .*Help .*Quit")
    terminal.press("r")
    terminal.wait_for(rf"\n{held} +RUNNING")
    terminal.press("Enter")
    terminal.wait_for(r"(?s)name +november.*began")
    terminal.press("Escape")
    terminal.wait_for("REMARK")
    second = client.submit(waiting_script, name="december", working_directory=study.directory).id
    terminal.wait_for(rf"\n{second} +\w+ +december")
    terminal.press("/")
    terminal.type("nove")
    terminal.wait_until_gone("december")
    terminal.press("Enter")
    terminal.wait_for("jobs: 1 of 2 .* /nove")
    terminal.press("d")
    terminal.wait_for(rf"End {held} november\?")
    terminal.press("y")
    terminal.wait_until_gone(rf"\n{held} ")
    assert client.job(held).wait().state == "FAILED"
    terminal.press("q")
    assert terminal.status() == 0


def test_top_narrow_portuguese_no_colours(terminal: Tmux, held: str) -> None:
    terminal.start("top", size=(40, 12), NO_COLOR="1", LANG="pt_BR.UTF-8")
    shown = terminal.wait_for(rf"\n{held} +QUEUED_HELD +november")
    assert "NOME" in shown
    terminal.wait_for("Abrir")
    colours = re.findall(r"\x1b\[[0-9;]*m", terminal.screen(styled=True))
    assert {code for code in colours if re.search(r"[\[;][349][0-7]", code)} == set()
    terminal.press("C-c")
    assert terminal.status() == 130


def test_top_without_a_service(terminal: Tmux) -> None:
    terminal.start("top", HPCQ_URL="http://127.0.0.1:1")
    assert terminal.status() == 3
    assert "cannot be reached" in terminal.screen()


def test_top_in_pipe(hpcq: CommandLine) -> None:
    done = hpcq.in_pipe(*HPCQ, "top")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr
    assert done.stderr.count("\n") == 1


def test_watch_until_interrupted(terminal: Tmux, held: str, client: Client) -> None:
    terminal.start("ls", "--watch")
    terminal.wait_for(rf"\n{held} +QUEUED_HELD")
    client.job(held).release()
    terminal.wait_for(rf"\n{held} +RUNNING")
    assert COLOUR in terminal.screen(styled=True)
    terminal.press("C-c")
    assert terminal.status() == 130


def test_logs_follow(terminal: Tmux, held: str, client: Client) -> None:
    terminal.start("logs", "-f", held)
    client.job(held).release()
    terminal.wait_for("began")
    (terminal.line.folder / "go").touch()
    assert terminal.status() == 0, terminal.screen()
    assert "ended" in terminal.screen()


def test_submit_follow_exit_status(terminal: Tmux, waiting_script: str) -> None:
    terminal.start("submit", "--follow", waiting_script)
    terminal.wait_for("began")
    (terminal.line.folder / "go").touch()
    assert terminal.status() == 3
    assert "ended" in terminal.screen()


def test_wait_interrupted(terminal: Tmux, held: str, client: Client) -> None:
    terminal.start("wait", held, LANG="pt_BR.UTF-8")
    terminal.wait_for(f"job {held}.*Ctrl-C")
    terminal.press("C-c")
    assert terminal.status() == 130
    assert not client.job(held).is_over


def test_output_with_escape_sequences(terminal: Tmux, client: Client, study: Study) -> None:
    script = study.script("printf 'one\\033[2J\\033[31mtwo\\033]0;title\\007\\rthree\\a\\n'")
    job = client.submit(script, working_directory=study.directory).wait()
    terminal.start("top")
    terminal.wait_for(rf"\n{job.id} +DONE")
    terminal.press("Enter")
    terminal.wait_for(r"onetwo\nthree\ufffd")
    assert "uid" in terminal.screen()


def test_top_after_service_restart(terminal: Tmux, service: Service, held: str) -> None:
    terminal.start("top", size=(120, 24))
    terminal.wait_for(rf"\n{held} ")
    port = service.port
    service.stop()
    terminal.wait_for("connection is lost")
    service.settings["PORT"] = str(port)
    service.start()
    terminal.wait_until_gone("connection is lost")
    until(lambda: re.search(rf"\n{held} ", terminal.screen()))
