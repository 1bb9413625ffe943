"""The command line as a user runs it: in a pipe, and in a pseudo-terminal."""

import contextlib
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from typer.testing import CliRunner, Result

from hpcq.cli.main import app
from hpcq.schedulers.testing.service import INSTALLATION, clean_environment

__all__ = ["HPCQ", "CommandLine", "unstyled"]

HPCQ = (sys.executable, "-m", "hpcq")

_STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class CommandLine:
    """The command ``hpcq``.

    Attributes:
        folder: it is run there.
        variables: over those of a clean environment.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the command."""
        path = str(INSTALLATION / "src")
        home = {"HOME": str(self.folder), "PYTHONPATH": path, "COLUMNS": "160"}
        return {**clean_environment(), **home, **self.variables}

    def run(self, *words: str, status: int = 0, text: str = "") -> str:
        """Run it in this process, as in a pipe; return its standard output.

        Args:
            words: of the command line.
            status: its exit status.
            text: on its standard input.
        """
        done = self.done(*words, text=text)
        assert done.exit_code == status, f"{done.exit_code}: {done.stdout}\n{done.stderr}"
        assert status != 0 or done.stderr == ""
        return done.stdout

    def done(self, *words: str, text: str = "") -> Result:
        """Run it in this process, as in a pipe; return what came of it."""
        with contextlib.chdir(self.folder):
            return CliRunner().invoke(
                app, words, prog_name="hpcq", env=self.environment, input=text
            )

    def in_pipe(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own; return what came of it."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def in_terminal(self, *words: str, until: str | None = None) -> tuple[str, int]:
        """Run it in a terminal; return what it showed there, and its exit status.

        Args:
            words: of the command line.
            until: interrupts it, as Ctrl-C does, once it has shown this.
        """
        near, far = pty.openpty()
        process = subprocess.Popen(
            [*HPCQ, *words],
            cwd=self.folder,
            env={**self.environment, "TERM": "xterm-256color"},
            stdin=far,
            stdout=far,
            stderr=far,
            start_new_session=True,
        )
        os.close(far)
        shown = b""
        try:
            while piece := _read(near):
                shown += piece
                if until is not None and until.encode() in shown:
                    process.send_signal(2)
                    until = None
        finally:
            os.close(near)
        return shown.decode().replace("\r\n", "\n"), process.wait()


def unstyled(shown: str) -> str:
    """Return what a terminal showed without colours and movements."""
    return _STYLES.sub("", shown)


def _read(terminal: int) -> bytes:
    """Return what a terminal shows next; nothing when its last process has ended."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
