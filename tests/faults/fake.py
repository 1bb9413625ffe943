"""A scheduler made of one small script under many names, whose every answer a test decides."""

import contextlib
import secrets
import time
from pathlib import Path

__all__ = ["COMMANDS", "FakeScheduler", "counting_wrapper", "processes_with"]

COMMANDS = {
    "SLURM": ("sbatch", "squeue", "sacct", "sstat", "scancel", "scontrol", "sinfo"),
    "SGE": ("qsub", "qstat", "qacct", "qdel", "qhost", "qconf", "qhold", "qrls", "qalter"),
}
SUBMIT = {"SLURM": "sbatch", "SGE": "qsub"}
LIST = {"SLURM": "squeue", "SGE": "qstat"}

EMPTY_QSTAT = """\
<?xml version='1.0'?>
<job_info xmlns:xsd="http://www.w3.org/2001/XMLSchema">
  <queue_info>
  </queue_info>
  <job_info>
  </job_info>
</job_info>
"""

# Absolute paths throughout: nothing but the fake commands stands in PATH. Every run is counted by
# one byte, which is appended in one go. The mark makes the processes recognisable.
SCRIPT = """\
#!/bin/sh
printf . >> {directory}/{command}.runs
mode=ok
[ -r {directory}/{command}.mode ] && read -r mode < {directory}/{command}.mode
case $mode in
  ok) exec /bin/cat {directory}/{command}.answer ;;
  id) echo $$ ;;
  hang) /bin/sh -c '/bin/sleep 300.{mark}; :' & /bin/sleep 300.{mark} ;;
  deaf) trap '' TERM INT HUP; while :; do /bin/sleep 300.{mark}; done ;;
  noise) /usr/bin/head -c 1048576 /dev/urandom | /usr/bin/base64 ;;
  endless) exec /usr/bin/tr '\\0' x < /dev/zero ;;
  half) /usr/bin/head -c 90 {directory}/half.xml ;;
  binary) printf 'caf\\351 \\377\\376\\200\\0 <job_info>\\303\\n' ;;
  silent) exit 0 ;;
  away)
    echo 'error: Unable to contact slurm controller (connect failure)' >&2
    echo 'error: unable to send message to qmaster using port 1 on host "vm": got send error' >&2
    exit 1 ;;
  fail) echo 'the fake scheduler is out of order' >&2; exit 1 ;;
  crash) kill -SEGV $$ ;;
esac
"""


class FakeScheduler:
    """All commands of one scheduler, in a directory of their own.

    Attributes:
        path: the ``SCHEDULER_PATH`` that has them and nothing else.
        mark: stands in the command line of every process that hangs.
    """

    def __init__(self, directory: Path, scheduler: str) -> None:
        self.scheduler = scheduler
        self.mark = str(100000 + secrets.randbelow(900000))
        self.path = directory / "bin"
        self._directory = directory / "control"
        self.commands = COMMANDS[scheduler]
        self.submit, self.list = SUBMIT[scheduler], LIST[scheduler]
        for folder in (self.path, self._directory):
            folder.mkdir(parents=True)
        (self._directory / "half.xml").write_text(EMPTY_QSTAT)
        for command in COMMANDS[scheduler]:
            script = self.path / command
            script.write_text(
                SCRIPT.format(directory=self._directory, command=command, mark=self.mark)
            )
            script.chmod(0o755)
            answer = EMPTY_QSTAT if command == "qstat" else ""
            (self._directory / f"{command}.answer").write_text(answer)
        self.behave(self.submit, "id")
        self._root = directory / "root"
        (self._root / "default" / "common").mkdir(parents=True)
        (self._root / "default" / "common" / "accounting").write_text("")

    def settings(self) -> dict[str, str]:
        """The variables that make a service use it."""
        own = {"SGE_ROOT": str(self._root), "SGE_CELL": "default"}
        return {
            "SCHEDULER": self.scheduler,
            "SCHEDULER_PATH": str(self.path),
            **(own if self.scheduler == "SGE" else {}),
        }

    def behave(self, command: str, mode: str) -> None:
        """Make a command answer in another way from now on."""
        new = self._directory / f"{command}.new"
        new.write_text(mode + "\n")
        new.rename(self._directory / f"{command}.mode")

    def behave_all(self, mode: str) -> None:
        """Make all commands but the submission answer in another way."""
        for command in COMMANDS[self.scheduler]:
            if command != self.submit:
                self.behave(command, mode)

    def remove(self, command: str) -> None:
        """Uninstall a command."""
        (self.path / command).unlink()

    def runs(self, *commands: str) -> int:
        """How often these commands, or all, have been run."""
        found = 0
        for command in commands or COMMANDS[self.scheduler]:
            with contextlib.suppress(FileNotFoundError):
                found += (self._directory / f"{command}.runs").stat().st_size
        return found

    def left_behind(self, seconds: float = 5.0) -> list[str]:
        """The hanging commands that are still there after a while; empty as soon as none is."""
        return processes_with(self.mark, seconds)


def processes_with(mark: str, seconds: float) -> list[str]:
    """The command lines that hold a mark, once they had time to go."""
    deadline = time.monotonic() + seconds
    while (found := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _marked(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                )
                if mark in line:
                    found.append(f"{entry.name}: {line}")
    return found


def counting_wrapper(directory: Path, program: Path, *, then_hang: str | None = None) -> None:
    """Put a script before a real command that counts its runs, and may not end afterwards."""
    directory.mkdir(parents=True, exist_ok=True)
    script = directory / program.name
    hang = f'{program} "$@" > /dev/null 2>&1\nexec /bin/sleep 300.{then_hang}\n'
    script.write_text(
        f"#!/bin/sh\nprintf . >> {directory}/{program.name}.runs\n"
        + (f'exec {program} "$@"\n' if then_hang is None else hang)
    )
    script.chmod(0o755)
