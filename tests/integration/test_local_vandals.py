"""Jobs that damage their own run directory: no other job notices, none runs twice."""

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from tests.integration.local_site import LocalSite

from hpcq.domain.errors import SchedulerUnavailable
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.local.files import REPORT_DESCRIPTOR
from hpcq.schedulers.local.processes import Process, identify, is_running
from hpcq.schedulers.local.spool_file import NothingWritten
from hpcq.schedulers.testing.waiting import eventually

pytestmark = pytest.mark.anyio

FILES = "job.json report.json started.json usage.json result.json cancel shepherd.log"

# Each acts in the run directory $RUN of its job.
VANDALISM = {
    "removed": "rm -rf $RUN",
    "emptied": "rm -rf $RUN/*",
    "renamed": "mv $RUN $RUN-elsewhere",
    "forbidden": "chmod 000 $RUN/* $RUN",
    "a-file": "rm -rf $RUN; echo > $RUN",
    "a-fifo": "rm -rf $RUN; mkfifo $RUN",
    "a-link": "rm -rf $RUN; ln -s $DECOY $RUN",
    "all-removed": "rm -rf $RUN/../../runs $RUN/../../scripts",
    "all-a-fifo": "mv $RUN/.. $RUN/../../gone; mkfifo ${RUN%/*}",
    "directories": f"cd $RUN; for f in {FILES}; do rm -rf $f; mkdir -p $f/a/b; done",
    "fifos": f"cd $RUN; for f in {FILES}; do rm -rf $f $f.new; mkfifo $f $f.new; done",
    "links": f"cd $RUN; for f in {FILES}; do rm -rf $f; ln -s $DECOY/file $f; done",
    "garbage": f"cd $RUN; for f in {FILES}; do rm -rf $f; head -c 999 /dev/urandom > $f; done",
    "written-into": f"cd $RUN; for f in {FILES}; do head -c 9999 /dev/urandom >> $f; done",
    "huge": f"cd $RUN; for f in {FILES}; do truncate -s 20G $f; done",
    "truncated": f'cd $RUN; for f in {FILES}; do echo -n \'{{"result": {{"exit\' > $f; done',
    "nested": f"cd $RUN; for f in {FILES}; do yes [ | head -c 99999 | tr -d '\\n' > $f; done",
    "nonsense": f"cd $RUN; for f in {FILES}; do echo '[1, \"a\"]' > $f; done",
}


async def submit(site: LocalSite, name: str, act: str, exit_code: int) -> NativeId:
    """Submit a job that acts in its run directory, and waits for the file ``go``."""
    script = site.script(
        f"echo {name} >> ledger\nRUN=$(echo $RUNS/$HPCQ_JOB_ID.*)\n"
        f"({act}) > /dev/null 2>&1\n"
        f"echo > done-{name}\nwhile [ ! -e go ]; do sleep 0.02; done\nexit {exit_code}\n",
        name,
    )
    # Links lead to a folder of the test: who follows one must harm nothing else.
    decoy = site.work / "decoy"
    decoy.mkdir(exist_ok=True)
    (decoy / "file").write_text("decoy")
    places = {"RUNS": str(site.state / "local" / "runs"), "DECOY": str(decoy)}
    return await site.submit(script, environment=places)


async def gone(process: Process) -> None:
    """Wait until a process has ended."""

    async def has_ended() -> bool:
        return not is_running(process)

    await eventually(has_ended)


async def end_both(site: LocalSite, victim: NativeId, vandal: NativeId) -> Observation:
    """Check that the victim ended as it should; return the end of the vandal."""
    other = await site.ended(victim)
    assert (other.state, other.exit_code) == (JobState.FAILED, 5), other.state_reason
    job = await site.ended(vandal)
    assert sorted((site.work / "ledger").read_text().split()) == ["vandal", "victim"]
    assert (site.work / "decoy" / "file").read_text() == "decoy"
    assert (await site.run(site.script("exit 6\n", "next"))).exit_code == 6
    return job


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("act", VANDALISM)
async def test_run_directory_damaged_by_job(site: LocalSite, act: str, restarts: bool) -> None:
    victim = await submit(site, "victim", "true", 5)
    await site.file("done-victim")
    vandal = await submit(site, "vandal", VANDALISM[act], 7)
    await site.file("done-vandal")
    await site.seen(vandal)
    if restarts:
        await site.restart()
        assert (await site.seen(vandal)).state is JobState.RUNNING
    (site.work / "go").touch()
    job = await end_both(site, victim, vandal)
    assert (job.failure_kind, job.exit_code) == (FailureKind.NON_ZERO_EXIT, 7), job.state_reason


@pytest.mark.parametrize("act", VANDALISM)
async def test_run_directory_damaged_service_stopped(site: LocalSite, act: str) -> None:
    victim = await submit(site, "victim", "true", 5)
    vandal = await submit(site, "vandal", VANDALISM[act], 7)
    await site.file("done-victim")
    await site.file("done-vandal")
    shepherds = [site.shepherd(victim), site.shepherd(vandal)]
    await site.stop()
    (site.work / "go").touch()
    for shepherd in shepherds:
        await gone(shepherd)
    (site.work / "go").unlink()
    await site.start()
    job = await site.ended(vandal)
    if job.exit_code != 7:
        assert job.failure_kind is FailureKind.SCHEDULER_ERROR
        assert "its exit status is not known" in (job.state_reason or "")
    ledger = (site.work / "ledger").read_text().split()
    assert sorted(ledger) == ["vandal", "victim"]
    if not act.startswith("all-"):
        assert (await site.ended(victim)).exit_code == 5
    assert (await site.run(site.script("exit 6\n", "next"))).exit_code == 6


async def test_run_directory_forged_processes(site: LocalSite) -> None:
    victim = await submit(site, "victim", "true", 5)
    await site.file("done-victim")
    shepherd = site.shepherd(victim)
    sample = (
        f'{{"cpu_seconds": 1, "memory_byte_seconds": 1, "memory_bytes": 1, "max_memory_bytes": 1, '
        f'"io_bytes": 1, "sampled_at": 1, "processes": [[{shepherd.pid}, {shepherd.start_ticks}], '
        f"[{os.getpid()}, {(identify(os.getpid()) or shepherd).start_ticks}]]}}"
    )
    folder = site.work / "folder"
    folder.mkdir()
    vandal = await submit(
        site,
        "vandal",
        f"echo '{sample}' > $RUN/usage.json; echo '{{\"sample\": {sample}}}' > $RUN/report.json\n"
        f'sed -i \'s@"folder": "[^"]*"@"folder": "{folder}"@\' $RUN/job.json\n'
        "kill -9 $PPID",
        7,
    )
    job = await site.ended(vandal)
    assert job.failure_kind is FailureKind.SCHEDULER_ERROR
    assert is_running(shepherd)
    assert folder.is_dir()
    (site.work / "go").touch()
    await end_both(site, victim, vandal)


async def test_tmpdir_symlink(site: LocalSite) -> None:
    place = site.work / "place"
    (place / "below").mkdir(parents=True)
    place.chmod(0o750)
    job = await site.run(f"rm -rf ${{TMPDIR%/tmp}}; ln -s {place} ${{TMPDIR%/tmp}}\n")
    assert job.state is JobState.DONE
    assert place.stat().st_mode & 0o777 == 0o750
    assert (place / "below").is_dir()


async def test_script_folder_contents(site: LocalSite) -> None:
    await site.run('ls -a "$(dirname "$0")" > listed; echo "$0" > named; env > env\n')
    assert (site.work / "listed").read_text().split() == [".", "..", "script"]
    assert "/runs/" not in (site.work / "named").read_text() + (site.work / "env").read_text()


async def test_shepherd_signalled_by_job(site: LocalSite) -> None:
    script = "for n in HUP INT QUIT USR1 ALRM PIPE CHLD TSTP TTIN CONT; do kill -$n $PPID; done\n"
    job = await site.run(script + "exit 3\n")
    assert job.exit_code == 3


async def test_shepherd_killed_by_job(site: LocalSite) -> None:
    native_id = await submit(site, "vandal", "rm -rf $RUN; kill -9 $PPID", 7)
    await site.file("ledger")
    await site.restart()
    job = await site.ended(native_id)
    assert job.failure_kind is FailureKind.SCHEDULER_ERROR
    assert (site.work / "ledger").read_text() == "vandal\n"


def forget_start(site: LocalSite) -> str:
    """Take the shepherd out of the spool, as an earlier version left it; return its JSON."""
    connection = sqlite3.connect(site.state / "local" / "spool.db")
    with connection:
        ((started,),) = connection.execute("SELECT started FROM job").fetchall()
        connection.execute("UPDATE job SET started = NULL")
    connection.close()
    return str(started)


@pytest.mark.parametrize("is_marked", [True, False])
async def test_job_of_earlier_version(site: LocalSite, is_marked: bool) -> None:
    native_id = await submit(site, "vandal", "true", 7)
    await site.file("done-vandal")
    await site.stop()
    started = forget_start(site)
    if is_marked:
        (site.state / "local" / "runs" / f"{native_id}.1" / "started.json").write_text(started)
    await site.start()
    if is_marked:
        (site.work / "go").touch()
    job = await site.ended(native_id)
    if is_marked:
        assert job.exit_code == 7
    else:
        assert job.failure_kind is FailureKind.SCHEDULER_ERROR
        assert "its exit status is not known" in (job.state_reason or "")
    assert (site.work / "ledger").read_text() == "vandal\n"


async def test_shepherd_stopped_goes_on(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    look_often(monkeypatch)
    await site.restart()
    job = await site.run("kill -STOP $PPID\nexit 3\n")
    assert job.exit_code == 3


async def test_shepherd_stopped_repeatedly(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_often(monkeypatch)
    await site.restart()
    job = await site.run("while kill -STOP $PPID; do :; done\n")
    assert job.failure_kind is FailureKind.SCHEDULER_ERROR


async def test_shepherd_stopped_job_cancelled(site: LocalSite) -> None:
    native_id = await site.submit("echo > there; kill -STOP $PPID; sleep 600\n")
    await site.file("there")
    await site.backend.cancel(native_id)
    assert (await site.ended(native_id)).failure_kind is FailureKind.CANCELLED


async def test_launcher_stopped_goes_on(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    look_often(monkeypatch)
    await site.restart()
    os.kill(launcher_of(site), signal.SIGSTOP)
    assert (await site.run("exit 3\n")).exit_code == 3


async def test_launcher_stopped_service_stop_and_start(site: LocalSite) -> None:
    os.kill(launcher_of(site), signal.SIGSTOP)
    await site.restart()
    assert (await site.run("exit 3\n")).exit_code == 3


async def test_launcher_stopped_service_dead(tmp_path: Path) -> None:
    driver = [sys.executable, "-m", "tests.integration.local_driver", str(tmp_path), "1", "1"]
    site = LocalSite(tmp_path, slots=1)
    site.script("kill -STOP $(ps -o ppid= -p $PPID)\necho > stopped\n")
    paths = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": os.environ["PATH"]}
    service = await asyncio.create_subprocess_exec(*driver, "never", env=paths)
    await site.file("stopped")
    service.kill()
    await service.wait()
    await site.start()
    await site.until(lambda jobs: not jobs)
    await site.stop()


async def test_spool_removed_while_running(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_often(monkeypatch)
    await site.restart()
    os.rename(site.state, site.state.with_name("gone"))

    async def is_refused() -> bool:
        try:
            await site.backend.jobs()
        except SchedulerUnavailable:
            return True
        return False

    await eventually(is_refused)
    with pytest.raises(NothingWritten, match="was removed or replaced"):
        await site.submit("true\n")
    os.rename(site.state.with_name("gone"), site.state)

    async def is_back() -> bool:
        return not await is_refused()

    await eventually(is_back)


async def test_thread_limit_reached(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(site.backend._engine.runs, "begin", exhausted)
        native_id = await site.submit("echo ran > ran\n")
        await site.until(lambda jobs: "new thread" in (jobs[0].state_reason or ""))
        assert await site.backend.cancel(native_id) is True
    await site.restart()
    assert (await site.run(site.script("true\n", "next"))).state is JobState.DONE
    assert not (site.work / "ran").exists()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/proc/self/fd/{report}", "belongs to the service"),
        ("/dev/tty0", "cannot be used"),
        ("{spool}", "belongs to the service"),
    ],
)
async def test_output_not_a_job_file(site: LocalSite, path: str, why: str) -> None:
    spool = site.state / "local" / "spool.db"
    job = await site.run("true\n", stdout_path=path.format(report=REPORT_DESCRIPTOR, spool=spool))
    assert (job.failure_kind, job.exit_code) == (FailureKind.SCHEDULER_ERROR, 127)
    assert why in (job.state_reason or "")
    await site.restart()
    assert (await site.run("exit 3\n")).exit_code == 3


async def test_output_to_any_descriptor(site: LocalSite) -> None:
    ids = [await site.submit("exit 3\n", stdout_path=f"/proc/self/fd/{n}") for n in range(12)]
    for native_id in ids:
        assert (await site.ended(native_id)).exit_code in (3, 127)


def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcq.schedulers.local.engine._LOOK_SECONDS", 0.05)


def launcher_of(site: LocalSite) -> int:
    launcher = site.backend._engine.runs._launcher
    assert launcher is not None and launcher.pid is not None
    return launcher.pid
