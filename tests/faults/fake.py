"""A scheduler made of one small script under many names, whose every answer a test decides."""

import contextlib
import os
import secrets
import signal
from pathlib import Path

from hpcq.schedulers.testing.waiting import until

__all__ = [
    "COMMANDS",
    "FENCE",
    "HANGS_SECONDS",
    "LIMIT_SECONDS",
    "FakeScheduler",
    "counting_wrapper",
    "left_behind",
    "processes_with",
]

COMMANDS = {
    "SLURM": ("sbatch", "squeue", "sacct", "sstat", "scancel", "scontrol", "sinfo"),
    "SGE": ("qsub", "qstat", "qacct", "qdel", "qhost", "qconf", "qhold", "qrls", "qalter"),
    "TORQUE": ("qsub", "qstat", "qdel", "qhold", "qrls", "tracejob", "pbsnodes"),
    "PBS": ("qsub", "qstat", "qselect", "qdel", "qhold", "qrls", "tracejob", "pbsnodes"),
}
SUBMIT = {"SLURM": "sbatch", "SGE": "qsub", "TORQUE": "qsub", "PBS": "qsub"}
LIST = {"SLURM": "squeue", "SGE": "qstat", "TORQUE": "qstat", "PBS": "qstat"}

EMPTY_QSTAT = """\
<?xml version='1.0'?>
<job_info xmlns:xsd="http://www.w3.org/2001/XMLSchema">
  <queue_info>
  </queue_info>
  <job_info>
  </job_info>
</job_info>
"""
EMPTY_LISTING = {
    "SLURM": b"",
    "SGE": EMPTY_QSTAT.encode(),
    "TORQUE": b"<Data></Data>\n",
    "PBS": b"",
}

# Absolute paths throughout: nothing but the fake commands stands in PATH. Every run is counted by
# one byte, which is appended in one go. The mark makes the processes recognisable.
#
# An answer is a folder of pieces, printed in the order of their names; what a command is asked for
# (all jobs, some, or a search by key) chooses among its folders. Recordings fence free text with
# a fixed secret, for which the secret of this call is put.
#
# A trial of a submission (sbatch --test-only) counts for none; ``trial`` holds what refuses it.
#
# take-MODE takes the job before it does MODE: it is put into the answers as `templates` say.
SCRIPT = """\
#!/bin/sh
case "$*" in *--test-only*)
  [ -r {directory}/trial ] || exit 0
  /bin/cat {directory}/trial >&2
  exit 1 ;;
esac
printf . >> {directory}/{command}.runs
mode=ok
[ -r {directory}/{command}.mode ] && read -r mode < {directory}/{command}.mode
case "$*" in
  *--me*|*--starttime=*) question=search ;;
  "-x -t") question=all ;;
  *--jobs=*|"-j "*|"-x "*) question=some ;;
  *) question=all ;;
esac
answer={directory}/{command}.$question
[ -d $answer ] || answer={directory}/{command}.all
case $mode in take-*)
  mode=${{mode#take-}}
  key=$(printf '%s' "$*" | /usr/bin/grep -o -m 1 'hpcq-[0-9a-f]*' | /usr/bin/head -n 1)
  now=$(/bin/date +%s)
  now=$((now + $(/bin/cat {directory}/ahead)))
  iso=$(/bin/date -d @$now +%Y-%m-%dT%H:%M:%S)
  printf '%s\\0' "$@" > {directory}/argv.$$
  /bin/cat > {directory}/stdin.$$
  /bin/cat /proc/$$/environ > {directory}/environ.$$
  for template in {directory}/templates/*; do
    [ -r $template ] || continue
    /bin/sed "s/@ID@/$$/g; s/@KEY@/$key/g; s/@EPOCH@/$now/g; s/@ISO@/$iso/g" $template \
      > {directory}/taken.$$
    /bin/mv {directory}/taken.$$ {directory}/${{template##*/}}/5-$$
  done ;;
esac
case $mode in
  ok)
    secret=$(printf '%s' "$SQUEUE_FORMAT$SQUEUE_FORMAT2$*" \\
      | /usr/bin/tr '\\035\\036\\037' '\\n\\n\\n' | /usr/bin/grep -x -m 1 '[0-9a-f]\\{{16\\}}')
    /bin/cat $answer/* | LC_ALL=C /bin/sed "s/{secret}/$secret/g"
    [ -r $answer.stderr ] && /bin/cat $answer.stderr >&2
    [ -r $answer.status ] && exit "$(/bin/cat $answer.status)"
    exit 0 ;;
  id) echo $$ ;;
  hang) /bin/sh -c '/bin/sleep 300.{mark}; :' & /bin/sleep 300.{mark} ;;
  deaf) trap '' TERM INT HUP; while :; do /bin/sleep 300.{mark}; done ;;
  noise) /usr/bin/head -c 1048576 /dev/urandom | /usr/bin/base64 ;;
  endless) exec /usr/bin/tr '\\0' x < /dev/zero ;;
  half) /usr/bin/head -c {half} {directory}/half ;;
  binary) printf 'caf\\351 \\377\\376\\200\\0 <job_info>\\303\\n' ;;
  banner) printf 'Welcome to Stampede3\\n%s\\nIt is 7 o clock\\n' $$ ;;
  noisy) echo 'Welcome to Stampede3: 3 jobs of yours, quota 7' >&2; echo $$ ;;
  with-cluster) echo "$$;stampede3" ;;
  silent) exit 0 ;;
  away)
    echo 'error: Unable to contact slurm controller (connect failure)' >&2
    echo 'error: unable to send message to qmaster using port 1 on host "vm": got send error' >&2
    echo '{command}: cannot connect to server vm (errno=111) Connection refused' >&2
    echo 'cannot connect to server pbshead (errno=15010)' >&2
    exit 1 ;;
  refuse) echo '{command}: error: the fake scheduler does not want it' >&2; exit 1 ;;
  fail) echo 'the fake scheduler is out of order' >&2; exit 1 ;;
  crash) kill -SEGV $$ ;;
esac
"""
FENCE = "0123456789abcdef"
HANGS_SECONDS = 300
# What a test gives commands of which some hang: the others are surely done by then.
LIMIT_SECONDS = 5


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
        document = EMPTY_LISTING[scheduler] or EMPTY_QSTAT.encode()
        (self._directory / "half").write_bytes(document)
        (self._directory / "templates").mkdir()
        self.set_clock(0)
        for command in COMMANDS[scheduler]:
            script = self.path / command
            script.write_text(
                SCRIPT.format(
                    directory=self._directory,
                    command=command,
                    mark=self.mark,
                    secret=FENCE,
                    half=len(document) // 2,
                )
            )
            script.chmod(0o755)
            self.answer(command, EMPTY_LISTING[scheduler] if command == self.list else b"")
        self.behave(self.submit, "id")
        self._root = directory / "root"
        self.accounting_file.parent.mkdir(parents=True)
        self.accounting_file.write_text("")

    @property
    def accounting_file(self) -> Path:
        """Grid Engine's, or Torque's of one day, which is read without any command."""
        if self.scheduler == "TORQUE":
            return self._root / "server_priv" / "accounting" / "20261101"
        return self._root / "default" / "common" / "accounting"

    def settings(self) -> dict[str, str]:
        """The variables that make a service use it."""
        own = {
            "SLURM": {},
            "SGE": {"SGE_ROOT": str(self._root), "SGE_CELL": "default"},
            "TORQUE": {"TORQUE_HOME": str(self._root)},
            "PBS": {"PBS_CONF_FILE": "/nonexistent/pbs.conf"},
        }
        return {
            "SCHEDULER": self.scheduler,
            "SCHEDULER_PATH": str(self.path),
            **own[self.scheduler],
        }

    def behave(self, command: str, mode: str) -> None:
        """Make a command answer in another way from now on."""
        self._write(f"{command}.mode", f"{mode}\n".encode())

    def behave_all(self, mode: str) -> None:
        """Make all commands but the submission answer in another way."""
        for command in COMMANDS[self.scheduler]:
            if command != self.submit:
                self.behave(command, mode)

    def answer(
        self,
        command: str,
        stdout: bytes,
        *,
        question: str = "all",
        stderr: bytes = b"",
        exit_status: int = 0,
    ) -> None:
        """Make a command print this, and nothing else, in its mode ``ok``.

        Args:
            command: its name.
            stdout: recorded or constructed; `FENCE` in it becomes the secret of each call.
            question: ``all``, ``some`` (named jobs) or ``search`` (by key).
            stderr: what it complains.
            exit_status: how it ends.
        """
        name = f"{command}.{question}"
        self.end_with(name, exit_status, stderr)
        folder = self._directory / name
        folder.mkdir(exist_ok=True)
        for piece in folder.glob("[!0]*"):
            piece.unlink()
        self._write(f"{name}/0", stdout)

    def end_with(self, place: str, exit_status: int, stderr: bytes = b"") -> None:
        """Let an answer, ``squeue.all``, end with another exit status and complaint."""
        self._write(f"{place}.stderr", stderr)
        self._write(f"{place}.status", str(exit_status).encode())

    def put(self, place: str, name: str, piece: bytes) -> None:
        """Add a piece to an answer, ``squeue.all``, or change it; pieces come in order of names."""
        self._write(f"{place}/{name}", piece)

    def drop(self, place: str, name: str) -> None:
        """Take a piece out of an answer."""
        (self._directory / place / name).unlink(missing_ok=True)

    def template(self, place: str, piece: bytes) -> None:
        """Say what a submission adds to an answer when it takes a job.

        ``@ID@``, ``@KEY@``, ``@EPOCH@`` and ``@ISO@`` in it are replaced.
        """
        self._write(f"templates/{place}", piece)
        if not (self._directory / place).exists():
            command, _, question = place.partition(".")
            self.answer(command, b"", question=question)

    def keep_from_view(self) -> None:
        """Let no answer show the jobs that are taken from now on."""
        for template in (self._directory / "templates").iterdir():
            template.unlink()

    def taken_ids(self) -> list[str]:
        """The ids of all jobs that were taken."""
        return [path.suffix[1:] for path in self._directory.glob("argv.*")]

    def set_clock(self, seconds_ahead: int) -> None:
        """Set the scheduler's clock before, or behind, that of this machine."""
        self._write("ahead", str(seconds_ahead).encode())

    def taken(self, job_id: str) -> tuple[list[str], bytes, dict[str, str]]:
        """Return arguments, standard input and environment with which a job was taken."""
        arguments, stdin, environment = (
            (self._directory / f"{name}.{job_id}").read_bytes()
            for name in ("argv", "stdin", "environ")
        )
        pairs = (entry.partition("=") for entry in environment.decode().split("\0")[:-1])
        return (
            arguments.decode("utf-8", "surrogateescape").split("\0")[:-1],
            stdin,
            {name: value for name, _, value in pairs},
        )

    def _write(self, name: str, content: bytes) -> None:
        new = self._directory / "written.new"
        new.write_bytes(content)
        new.rename(self._directory / name)

    def remove(self, command: str) -> None:
        """Uninstall a command."""
        (self.path / command).unlink()

    def runs(self, *commands: str) -> int:
        """Return the number of runs of these commands, or of all."""
        found = 0
        for command in commands or COMMANDS[self.scheduler]:
            with contextlib.suppress(FileNotFoundError):
                found += (self._directory / f"{command}.runs").stat().st_size
        return found

    def end_hanging(self) -> None:
        """End the commands that hang now."""
        for line in processes_with(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.partition(":")[0]), signal.SIGKILL)

    def left_behind(self) -> list[str]:
        """The hanging commands that never go; empty as soon as none is there."""
        return left_behind(self.mark)


def left_behind(mark: str) -> list[str]:
    """The command lines that hold a mark and do not go; empty as soon as none is there."""
    with contextlib.suppress(AssertionError):
        until(lambda: not processes_with(mark))
    return processes_with(mark)


def processes_with(mark: str) -> list[str]:
    """The command lines that hold a mark."""
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
