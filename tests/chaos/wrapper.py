"""A submission command that misbehaves: a script in front of the real one.

How it behaves is read from the job's own directory, in which submission commands run: line N of
the file ``modes`` is for the N-th run; behind its end, all is well. Each run adds its mode to the
file ``attempts``.
"""

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

__all__ = ["DOUBTFUL", "MODES", "SUBMITTING", "attempts", "end_hanging", "install", "plan_modes"]

_SECONDS = "600"  # how long a hanging one would

# `&` would give a command an empty standard input, where sbatch reads the job's environment.
_SCRIPT = """\
#!/bin/sh
run=1
[ ! -e attempts ] || while read -r _; do run=$((run + 1)); done < attempts
mode=ok
line=0
while read -r planned; do
    line=$((line + 1))
    [ $line -ne $run ] || mode=$planned
done < modes
echo "$mode" >> attempts

submit() {{ {program} "$@" > /dev/null 2>&1; }}
hang() {{ echo $$ >> hanging; exec sleep {seconds}; }}

case $mode in
ok) exec {program} "$@" ;;
submit-late) sleep 1; exec {program} "$@" ;;
submit-too-late) sleep {too_late}; exec {program} "$@" ;;
submit-then-hang) submit "$@"; hang ;;
submit-then-fail) submit "$@"; echo 'error: the network is down' >&2; exit 1 ;;
submit-then-babble) submit "$@"; echo 'Welcome to Stampede3! 4711 users are logged in'; exit 0 ;;
submit-then-silence) submit "$@"; exit 0 ;;
submit-then-die) submit "$@"; kill -KILL $$ ;;
hang) hang ;;
fail) echo 'error: the network is down' >&2; exit 1 ;;
die) kill -KILL $$ ;;
kill-child-*)
    exec 3<&0
    {program} "$@" <&3 &
    sleep "0.0${{mode#kill-child-}}"
    kill -KILL $!
    wait $!
    exit $?
    ;;
esac
"""

SUBMITTING = (
    "submit-late",
    "submit-then-hang",
    "submit-then-fail",
    "submit-then-babble",
    "submit-then-silence",
    "submit-then-die",
)
"""After these the scheduler has the job."""

DOUBTFUL = (
    "submit-too-late",
    "hang",
    "fail",
    "die",
    "kill-child-0",
    "kill-child-1",
    "kill-child-3",
    "kill-child-6",
)
"""After these it may have none, and a submission may be refused for that. The number is how many
hundredths of a second the real command has before it is killed."""

MODES = SUBMITTING + DOUBTFUL
"""All misbehaviours."""


def install(directory: Path, program: Path, *, too_late_seconds: float) -> None:
    """Put a misbehaving command of the same name as ``program`` into a directory.

    Args:
        directory: where no such command is yet.
        program: the real command.
        too_late_seconds: how long ``submit-too-late`` takes before it submits; longer than a
            service that lives lets it.
    """
    directory.mkdir(parents=True)
    script = directory / program.name
    script.write_text(_SCRIPT.format(program=program, seconds=_SECONDS, too_late=too_late_seconds))
    script.chmod(0o755)


def plan_modes(directory: Path, modes: Iterable[str]) -> None:
    """Say how the runs of the command for the job of this directory behave."""
    (directory / "modes").write_text("".join(f"{mode}\n" for mode in modes))


def attempts(directory: Path) -> list[str]:
    """Return the behaviours of the runs for the job of this directory, in their order."""
    path = directory / "attempts"
    return path.read_text().split() if path.exists() else []


def end_hanging(directory: Path) -> None:
    """End the hanging runs that a killed service left behind."""
    path = directory / "hanging"
    for pid in path.read_text().split() if path.exists() else []:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == f"sleep\0{_SECONDS}\0".encode():
                os.kill(int(pid), signal.SIGKILL)
