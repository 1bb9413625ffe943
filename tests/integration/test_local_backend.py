"""LOCAL with real processes."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from tests.integration.local_site import ENVIRONMENT, LocalSite, gone, new_key
from tests.submitting import submit_to

from hpcq.domain.actions import Action
from hpcq.domain.errors import (
    InvalidSpec,
    JobNotFound,
    SchedulerUnavailable,
    UnsupportedCapability,
    WrongState,
)
from hpcq.domain.jobs import NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.schedulers.local import processes
from hpcq.schedulers.local.settings import LocalSettings
from hpcq.schedulers.local.spool_file import NothingWritten
from hpcq.schedulers.testing.waiting import eventually

pytestmark = pytest.mark.anyio

RECORD_ARGUMENTS = 'for a in "$@"; do printf \'%s\\0\' "$a"; done > argv\n'
RECORD_ENVIRONMENT = "/bin/cat /proc/$$/environ > environ\n"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def shepherd_of(site: LocalSite, job: Observation) -> int:
    return site.shepherd(job.native_id).pid


def alive(*pids: int) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


# How jobs end


async def test_exit_status_zero(site: LocalSite) -> None:
    job = await site.run("echo out; echo err >&2\n", name="a study")
    assert (job.state, job.exit_code, job.exit_signal) == (JobState.DONE, 0, None)
    assert job.failure_kind is None
    assert (site.work / f"a study.o{job.native_id}").read_text() == "out\n"
    assert (site.work / f"a study.e{job.native_id}").read_text() == "err\n"
    assert job.stdout_path == str(site.work / f"a study.o{job.native_id}")
    assert job.submit_time and job.start_time and job.end_time
    assert job.submit_time <= job.start_time <= job.end_time


async def test_exit_status_nonzero(site: LocalSite) -> None:
    job = await site.run("exit 3\n")
    assert (job.state, job.failure_kind, job.exit_code) == (
        JobState.FAILED,
        FailureKind.NON_ZERO_EXIT,
        3,
    )


async def test_exclusive_job_alone(site: LocalSite) -> None:
    first = await site.submit("until [ -e go ]; do sleep 0.05; done\n")
    await site.running(first)
    alone = await site.submit(": > alone\n", exclusive=True, nodes=1, slots_per_node=1)
    later = await site.submit(": > later\n", wall_time_limit_seconds=1)
    assert (await site.seen(alone)).state_reason == "It waits until no other job runs."
    (site.work / "go").touch()
    ends = [await site.ended(job) for job in (alone, later, first)]
    assert {end.state for end in ends} == {JobState.DONE}


@pytest.mark.parametrize("fields", [{"nodes": 2}, {"slots_per_node": 1}])
async def test_nodes_more_than_one_refused(site: LocalSite, fields: dict[str, int]) -> None:
    with pytest.raises(InvalidSpec, match="one node"):
        await site.submit("true\n", slots=2, **fields)


async def test_signal_distinct_from_exit_status(site: LocalSite) -> None:
    job = await site.run("kill -USR1 $$\n")
    assert (job.failure_kind, job.exit_code, job.exit_signal) == (FailureKind.SIGNAL, None, 10)


async def test_wall_time_exceeded(site: LocalSite) -> None:
    job = await site.run("sleep 600\n", wall_time_limit_seconds=1)
    assert (job.failure_kind, job.exit_signal) == (FailureKind.TIME_LIMIT, signal.SIGTERM)
    assert "1 s" in (job.state_reason or "")


async def test_memory_limit_exceeded(site: LocalSite) -> None:
    eater = site.work / "eater.py"
    eater.write_text(
        "#!/usr/bin/env python3\nimport time\na = b'x' * (300 << 20)\ntime.sleep(3600)\n"
    )
    job = await site.run(eater, memory_limit_bytes=100 << 20)
    assert job.failure_kind is FailureKind.OUT_OF_MEMORY
    assert job.usage is not None
    assert (job.usage.max_memory_bytes or 0) > 100 << 20


async def test_memory_limit_shared_memory(site: LocalSite) -> None:
    sharer = site.work / "sharer.py"
    sharer.write_text(
        "#!/usr/bin/env python3\n"
        "import os, time\n"
        "held = b'x' * (60 << 20)\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(1)\n"
        "        os._exit(0)\n"
        "for _ in range(4):\n"
        "    os.wait()\n"
    )
    job = await site.run(sharer, memory_limit_bytes=150 << 20)
    assert job.state is JobState.DONE, job.state_reason
    assert job.usage is not None
    assert (job.usage.max_memory_bytes or 0) > 150 << 20


async def test_script_leftover_processes_ended(site: LocalSite) -> None:
    job = await site.run("setsid sleep 600 & echo $! > left\nexit 4\n")
    assert (job.failure_kind, job.exit_code) == (FailureKind.NON_ZERO_EXIT, 4)
    assert not alive(int(await site.file("left")))


# What they are given


async def test_arguments_byte_for_byte(site: LocalSite) -> None:
    args = ("", " a  b ", 'it\'s "q"', "$HOME `id` $(id)", "a\nb", "-h", "--", "\\", "é\udcff", "*")
    await site.run(RECORD_ARGUMENTS, args=args)
    arrived = (site.work / "argv").read_bytes()
    assert arrived == b"".join(a.encode("utf-8", "surrogateescape") + b"\0" for a in args)


async def test_environment_exact(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVICE", "1")
    asked = {
        "EMPTY": "",
        "LINES": "a\nb=c\n",
        "HOME": "/elsewhere",
        "RAW": "\udcff",
        "HPCQ_SLOTS": "9",
    }
    key = new_key()
    spec = site.spec(RECORD_ENVIRONMENT, environment=asked, slots=2, name="n")
    job = await site.ended(await submit_to(site.backend, spec, key))
    entries = (site.work / "environ").read_bytes().split(b"\0")[:-1]
    pairs = [e.decode("utf-8", "surrogateescape").partition("=") for e in entries]
    found = {name: value for name, _, value in pairs}
    folder = found["TMPDIR"].removesuffix("/tmp")
    assert found == {
        **ENVIRONMENT,
        "JOB_ID": job.native_id,
        "JOB_NAME": "n",
        "NSLOTS": "2",
        "NHOSTS": "1",
        "QUEUE": "local",
        "TMPDIR": f"{folder}/tmp",
        "PE_HOSTFILE": f"{folder}/pe_hostfile",
        "PBS_NODEFILE": f"{folder}/nodefile",
        "PBS_O_WORKDIR": str(site.work),
        "SGE_O_WORKDIR": str(site.work),
        "SLURM_SUBMIT_DIR": str(site.work),
        **asked,
        "HPCQ_JOB_ID": job.native_id,
        "HPCQ_JOB_KEY": key,
        "HPCQ_JOB_NAME": "n",
        "HPCQ_SLOTS": "2",
    }


async def test_tmpdir_private_and_removed(site: LocalSite) -> None:
    native_id = await site.submit(
        "cd $TMPDIR && echo scratch > file && mkdir -p a/b && chmod 500 a && ls > $HOME/ls\n"
        "cat $PE_HOSTFILE $PBS_NODEFILE > $HOME/hosts\n"
        "echo $TMPDIR > $HOME/tmpdir\nwhile [ ! -e $HOME/go ]; do sleep 0.02; done\n",
        slots=2,
        environment={"HOME": str(site.work)},
    )
    folder = Path((await site.file("tmpdir")).strip()).parent
    host = socket.gethostname()
    assert await site.file("hosts") == f"{host} 2 local@{host} UNDEFINED\n{host}\n{host}\n"
    assert await site.file("ls") == "a\nfile\n"
    assert f"hpcq-{native_id}.1-" in folder.name
    await site.restart()
    assert folder.is_dir(), "the job still runs"
    (site.work / "go").touch()
    await site.ended(native_id)
    assert not folder.exists()


async def test_tmpdir_removed_shepherd_killed(site: LocalSite) -> None:
    native_id = await site.submit("echo $TMPDIR > tmpdir; sleep 600\n")
    folder = Path((await site.file("tmpdir")).strip()).parent
    os.kill(shepherd_of(site, await site.running(native_id)), signal.SIGKILL)
    await site.ended(native_id)
    await site.stop()
    assert not folder.exists()
    await site.start()


async def test_service_descriptors_not_inherited(site: LocalSite) -> None:
    # Each by exec: the shell itself blocks signals while it starts a command.
    await site.run("readlink /proc/$$/fd/0 > stdin; exec ls /proc/self/fd > fds")
    await site.run("exec cat /proc/self/status > status")
    # The last is the directory that ls reads.
    assert (site.work / "fds").read_text().split() == ["0", "1", "2", "3"]
    assert (site.work / "stdin").read_text() == "/dev/null\n"
    status = dict(line.split(":", 1) for line in (site.work / "status").read_text().splitlines())
    # 32 and 33 are the C library's own: what posix_spawn started, make's children for one, has
    # them ignored, and its threads take them all the same.
    of_the_library = 1 << 31 | 1 << 32
    assert int(status["SigBlk"], 16) == int(status["SigIgn"], 16) & ~of_the_library == 0


async def test_job_process_group_and_session(site: LocalSite) -> None:
    native_id = await site.submit("echo $$ > pid; sleep 600\n")
    pid = int(await site.file("pid"))
    shepherd = shepherd_of(site, await site.running(native_id))
    assert os.getsid(pid) == pid
    assert os.getsid(shepherd) == shepherd != os.getsid(0)
    assert os.getpgid(shepherd) != os.getpgid(0)


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        ("echo ran > out\n", 0o755),
        ("#!/bin/sh\necho ran > out\n", 0o644),
        ("echo ran > out\n", 0o600),
        ("words=(a ran b)\necho ${words[1]} > out\n", 0o644),
    ],
    ids=["no shebang", "not executable", "neither", "no shebang, bash arrays"],
)
async def test_script_execution_like_batch_systems(
    site: LocalSite, content: str, mode: int
) -> None:
    script = site.work / "plain"
    script.write_text(content)
    script.chmod(mode)
    assert (await site.run(script)).state is JobState.DONE
    assert (site.work / "out").read_text() == "ran\n"


@pytest.mark.parametrize(
    ("content", "ran_by"),
    [("echo $0 ran > out\n", "shell"), ("#!/bin/sh\necho $0 ran > out\n", "sh")],
    ids=["none-named", "one-named"],
)
async def test_job_shell_without_interpreter_line(
    site: LocalSite, content: str, ran_by: str
) -> None:
    shell = site.work / "shell"
    shell.write_text('#!/bin/sh\necho shell > ran_by\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    await site.stop()
    site.options = replace(site.options, job_shell=str(shell))
    await site.start()
    script = site.work / "plain"
    script.write_text(content)
    assert (await site.run(script)).state is JobState.DONE
    assert (site.work / "out").exists()
    assert (site.work / "ran_by").exists() == (ran_by == "shell")


async def test_job_shell_missing(site: LocalSite) -> None:
    await site.stop()
    site.options = replace(site.options, job_shell="/no/such/shell")
    await site.start()
    script = site.work / "plain"
    script.write_text("echo ran\n")
    job = await site.run(script)
    assert (job.failure_kind, job.exit_code) == (FailureKind.SCHEDULER_ERROR, 127)
    assert "'/no/such/shell'" in (job.state_reason or "")
    assert "JOB_SHELL" in (job.state_reason or "")


async def test_script_changed_after_submission(site: LocalSite) -> None:
    native_id = await site.submit("echo first > out\n", hold=True)
    (site.work / "job.sh").unlink()
    await site.backend.act(Action.RELEASE, native_id)
    assert (await site.ended(native_id)).state is JobState.DONE
    assert (site.work / "out").read_text() == "first\n"


@pytest.mark.parametrize(
    ("first_line", "word"),
    [("#!/no/such/interpreter -x", "'/no/such/interpreter'"), ("#!/bin/sh\r", "carriage return")],
)
async def test_script_cannot_start_reason(site: LocalSite, first_line: str, word: str) -> None:
    script = site.work / "bad"
    script.write_text(f"{first_line}\nexit 0\n", newline="")
    job = await site.run(script)
    assert (job.failure_kind, job.exit_code) == (FailureKind.SCHEDULER_ERROR, 127)
    assert word in (job.state_reason or "")


async def test_working_directory_gone(site: LocalSite, tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    native_id = await site.submit("true\n", working_directory=str(directory), hold=True)
    directory.rmdir()
    await site.backend.act(Action.RELEASE, native_id)
    job = await site.ended(native_id)
    assert job.failure_kind is FailureKind.SCHEDULER_ERROR
    assert str(directory) in (job.state_reason or "")


async def test_output_both_streams_one_file(site: LocalSite) -> None:
    (site.work / "log").write_text("of an earlier job\n")
    await site.run("echo out; echo err >&2; echo out\n", stdout_path="log", stderr_path="./log")
    assert (site.work / "log").read_text() == "out\nerr\nout\n"


async def test_output_file_cannot_be_created(site: LocalSite) -> None:
    job = await site.run("true\n", stderr_path="no/such/err")
    assert job.failure_kind is FailureKind.SCHEDULER_ERROR
    assert "no/such/err" in (job.state_reason or "")


async def test_output_both_streams_one_descriptor(site: LocalSite) -> None:
    os.symlink("log", site.work / "link")
    # kcmp(2) tells whether two descriptors are one open file; Python has no word for it.
    program = site.work / "same.py"
    program.write_text(
        "#!/usr/bin/env python3\n"
        "import ctypes, os\n"
        "me = os.getpid()\n"
        "one = ctypes.CDLL(None).syscall(312, me, me, 0, ctypes.c_ulong(1), ctypes.c_ulong(2))\n"
        "print('same' if one == 0 else 'different', flush=True)\n"
        "os.write(2, b'err\\n')\n"
        "os.write(1, b'out\\n')\n"
    )
    await site.run(program, stdout_path="log", stderr_path="link")
    assert (site.work / "log").read_text() == "same\nerr\nout\n"


# What blocks before the script's program runs


@contextlib.contextmanager
def blocking_interpreter(site: LocalSite) -> Iterator[Path]:
    """Make a program whose start waits, as on a file system that hangs; give its path.

    Whoever opens a file that another process has a lease on waits until that is given back, or
    for 45 s (fcntl(2), F_SETLEASE; /proc/sys/fs/lease-break-time).
    """
    path = site.work / "interpreter"
    shutil.copy("/bin/sh", path)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with path.open("rb") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield path
    signal.signal(signal.SIGIO, before)


async def test_blocked_before_exec_cancelled(site: LocalSite) -> None:
    script = site.work / "blocked.sh"
    with blocking_interpreter(site) as interpreter:
        script.write_text(f"#!{interpreter}\necho ran > ran\n")
        native_id = await site.submit(script)
        await site.running(native_id)
        await site.backend.cancel(native_id)
        job = await site.ended(native_id)
        assert (job.failure_kind, job.exit_code) == (FailureKind.CANCELLED, None)
    assert not (site.work / "ran").exists()


async def test_blocked_before_exec_times_out(site: LocalSite) -> None:
    script = site.work / "blocked.sh"
    with blocking_interpreter(site) as interpreter:
        script.write_text(f"#!{interpreter}\necho ran > ran\n")
        job = await site.run(script, wall_time_limit_seconds=1)
        assert job.failure_kind is FailureKind.TIME_LIMIT
        assert "1 s" in (job.state_reason or "")
    assert not (site.work / "ran").exists()


@pytest.mark.parametrize("field", ["stdout_path", "stderr_path"])
async def test_output_fifo_without_reader(site: LocalSite, field: str) -> None:
    os.mkfifo(site.work / "pipe")
    job = await site.run("echo ran > ran\n", **{field: "pipe"})
    assert (job.failure_kind, job.exit_code) == (FailureKind.SCHEDULER_ERROR, 127)
    assert "pipe' cannot be used: It is a pipe that nobody reads" in (job.state_reason or "")
    assert not (site.work / "ran").exists()


async def test_output_fifo_with_reader(site: LocalSite) -> None:
    os.mkfifo(site.work / "pipe")
    reader = os.open(site.work / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        job = await site.run("echo out\n", stdout_path="pipe")
        assert job.state is JobState.DONE, job.state_reason
        assert os.read(reader, 100) == b"out\n"
    finally:
        os.close(reader)


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "x\ny", "é" * 200, "--rm"])
async def test_output_default_name_within_directory(site: LocalSite, name: str) -> None:
    job = await site.run("echo x\n", name=name)
    assert job.state is JobState.DONE, job.state_reason
    assert job.name == name
    directory, _, out = (job.stdout_path or "").rpartition("/")
    assert directory == str(site.work)
    assert await site.file(out) == "x\n"


# What is refused


async def test_submission_never_runnable(site: LocalSite) -> None:
    for field, fields in (
        ("reservedSlots", {"slots": 5}),
        ("workingDirectory", {"working_directory": "/no/such"}),
        ("args", {"args": ("\0",)}),
        ("args", {"args": ("\ud800",)}),
        ("environment", {"environment": {"A=B": ""}}),
        ("queue", {"queue": "gpu"}),
    ):
        with pytest.raises(InvalidSpec) as refused:
            await site.submit("true\n", **fields)
        assert refused.value.field == field
    with pytest.raises(UnsupportedCapability):
        await site.submit("true\n", account="a")


# Queue


async def test_slots_never_exceeded(site: LocalSite) -> None:
    script = site.script('echo "+$HPCQ_SLOTS" >> log; sleep 0.05; echo "-$HPCQ_SLOTS" >> log\n')
    ids = [await site.submit(script, slots=slots) for slots in (3, 1, 2, 4, 1, 2, 1, 3)]
    assert {(await site.ended(i)).state for i in ids} == {JobState.DONE}
    used = 0
    for line in (site.work / "log").read_text().splitlines():
        used += int(line)
        assert 0 <= used <= 4


async def test_start_estimate_from_time_limits(site: LocalSite) -> None:
    blocker = await site.submit("sleep 60\n", slots=4, wall_time_limit_seconds=500)
    waits = await site.submit("true\n", slots=4)
    behind = await site.submit("true\n", slots=4)
    await site.until(lambda jobs: jobs[0].start_time is not None)
    told = {
        job.native_id: job for job in (await site.backend.details([waits, behind])).observations
    }
    (running,) = (await site.backend.details([blocker])).observations
    assert running.start_time is not None
    estimate = told[waits].start_estimate
    assert estimate is not None
    assert 400 < (estimate - running.start_time).total_seconds() < 510
    assert told[waits].reason_code is ReasonCode.WAITING_FOR_RESOURCES
    # What comes before it has no time limit.
    assert told[behind].start_estimate is None
    # It changes all the time, so that the listing leaves it out.
    listed = (await site.backend.jobs()).observations
    assert all(job.start_estimate is None for job in listed)
    await site.backend.cancel(blocker)


async def test_slots_lowered_job_too_large(
    site: LocalSite,
) -> None:
    blocker = await site.submit("while [ ! -e go ]; do sleep 0.02; done\n", slots=4)
    large = await site.submit(site.script("echo large >> order\n", "b"), slots=4)
    held = await site.submit(site.script("echo held >> order\n", "h"), slots=3, hold=True)
    small = await site.submit(site.script("echo small >> order\n", "c"), slots=2)
    await site.stop()
    site.settings = LocalSettings(internal_scheduler_max_slots=2)
    await site.start()
    (site.work / "go").touch()
    for native_id in (blocker, small):
        assert (await site.ended(native_id)).state is JobState.DONE
    await site.backend.act(Action.RELEASE, held)
    for native_id, slots in ((large, 4), (held, 3)):
        job = await site.seen(native_id)
        assert job.state is JobState.QUEUED
        assert f"asks for {slots} slots and the machine has 2 now" in (job.state_reason or "")
    assert (await site.run(site.script("echo later >> order\n", "d"))).state is JobState.DONE
    assert await site.backend.cancel(held) is True
    site.settings = LocalSettings(internal_scheduler_max_slots=4)
    await site.restart()
    assert (await site.ended(large)).state is JobState.DONE
    assert (site.work / "order").read_text().split() == ["small", "later", "large"]


async def test_hold_at_submission_then_release(site: LocalSite) -> None:
    native_id = await site.submit("true\n", hold=True)
    assert (await site.seen(native_id)).state is JobState.QUEUED_HELD
    await site.run("true\n")
    assert (await site.seen(native_id)).state is JobState.QUEUED_HELD
    await site.backend.act(Action.RELEASE, native_id)
    assert (await site.ended(native_id)).state is JobState.DONE


async def test_hold_queued_job(site: LocalSite) -> None:
    first = await site.submit("sleep 600\n", slots=4)
    second = await site.submit("true\n")
    await site.backend.act(Action.HOLD, second)
    await site.backend.act(Action.HOLD, second)
    await site.backend.cancel(first)
    await site.ended(first)
    assert (await site.seen(second)).state is JobState.QUEUED_HELD
    for action in (Action.HOLD, Action.RELEASE):
        with pytest.raises(WrongState, match="has ended"):
            await site.backend.act(action, first)


async def test_hold_or_release_started_job(site: LocalSite) -> None:
    native_id = await site.submit("sleep 600\n")
    for action in (Action.HOLD, Action.RELEASE):
        with pytest.raises(WrongState, match="does not wait in the queue"):
            await site.backend.act(action, native_id)


async def alter(site: LocalSite, native_id: NativeId, **values: object) -> None:
    spec = replace(site.spec("true\n"), **values)  # type: ignore[arg-type]
    await site.backend.alter(native_id, spec, frozenset(values))


async def test_change_queued_job(site: LocalSite) -> None:
    blocker = await site.submit("until [ -e go ]; do sleep 0.02; done\n", slots=4)
    script = site.script('echo "$JOB_NAME $1 $HPCQ_SLOTS" > told\nsleep 600\n', "b")
    job = await site.submit(
        script, slots=2, args=("x y",), wall_time_limit_seconds=3600, memory_limit_bytes=1 << 30
    )
    await alter(site, job, name="new name", wall_time_limit_seconds=1, memory_limit_bytes=None)
    await site.restart()
    seen = await site.seen(job)
    assert (seen.name, seen.wall_time_limit_seconds) == ("new name", 1)
    assert (seen.memory_limit_bytes, seen.slots, seen.args) == (None, 2, ("x y",))
    (site.work / "go").touch()
    await site.ended(blocker)
    end = await site.ended(job)
    assert (end.name, end.failure_kind) == ("new name", FailureKind.TIME_LIMIT)
    assert (site.work / "told").read_text() == "new name x y 2\n"


async def test_change_shorter_limit_starts_earlier(site: LocalSite) -> None:
    await site.submit("sleep 600\n", slots=3, wall_time_limit_seconds=600)
    await site.submit("sleep 600\n", slots=4)
    job = await site.submit("sleep 600\n", wall_time_limit_seconds=6000)
    assert (await site.seen(job)).state is JobState.QUEUED
    await alter(site, job, wall_time_limit_seconds=60)
    await site.running(job)


async def test_change_job_not_queued(site: LocalSite) -> None:
    done = await site.submit("true\n")
    await site.ended(done)
    running = await site.submit("sleep 600\n")
    for job, reason in ((running, "does not wait"), (done, "has ended")):
        with pytest.raises(WrongState, match=reason):
            await alter(site, job, name="other")
    held = await site.submit("true\n", hold=True)
    with pytest.raises(InvalidSpec, match="only queue"):
        await alter(site, held, name="other", queue="batch")
    with pytest.raises(JobNotFound):
        await alter(site, NativeId("99"), name="other")
    assert (await site.seen(held)).name == "job"


async def test_change_disk_full(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise NothingWritten("The spool cannot be used: database or disk is full.")

    job = await site.submit("true\n", hold=True)
    with monkeypatch.context() as patch:
        patch.setattr(site.backend._engine.spool, "alter", full)
        with pytest.raises(NothingWritten):
            await alter(site, job, name="other")
    assert (await site.seen(job)).name == "job"


async def test_cancel_queued_or_held_job(site: LocalSite) -> None:
    blocker = await site.submit("sleep 600\n", slots=4)
    for hold in (False, True):
        native_id = await site.submit("true\n", hold=hold)
        assert await site.backend.cancel(native_id) is True
        (job,) = (await site.backend.history([native_id])).observations
        assert (job.state, job.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
        assert (job.start_time, job.usage, job.exit_code) == (None, None, None)
        assert await site.backend.cancel(native_id) is False
    assert (await site.seen(blocker)).state is JobState.RUNNING


async def test_job_unknown(site: LocalSite) -> None:
    for unknown in ("99", "1_2", "007", "999999999999999999"):
        for action in (
            site.backend.cancel,
            partial(site.backend.act, Action.HOLD),
            partial(site.backend.act, Action.RELEASE),
        ):
            with pytest.raises(JobNotFound):
                await action(NativeId(unknown))
    assert (await site.backend.history([NativeId("99"), NativeId("1_2")])).observations == []


async def test_cancel_running_job_with_processes(site: LocalSite) -> None:
    """A child, a daemon in a session of its own, and one that ignores TERM."""
    daemon = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "open('daemon', 'w').write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    (site.work / "daemon.py").write_text(daemon)
    native_id = await site.submit(
        "env -i /usr/bin/env python3 daemon.py\n"
        "(trap '' TERM; echo > deaf.part; exec sleep 600) & echo $! > deaf\n"
        "sleep 600 & echo $! > child\n"
        "wait\n"
    )
    pids = [int(await site.file(name)) for name in ("daemon", "deaf", "child")]
    assert await site.backend.cancel(native_id) is False
    assert (await site.seen(native_id)).stage is Stage.CANCELLING
    job = await site.ended(native_id)
    assert (job.failure_kind, job.exit_signal) == (FailureKind.CANCELLED, signal.SIGTERM)
    assert not alive(*pids)


async def test_cancel_starting_job(site: LocalSite) -> None:
    script = site.script("sleep 600\n")
    for _ in range(20):
        native_id = await site.submit(script)
        await site.backend.cancel(native_id)
        assert (await site.ended(native_id)).failure_kind is FailureKind.CANCELLED


async def test_usage_during_and_after_job(site: LocalSite) -> None:
    began = time.monotonic()
    native_id = await site.submit("while :; do :; done\n")
    await site.running(native_id)

    async def sampled() -> Usage | None:
        return (await site.seen(native_id)).usage

    usage = await eventually(sampled)
    assert usage.memory_bytes and usage.sampled_at and usage.cpu_seconds is not None
    await site.backend.cancel(native_id)
    final = (await site.ended(native_id)).usage
    assert final is not None
    assert 0 < (final.cpu_seconds or 0) < time.monotonic() - began + 1
    assert final.memory_byte_seconds and final.max_memory_bytes and final.io_bytes


async def test_usage_memory_none_after_end(site: LocalSite) -> None:
    short, sampled = [(await site.run(body)).usage for body in ("true\n", "sleep 0.6\n")]
    for usage in (short, sampled):
        assert usage is not None
        assert usage.memory_bytes == 0.0
        assert (usage.max_memory_bytes or 0) > 0
    assert sampled is not None
    assert sampled.memory_byte_seconds is not None


@pytest.fixture
def delay_accounting() -> Iterator[bool]:
    """Have the kernel count what programs wait for, if that is allowed; say whether it does."""
    switch = Path("/proc/sys/kernel/task_delayacct")
    before = switch.read_text() if switch.exists() else "0"
    with contextlib.suppress(OSError):
        switch.write_text("1")
    yield switch.exists() and switch.read_text().strip() == "1"
    with contextlib.suppress(OSError):
        switch.write_text(before)


WAITS_FOR_THE_DISK = """\
#!/usr/bin/env python3
import mmap, os
file = os.open("waited", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
block = mmap.mmap(-1, 1 << 20)
seen = 0
for _ in range(2000):
    os.lseek(file, 0, 0)
    os.write(file, block)
    os.fsync(file)
    seen = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[39])
    if seen >= 2:
        break
print(seen / os.sysconf("SC_CLK_TCK"), flush=True)
"""


async def test_usage_io_wait_with_delay_accounting(site: LocalSite, delay_accounting: bool) -> None:
    if not delay_accounting:
        pytest.skip("the kernel does not count it (kernel.task_delayacct), and may not be told to")
    program = site.work / "waits.py"
    program.write_text(WAITS_FOR_THE_DISK)
    job = await site.run(program, name="w")
    said = await site.file(f"w.o{job.native_id}")
    if job.state is not JobState.DONE or float(said) == 0.0:
        pytest.skip("this folder is on no block device")
    assert job.usage is not None
    assert (job.usage.io_wait_seconds or 0.0) >= float(said)


async def test_usage_io_wait_without_delay_accounting(site: LocalSite) -> None:
    if processes.counts_io_wait():
        pytest.skip("the kernel counts it")
    usage = (await site.run("sleep 0.3\n")).usage
    assert usage is not None
    assert usage.io_wait_seconds is None


async def test_unchanged_jobs_same_objects(site: LocalSite) -> None:
    await site.submit("true\n", hold=True)
    assert (await site.backend.jobs()).observations[0] is (await site.backend.jobs()).observations[
        0
    ]


async def test_key_concurrent_submissions(site: LocalSite) -> None:
    key, spec = new_key(), site.spec("echo x >> ran\n")
    first, second = await asyncio.gather(
        submit_to(site.backend, spec, key), submit_to(site.backend, spec, key)
    )
    assert first == second == await site.backend.find(key)
    await site.ended(first)
    assert await submit_to(site.backend, spec, key) == first
    assert (site.work / "ran").read_text() == "x\n"
    assert await site.backend.find(new_key()) is None


async def test_submission_caller_cancelled(site: LocalSite) -> None:
    key = new_key()
    task = asyncio.create_task(submit_to(site.backend, site.spec("true\n", hold=True), key))
    while not site.backend._engine._tasks._running:  # noqa: ASYNC110 - to the very step
        await asyncio.sleep(0)
    task.cancel()
    await site.until(lambda jobs: len(jobs) == 1)
    assert await site.backend.find(key) is not None


# Restarts and crashes


async def test_restart_jobs_go_on(site: LocalSite) -> None:
    running = await site.submit("echo > started; while [ ! -e go ]; do sleep 0.02; done; exit 7\n")
    ended = await site.submit(
        site.script("while [ ! -e quick ]; do sleep 0.02; done; exit 8\n", "b")
    )
    await site.running(ended)
    key = new_key()
    held = await submit_to(site.backend, site.spec(site.script("true\n", "c"), hold=True), key)
    shepherd = shepherd_of(site, await site.running(ended))
    await site.stop()
    (site.work / "quick").touch()
    await gone(shepherd)
    await site.start()
    assert (await site.ended(ended)).exit_code == 8
    assert (await site.seen(running)).state is JobState.RUNNING
    assert (await site.seen(held)).state is JobState.QUEUED_HELD
    assert await site.backend.find(key) == held
    (site.work / "go").touch()
    assert (await site.ended(running)).exit_code == 7
    assert await site.submit(site.script("true\n", "c")) == str(int(held) + 1)


async def test_restart_running_job_cancelled(site: LocalSite) -> None:
    native_id = await site.submit("sleep 600\n")
    await site.running(native_id)
    await site.restart()
    await site.backend.cancel(native_id)
    assert (await site.ended(native_id)).failure_kind is FailureKind.CANCELLED


async def test_restart_queue_order(tmp_path: Path) -> None:
    site = await LocalSite(tmp_path, slots=1).start()
    blocker = await site.submit(site.script("while [ ! -e go ]; do sleep 0.02; done\n", "b"))
    script = site.script("echo $HPCQ_JOB_ID >> order\n")
    ids = [await site.submit(script) for _ in range(6)]
    await site.backend.act(Action.HOLD, ids[2])
    await site.restart()
    await site.backend.act(Action.RELEASE, ids[2])
    (site.work / "go").touch()
    for native_id in (blocker, *ids):
        await site.ended(native_id)
    assert (site.work / "order").read_text().split() == ids
    await site.stop()


async def test_machine_restart_running_jobs_failed(site: LocalSite) -> None:
    running = await site.submit("exec sleep 600\n")
    shepherd = shepherd_of(site, await site.running(running))
    queued = await site.submit(site.script("echo ran > out\n", "b"), hold=True)
    await site.stop()
    os.kill(shepherd, signal.SIGKILL)
    await gone(shepherd)
    await site.start(lambda: "another boot")
    job = await site.ended(running)
    assert (job.state, job.failure_kind) == (JobState.FAILED, FailureKind.NODE_FAILURE)
    assert job.state_reason == "The machine was restarted while the job ran."
    await site.backend.act(Action.RELEASE, queued)
    assert (await site.ended(queued)).state is JobState.DONE


async def test_shepherd_killed_job_failed(site: LocalSite) -> None:
    for restarts in (False, True):
        native_id = await site.submit(
            "setsid sleep 600 & echo $! > left; echo $$ > script; wait\n", name=str(restarts)
        )
        pids = [int(await site.file(name)) for name in ("left", "script")]
        shepherd = shepherd_of(site, await site.running(native_id))
        if restarts:
            await site.stop()
        os.kill(shepherd, signal.SIGKILL)
        if restarts:
            await gone(shepherd)
            await site.start()
        job = await site.ended(native_id)
        assert (job.state, job.failure_kind) == (JobState.FAILED, FailureKind.SCHEDULER_ERROR)
        assert "not known" in (job.state_reason or "")
        for pid in pids:
            await gone(pid)
        (site.work / "left").unlink()
        (site.work / "script").unlink()


async def test_shepherd_terminated_job_ended(site: LocalSite) -> None:
    native_id = await site.submit("echo $$ > script; sleep 600\n")
    shepherd = shepherd_of(site, await site.running(native_id))
    await site.file("script")
    os.kill(shepherd, signal.SIGTERM)
    assert (await site.ended(native_id)).failure_kind is FailureKind.NODE_FAILURE


async def test_launcher_killed_replaced(site: LocalSite) -> None:
    running = await site.submit("while [ ! -e go ]; do sleep 0.02; done; exit 5\n")
    await site.running(running)
    launcher = site.backend._engine.runs._launcher
    assert launcher is not None and launcher._connection is not None
    launcher._connection.process.kill()
    job = await site.run(site.script("exit 6\n", "b"))
    assert job.exit_code == 6
    (site.work / "go").touch()
    assert (await site.ended(running)).exit_code == 5


async def test_spool_two_services_refused(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcq.schedulers.local.spool_file._LOCK_PATIENCE_SECONDS", 0.05)
    native_id = await site.submit("true\n", hold=True)
    second = LocalSite(site.state.parent)
    with pytest.raises(SchedulerUnavailable, match=f"process {os.getpid()}"):
        await second.start()
    await second.stop()
    assert (await site.seen(native_id)).state is JobState.QUEUED_HELD


async def test_start_disk_full(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hpcq.schedulers.local.engine._PAUSE_SECONDS", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr("hpcq.schedulers.local.files.make_run_directory", full)
        native_id = await site.submit("true\n")
        await site.until(lambda jobs: "No space" in (jobs[0].state_reason or ""))
    assert (await site.ended(native_id)).state is JobState.DONE


def fill_spool(site: LocalSite) -> Callable[[], None]:
    """Let the spool grow no more, as on a full disk; return what ends that."""
    connection = site.backend._engine.spool._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")

    def free() -> None:
        connection.execute("PRAGMA max_page_count = 1000000")

    return free


async def test_submission_disk_full(site: LocalSite) -> None:
    free = fill_spool(site)
    spec = site.spec("true\n", args=("x" * 100_000,))
    key = new_key()
    with pytest.raises(SchedulerUnavailable, match="full") as refused:
        await submit_to(site.backend, spec, key)
    assert not refused.value.reached_scheduler
    assert await site.backend.find(key) is None
    free()
    assert (await site.ended(await submit_to(site.backend, spec, key))).state is JobState.DONE


async def test_cancel_queued_job_disk_full(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise NothingWritten("The spool cannot be used: database or disk is full.")

    blocker = await site.submit("while [ ! -e go ]; do sleep 0.02; done\n", slots=4)
    native_id = await site.submit(site.script("echo ran > ran\n", "b"))
    with monkeypatch.context() as patch:
        patch.setattr(site.backend._engine.spool, "finish", full)
        with pytest.raises(NothingWritten):
            await site.backend.cancel(native_id)
    assert (await site.seen(native_id)).stage is None
    (site.work / "go").touch()
    for number in (blocker, native_id):
        assert (await site.ended(number)).state is JobState.DONE
    assert (site.work / "ran").exists()


async def test_job_followed_after_descriptor_shortage(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(_: object) -> None:
        monkeypatch.setattr("hpcq.schedulers.local.runs.open_pidfd", processes.open_pidfd)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("hpcq.schedulers.local.engine._PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("hpcq.schedulers.local.runs.open_pidfd", exhausted)
    assert (await site.run("exit 3\n")).exit_code == 3


async def test_run_directories_removed(site: LocalSite) -> None:
    runs = site.state / "local" / "runs"
    scripts = site.state / "local" / "scripts"
    (runs / "99.1").mkdir()
    (scripts / "99.1").mkdir()
    await site.restart()
    assert [*runs.iterdir(), *scripts.iterdir()] == []
    await site.run("true\n")
    await site.stop()
    assert [*runs.iterdir(), *scripts.iterdir()] == []
    await site.start()
