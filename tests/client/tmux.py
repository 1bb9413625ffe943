"""A real terminal, tmux's: keys are pressed in it, and its screen is read."""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.client.terminal import HPCQ, CommandLine
from tests.real import settings_of

from hpcq.schedulers.testing.waiting import until

__all__ = ["Tmux"]


@dataclass
class Tmux:
    """A terminal in which ``hpcq`` runs.

    Attributes:
        line: the command, with its folder and variables.
        socket: of the tmux server that belongs to this terminal.
    """

    line: CommandLine
    socket: Path
    _command: str = field(init=False, default_factory=lambda: settings_of("tmux")["TMUX_COMMAND"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server", check=False)

    def start(self, *words: str, size: tuple[int, int] = (80, 24), **variables: str) -> None:
        """Run ``hpcq`` in a new window of this size.

        Args:
            words: of the command line.
            size: columns and lines.
            variables: over those of the command's environment.
        """
        environment = {**self.line.environment, **variables}
        # The terminal tells its size itself.
        environment.pop("COLUMNS")
        given = [f"{name}={value}" for name, value in environment.items()]
        command = shlex.join(["env", "-i", "TERM=tmux-256color", *given, *HPCQ, *words])
        self._status.unlink(missing_ok=True)
        # The shell outlives Ctrl-C, and the screen outlives the command.
        script = f"trap : INT; {command}; echo $? >{self._status}; exec sleep 1000"
        self._tmux("kill-server", check=False)
        width, height = map(str, size)
        folder = str(self.line.folder)
        self._tmux("new-session", "-d", "-x", width, "-y", height, "-c", folder, script)

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names for them."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type a text."""
        self._tmux("send-keys", "-l", text)

    def screen(self, *, styled: bool = False) -> str:
        """Return what the terminal shows, with its colours if they are wanted."""
        return self._tmux("capture-pane", "-p", *(["-e"] if styled else []))

    def wait_for(self, pattern: str) -> str:
        """Wait until the screen holds a pattern; return the screen."""

        def look() -> str | None:
            shown = self.screen()
            return shown if re.search(pattern, shown) else None

        return until(look, lambda: f"no {pattern!r} in\n{self.screen()}")

    def wait_until_gone(self, pattern: str) -> str:
        """Wait until the screen holds a pattern no longer; return the screen."""

        def look() -> str | None:
            shown = self.screen()
            return None if re.search(pattern, shown) else shown or "\n"

        return until(look, lambda: f"still {pattern!r} in\n{self.screen()}")

    def status(self) -> int:
        """Wait until the command has ended; return its exit status."""

        def told() -> str | None:
            return self._status.read_text(encoding="ascii") if self._status.exists() else None

        return int(until(told, self.screen))

    @property
    def _status(self) -> Path:
        return self.socket.with_suffix(".status")

    def _tmux(self, *words: str, check: bool = True) -> str:
        # LANG tells tmux that its terminal knows more than ASCII.
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color"}
        command = [self._command, "-S", str(self.socket), "-f", "/dev/null", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout
