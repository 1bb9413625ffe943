"""Commands on this machine: limits, groups, environments, and nothing left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hpcq.domain.errors import CommandMissing, CommandTimedOut, OutputParseError
from hpcq.execution.local import LocalRunner
from hpcq.execution.protocol import Command

pytestmark = pytest.mark.anyio

PATH = "/usr/bin:/bin"
# Far more than anything here takes: no test depends on how fast the machine is.
AMPLE_SECONDS = 60.0


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def runner() -> AsyncIterator[LocalRunner]:
    runner = LocalRunner()
    yield runner
    runner.close()


def sh(script: str, *args: str, **fields: Any) -> Command:
    limits = {"timeout_seconds": AMPLE_SECONDS, "env": {"PATH": PATH}, **fields}
    return Command(argv=("/bin/sh", "-c", script, "sh", *args), **limits)


async def gone(pid: int) -> None:
    """Wait until a process has ended; a zombie that init has still to take has."""
    async with asyncio.timeout(AMPLE_SECONDS):
        while True:
            if state_of(pid) in "ZX":
                return
            await asyncio.sleep(0.01)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def test_run_output_and_status(runner: LocalRunner) -> None:
    done = await runner.run(sh("echo out; echo err >&2; exit 3"))
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 3)
    assert done.argv[0] == "/bin/sh"


async def test_run_odd_bytes_in_arguments(runner: LocalRunner) -> None:
    odd = ["", " ", "a b", "'\"\\$`;|&", "\n", "é", "\udcff", "-n", "*"]
    done = await runner.run(sh('for a in "$@"; do printf "%s\\0" "$a"; done', *odd))
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in odd)


async def test_run_environment_as_given(
    runner: LocalRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "of the service")
    given = {"A": "1,2\n3", "EMPTY": "", "PATH": PATH}
    command = Command(argv=("env", "-0"), env=given, timeout_seconds=AMPLE_SECONDS)
    done = await runner.run(command)
    pairs = [entry.partition("=") for entry in done.stdout.decode().split("\0")[:-1]]
    assert {name: value for name, _, value in pairs} == given


async def test_run_search_path(runner: LocalRunner, tmp_path: Path) -> None:
    program = tmp_path / "qstat"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    command = Command(
        argv=("qstat",),
        env={"PATH": PATH},
        search_path=f"/nowhere:{tmp_path}",
        timeout_seconds=AMPLE_SECONDS,
    )
    assert (await runner.run(command)).stdout == b"here\n"


async def test_run_directory_and_session(runner: LocalRunner, tmp_path: Path) -> None:
    done = await runner.run(sh("pwd; ps -o sid= -p $$; echo $$", cwd=str(tmp_path)))
    directory, session, pid = done.stdout.decode().split()
    assert (directory, session) == (str(tmp_path), pid)
    assert int(session) != os.getsid(0)


async def test_run_descriptors_not_inherited(runner: LocalRunner) -> None:
    inheritable = os.dup(0)
    os.set_inheritable(inheritable, True)
    try:
        done = await runner.run(sh("ls /proc/$$/fd"))
    finally:
        os.close(inheritable)
    assert str(inheritable) not in done.stdout.decode().split()
    assert {"0", "1", "2"} <= set(done.stdout.decode().split())


@pytest.mark.parametrize("read", ["cat", "cat /dev/stdin", "exec 3</dev/stdin; cat <&3"])
@pytest.mark.parametrize("content", [b"", b"a\0b\n", b"x" * 3_000_000])
async def test_run_stdin_read_by_name(runner: LocalRunner, read: str, content: bytes) -> None:
    done = await runner.run(sh(read, stdin=content, output_limit_bytes=4_000_000))
    assert (done.stdout == content, done.exit_code) == (True, 0)


async def test_run_stdin_not_read(runner: LocalRunner) -> None:
    assert (await runner.run(sh("exit 0", stdin=b"x" * 3_000_000))).exit_code == 0


async def test_run_killed_by_signal(runner: LocalRunner) -> None:
    assert (await runner.run(sh("kill -USR1 $$"))).exit_code == -signal.SIGUSR1


# What cannot be run


@pytest.mark.parametrize("argv", [("no-such-command",), ("/nowhere/qstat",)])
async def test_run_program_missing(runner: LocalRunner, argv: tuple[str, ...]) -> None:
    command = Command(argv=argv, env={"PATH": PATH}, timeout_seconds=AMPLE_SECONDS)
    with pytest.raises(CommandMissing) as caught:
        await runner.run(command)
    assert argv[0] in caught.value.detail


async def test_run_program_not_executable(runner: LocalRunner, tmp_path: Path) -> None:
    program = tmp_path / "qstat"
    program.write_bytes(b"\x7fELF but not really")
    program.chmod(0o755)
    command = Command(argv=(str(program),), timeout_seconds=AMPLE_SECONDS)
    with pytest.raises(CommandMissing, match="could not be run"):
        await runner.run(command)


async def test_run_directory_missing(runner: LocalRunner) -> None:
    with pytest.raises(CommandMissing):
        await runner.run(sh("true", cwd="/nowhere/at/all"))


# Limits


@pytest.mark.parametrize("hang", ["sleep 600", "trap '' TERM INT HUP; sleep 600"])
async def test_run_timeout_kills_group(runner: LocalRunner, hang: str) -> None:
    script = f"echo so far; echo problem >&2; ({hang}) & echo $!; ({hang}) & echo $!; {hang}"
    with pytest.raises(CommandTimedOut) as caught:
        await runner.run(sh(script, timeout_seconds=5))
    said, *pids = caught.value.stdout.decode().splitlines()
    assert (said, caught.value.stderr) == ("so far", b"problem\n")
    assert caught.value.transient
    assert len(pids) == 2
    for pid in pids:
        await gone(int(pid))


async def test_run_timeout_with_closed_output(
    runner: LocalRunner,
) -> None:
    with pytest.raises(CommandTimedOut):
        await runner.run(sh("exec >&- 2>&-; sleep 600", timeout_seconds=0.3))


async def test_run_output_at_limit(runner: LocalRunner) -> None:
    done = await runner.run(sh("printf 12345678", output_limit_bytes=8))
    assert done.stdout == b"12345678"


@pytest.mark.parametrize("stream", ["1", "2"])
async def test_run_output_above_limit(runner: LocalRunner, stream: str, tmp_path: Path) -> None:
    script = f"(sleep 600) & echo $! > pid; exec cat /dev/zero >&{stream}"
    with pytest.raises(OutputParseError, match="more than 100000 bytes"):
        await runner.run(sh(script, output_limit_bytes=100_000, cwd=str(tmp_path)))
    await gone(int((tmp_path / "pid").read_text()))


async def test_run_child_keeps_output_open(runner: LocalRunner) -> None:
    done = await runner.run(sh("sleep 600 & echo $!; echo done"))
    pid, word = done.stdout.decode().split()
    assert (word, done.exit_code) == ("done", 0)
    await gone(int(pid))


async def test_run_child_in_own_session(runner: LocalRunner) -> None:
    # OpenPBS's qsub leaves one that serves the next submissions.
    has_left = "[ $(ps -o sid= -p $!) = $! ]"
    script = f"setsid sleep 600 >/dev/null 2>&1 & until {has_left}; do sleep 0.05; done; echo $!"
    done = await runner.run(sh(script))
    pid = int(done.stdout)
    assert done.exit_code == 0
    os.kill(pid, signal.SIGKILL)


# What is left behind


async def test_run_many_commands_no_leaks(runner: LocalRunner) -> None:
    await runner.run(sh("true"))
    descriptors = len(os.listdir("/proc/self/fd"))
    before = children()
    for _ in range(10):
        await asyncio.gather(*(runner.run(sh("echo x; exit 1", stdin=b"y")) for _ in range(18)))
        await asyncio.gather(
            runner.run(sh("sleep 600", timeout_seconds=0.05)),
            runner.run(sh("cat /dev/zero", output_limit_bytes=10)),
            return_exceptions=True,
        )
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert children() <= before


async def test_runner_close_kills_commands(tmp_path: Path) -> None:
    runner = LocalRunner()
    os.mkfifo(tmp_path / "fifo")
    running = asyncio.create_task(runner.run(sh("echo $$ > fifo; sleep 600", cwd=str(tmp_path))))
    pid = await asyncio.to_thread((tmp_path / "fifo").read_text)
    runner.close()
    assert (await running).exit_code == -signal.SIGKILL
    await gone(int(pid))


async def test_run_event_loop_not_blocked(runner: LocalRunner, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    running = asyncio.create_task(runner.run(sh("read x < fifo; echo $x", cwd=str(tmp_path))))
    await asyncio.to_thread((tmp_path / "fifo").write_text, "go\n")
    assert (await running).stdout == b"go\n"


async def test_run_mark_inherited_by_children(runner: LocalRunner) -> None:
    # A shell gives what it runs in the background another standard input.
    script = "cat; ls -l /proc/self/fd & wait"
    done = await runner.run(sh(script, stdin=b"input\n", mark="hpcq-mark"))
    assert done.stdout.startswith(b"input\n")
    assert b"/memfd:hpcq-mark (deleted)" in done.stdout
    plain = await runner.run(sh(script, stdin=b"input\n"))
    assert b"/memfd" not in plain.stdout
