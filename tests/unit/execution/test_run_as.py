"""Commands in the name of another account: exact outcomes, and nothing that lives on."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.fake import processes_with

from hpcq.domain.errors import (
    AccountUnavailable,
    CommandTimedOut,
    InvalidSpec,
    OutputParseError,
)
from hpcq.domain.jobs import JobUid, NativeId, SubmissionKey
from hpcq.execution import account_process
from hpcq.execution.account_files import AccountFiles
from hpcq.execution.account_process import AccountProcess, end_orphans_of
from hpcq.execution.as_account import Answer
from hpcq.execution.local import LocalRunner
from hpcq.execution.orphans import end_orphans
from hpcq.execution.protocol import Command
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account"),
]

ACCOUNT = "nobody"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def runner() -> AsyncIterator[LocalRunner]:
    runner = LocalRunner()
    yield runner
    runner.close()


@pytest.fixture
def name() -> str:
    """A part of a command line that no other process has."""
    return str(secrets.randbelow(10**9))


def sh(script: str, **fields: Any) -> Command:
    settings = {
        "timeout_seconds": PATIENCE_SECONDS,
        "env": {"PATH": "/usr/bin:/bin", "X": "é\udcff"},
    }
    return Command(argv=("/bin/sh", "-c", script), run_as=ACCOUNT, **{**settings, **fields})


async def test_run_as_rights_and_input(runner: LocalRunner) -> None:
    done = await runner.run(
        sh('id -un; id -Gn; pwd; printf "%s" "$X"; cat; echo e >&2', stdin=b"in")
    )
    assert done.stdout == b"nobody\nnogroup\n/\n\xc3\xa9\xffin"
    assert (done.stderr, done.exit_code) == (b"e\n", 0)


ADD_KEY = """\
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.syscall(250, 1, None)
assert libc.syscall(248, b"user", b"hpcq-t-secret", b"secret", 6, -3) > 0
os.execv(sys.argv[1], sys.argv[1:])
"""
FIND_KEY = (
    'import ctypes; print(ctypes.CDLL(None).syscall(250, 10, -3, b"user", b"hpcq-t-secret", 0))'
)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="it calls the kernel by number")
async def test_run_as_keyring(runner: LocalRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    with_key = [sys.executable, "-c", ADD_KEY]
    argv = (*with_key, sys.executable, "-c", FIND_KEY)
    seen = await runner.run(Command(argv=argv, timeout_seconds=PATIENCE_SECONDS))
    assert int(seen.stdout) > 0
    monkeypatch.setattr(account_process, "with_own_limit", lambda argv: [*with_key, *argv])
    done = await runner.run(sh(f"exec python3 -c '{FIND_KEY}'"))
    assert done.stdout == b"-1\n"


async def test_run_as_typed_ids_and_keys(runner: LocalRunner) -> None:
    key, native_id = SubmissionKey.for_uid(JobUid.new()), NativeId("12")
    command = Command(
        argv=("/bin/echo", native_id),
        env={"KEY": key},
        mark=key,
        run_as=ACCOUNT,
        timeout_seconds=PATIENCE_SECONDS,
    )
    assert (await runner.run(command)).stdout == b"12\n"


@pytest.mark.parametrize(("script", "exit_code"), [("exit 7", 7), ("kill -TERM $$", -15)])
async def test_run_as_status_and_signal(runner: LocalRunner, script: str, exit_code: int) -> None:
    assert (await runner.run(sh(script, mark="hpcq-x"))).exit_code == exit_code


async def test_run_as_timeout_kills_children(runner: LocalRunner, name: str) -> None:
    script = f"echo begun; /bin/sleep 300.{name} & /bin/sleep 301.{name}"
    with pytest.raises(CommandTimedOut) as caught:
        await runner.run(sh(script, timeout_seconds=2.0))
    assert caught.value.stdout in (b"begun\n", b"")
    until(lambda: processes_with(name) == [])


async def test_run_as_helper_stopped_by_account(runner: LocalRunner, name: str) -> None:
    with pytest.raises(CommandTimedOut):
        await runner.run(sh(f"kill -STOP $PPID; exec /bin/sleep 300.{name}", timeout_seconds=2.0))
    until(lambda: processes_with(name) == [])


async def test_run_as_hanging_commands_others_unaffected(runner: LocalRunner, name: str) -> None:
    stopped = [
        asyncio.create_task(runner.run(sh(f"exec /bin/sleep 300.{name}", timeout_seconds=4.0)))
        for _ in range(100)
    ]
    await asyncio.sleep(0)
    own = Command(argv=("/bin/true",), timeout_seconds=PATIENCE_SECONDS)
    assert (await runner.run(own)).exit_code == 0
    assert not any(task.done() for task in stopped)
    outcomes = await asyncio.gather(*stopped, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {CommandTimedOut, AccountUnavailable}
    until(lambda: processes_with(name) == [])


async def test_run_as_runner_closed(runner: LocalRunner, name: str) -> None:
    running = asyncio.create_task(runner.run(sh(f"/bin/sleep 300.{name}")))
    await asyncio.to_thread(until, lambda: len(processes_with(name)) >= 1)
    runner.close()
    with pytest.raises(OutputParseError, match="was killed"):
        await running
    until(lambda: processes_with(name) == [])


async def test_run_as_child_keeps_output_open(runner: LocalRunner, name: str) -> None:
    assert (await runner.run(sh(f"/bin/sleep 300.{name} & echo x"))).stdout == b"x\n"
    until(lambda: processes_with(name) == [])


async def test_run_as_output_above_limit(runner: LocalRunner) -> None:
    with pytest.raises(OutputParseError, match="more than 10 bytes"):
        await runner.run(sh("echo 12345678901", output_limit_bytes=10))


async def test_run_as_directory_not_accessible(runner: LocalRunner, tmp_path: Path) -> None:
    # pytest's folders are for its account alone.
    with pytest.raises(InvalidSpec, match=r"account 'nobody': Permission denied"):
        await runner.run(sh("true", cwd=str(tmp_path)))


async def test_run_as_unknown_account(runner: LocalRunner) -> None:
    command = Command(argv=("/bin/true",), run_as="hpcq-t-none", timeout_seconds=PATIENCE_SECONDS)
    with pytest.raises(AccountUnavailable, match="in the name of the account 'hpcq-t-none'"):
        await runner.run(command)


async def test_run_as_root(runner: LocalRunner) -> None:
    command = Command(argv=("/bin/true",), run_as="root", timeout_seconds=PATIENCE_SECONDS)
    with pytest.raises(AccountUnavailable, match="does not act as root"):
        await runner.run(command)


def begun(script: str, mark: str = "") -> AccountProcess:
    process = AccountProcess(ACCOUNT, stdout=subprocess.PIPE)
    process.run(sh(script, mark=mark), "/bin/sh")
    assert process.answer() == (Answer.STARTED, b"")
    return process


def test_run_as_line_closed(name: str) -> None:
    process = begun(f"/bin/sleep 300.{name} & /bin/sleep 301.{name}")
    until(lambda: len(processes_with(name)) == 2 + 1)
    process.close()
    assert process.process.returncode == -signal.SIGKILL
    until(lambda: processes_with(name) == [])


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that all accounts can write to."""
    folder = Path(tempfile.mkdtemp(prefix="hpcq-t-", dir="/var/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_run_as_line_closed_before_start(folder: Path) -> None:
    process = AccountProcess(ACCOUNT)
    # As a sudo that hangs before it executes the program.
    os.kill(process.process.pid, signal.SIGSTOP)
    process.run(sh(f"touch {folder}/ran"), "/bin/sh")
    process.line.close()
    os.kill(process.process.pid, signal.SIGCONT)
    assert process.process.wait(PATIENCE_SECONDS) == 0
    process.close()
    assert list(folder.iterdir()) == []


def test_run_as_found_by_mark(name: str) -> None:
    mark = f"hpcq-{secrets.token_hex(16)}"
    process = begun(f"setsid /bin/sleep 300.{name} & /bin/sleep 301.{name}", mark)
    until(lambda: len(processes_with(name)) >= 3)
    assert end_orphans(mark) >= 4
    until(lambda: processes_with(name) == [])
    process.close()


def test_account_files_permissions() -> None:
    with AccountFiles(ACCOUNT, PATIENCE_SECONDS) as files:
        assert files.read("/etc/passwd", 1 << 20) == Path("/etc/passwd").read_bytes()
        assert files.read("/etc/passwd", 4) == b"root"
        assert files.read("/dev/null", 4) is None
        assert files.link("/proc/self/exe").startswith("/")
        assert files.mode("/tmp") == os.stat("/tmp").st_mode
        assert files.real_path("/etc/../etc/passwd") == "/etc/passwd"
        assert files.read("/etc/passwd", 4, ["/etc"]) == b"root"
        with pytest.raises(OSError, match="cross-device"):
            files.read("/etc/passwd", 4, ["/tmp"])
        assert not files.may("/root", os.X_OK)
        with pytest.raises(PermissionError):
            files.read("/etc/shadow", 10)
        with pytest.raises(FileNotFoundError):
            files.mode("/none/\udcff")


def test_account_files_sudo_hanging(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(account_process, "_command", lambda _: ["/bin/sleep", f"300.{name}"])
    with pytest.raises(AccountUnavailable, match="'nobody': there is no answer"):
        AccountFiles(ACCOUNT, 0.1)
    assert processes_with(name) == []


@pytest.mark.parametrize("answer", [b"", b"garbage", b"\xff" * 5000])
def test_account_files_forged_answers(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """An account has power over its processes, and may put others in their place."""
    script = "import sys, os; os.write(0, bytes.fromhex(sys.argv[1]))"
    command = [sys.executable, "-c", script, answer.hex()]
    monkeypatch.setattr(account_process, "_command", lambda _: command)
    with pytest.raises(AccountUnavailable), AccountFiles(ACCOUNT, PATIENCE_SECONDS) as files:
        files.mode("/")


def test_account_files_unknown_account() -> None:
    with pytest.raises(AccountUnavailable, match="'hpcq-t-none'"):
        AccountFiles("hpcq-t-none", PATIENCE_SECONDS)


@pytest.fixture
def trickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that an account has taken over: its answer comes byte by byte, without end."""
    code = (
        "import os, time\nos.close(1), os.close(2)\nos.write(0, b'\\0\\1\\0\\0')\n"
        "while True: os.write(0, b's'), time.sleep(0.05)"
    )
    argv = [sys.executable, "-c", code]
    monkeypatch.setattr(account_process, "_command", lambda _account: argv)


async def test_run_as_endless_answer(runner: LocalRunner, trickle: None) -> None:
    with pytest.raises(CommandTimedOut):
        await runner.run(sh("true", timeout_seconds=0.5))


def test_end_orphans_endless_answer(trickle: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_process, "_PATIENCE_SECONDS", 0.5)
    with pytest.raises(AccountUnavailable):
        end_orphans_of(ACCOUNT, "mark")


def test_error_of_any_text() -> None:
    for number in (b"9" * 5000, b"99999999999", b"", b"-1", b"x"):
        assert account_process.error_of(number).errno == 0


async def test_run_as_slow_commands_others_unaffected(runner: LocalRunner, folder: Path) -> None:
    wait = sh(f"until [ -e {folder}/end ]; do sleep 0.5; done")
    slow = [asyncio.ensure_future(runner.run(wait)) for _ in range(70)]
    await asyncio.sleep(0)
    end = Command(argv=("/usr/bin/touch", f"{folder}/end"), timeout_seconds=PATIENCE_SECONDS)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await runner.run(end)
    assert {done.exit_code for done in await asyncio.gather(*slow)} == {0}
