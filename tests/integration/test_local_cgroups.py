"""LOCAL's jobs in real control groups, where this machine lets us make them.

Where it does not, the same jobs show that the process tree is used instead: nothing is skipped.
"""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.integration.local_site import LocalSite

from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.local.cgroup import JobCgroup, find_cgroup
from hpcq.schedulers.local.cgroup_setup import CgroupsUnusable, CgroupTree, claim
from hpcq.schedulers.local.launcher_client import LauncherClient
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

NOBODY_WAITS = """\
#!/usr/bin/env python3
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0:
    while time.process_time() < 0.6:
        pass
    os._exit(0)
try:
    os.wait()
except ChildProcessError:
    pass
"""


@pytest.fixture
def used(site: LocalSite) -> CgroupTree | None:
    """The groups that the backend uses, if any."""
    groups = site.backend._engine.runs.folders.cgroups
    if can_make_groups():
        assert groups is not None
    return groups


def can_make_groups() -> bool:
    """Return whether root, in the topmost group, can make another one: then there is no excuse."""
    try:
        own = find_cgroup(Path("/proc/self"))
        probe = own.path / "hpcq-test-of-this-machine"
        probe.mkdir()
    except (CgroupsUnusable, OSError):
        return False
    probe.rmdir()
    return os.geteuid() == 0 and own.name == "/"


def group_of(pid: int) -> Path | None:
    with contextlib.suppress(CgroupsUnusable):
        return find_cgroup(Path(f"/proc/{pid}")).path
    return None


async def ended(*pids: int) -> None:
    await asyncio.to_thread(_wait_for_end, pids)


def _wait_for_end(pids: tuple[int, ...]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(pid), "rb") as descriptor:
            assert select.select([descriptor], [], [], PATIENCE_SECONDS)[0], (
                f"process {pid} never ended"
            )


async def test_cpu_time_of_unreaped_children(site: LocalSite, used: CgroupTree | None) -> None:
    script = site.work / "nobody_waits.py"
    script.write_text(NOBODY_WAITS)
    job = await site.run(script)
    assert job.state is JobState.DONE, job.state_reason
    assert job.usage is not None and job.usage.cpu_seconds is not None
    # rusage never hears of a child that its parent does not wait for; cpu.stat counts all.
    assert (job.usage.cpu_seconds >= 0.6) == (used is not None)
    assert job.usage.max_memory_bytes and job.usage.io_bytes


async def test_cgroup_per_job_removed_at_end(site: LocalSite, used: CgroupTree | None) -> None:
    native_id = await site.submit("echo $$ > pid; sleep 600\n")
    pid = int(await site.file("pid"))
    mine = group_of(pid)
    if used is None:
        assert mine == group_of(os.getpid())
    else:
        assert mine == used.path / f"{native_id}.1"
        assert JobCgroup(mine).members() != []
    await site.backend.cancel(native_id)
    await site.ended(native_id)
    assert used is None or not (used.path / f"{native_id}.1").exists()


async def test_cancel_grandchild_in_own_session(site: LocalSite, used: CgroupTree | None) -> None:
    native_id = await site.submit(
        "setsid sh -c 'trap \"\" TERM; setsid sleep 600 & echo $! > grandchild; wait' &\nwait\n"
    )
    grandchild = int(await site.file("grandchild"))
    await site.backend.cancel(native_id)
    assert (await site.ended(native_id)).failure_kind is FailureKind.CANCELLED
    await ended(grandchild)
    assert used is None or list(used.path.glob(f"{native_id}.*")) == []


async def test_cgroup_kill(used: CgroupTree | None) -> None:
    leaf = None if used is None else JobCgroup.make(used.path / "999.1", None)
    if leaf is None or not (leaf.path / "cgroup.kill").exists():
        # Before Linux 5.14, or no groups: to ask for it is harmless, and signals do it.
        (leaf or JobCgroup(Path("/nonexistent"))).kill()
        return
    command = ["/bin/sleep", "600"]
    with subprocess.Popen(command, preexec_fn=leaf.join) as program:  # noqa: ASYNC220
        assert leaf.members() == [program.pid]
        leaf.kill()
        assert program.wait(10) == -signal.SIGKILL
    leaf.remove()
    assert not leaf.path.exists()


async def test_restart_jobs_keep_cgroups(site: LocalSite, used: CgroupTree | None) -> None:
    native_id = await site.submit("echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done; exit 7\n")
    pid = int(await site.file("pid"))
    before = group_of(pid)
    await site.restart()
    assert group_of(pid) == before
    assert site.backend._engine.runs.folders.cgroups == used
    (site.work / "go").touch()
    job = await site.ended(native_id)
    assert job.exit_code == 7
    assert job.usage is not None and job.usage.cpu_seconds


async def test_shepherd_killed_leftovers_in_cgroup(
    site: LocalSite, used: CgroupTree | None
) -> None:
    """A process without the job's key, that was not there at any sample."""
    native_id = await site.submit(
        "echo $$ > script; while [ ! -e go ]; do sleep 0.02; done\n"
        "env -i setsid sleep 600 & echo $! > stray; wait\n"
    )
    await site.file("script")
    shepherd = site.shepherd(native_id)
    (site.work / "go").touch()
    stray = int(await site.file("stray"))
    os.kill(shepherd.pid, signal.SIGKILL)
    job = await site.ended(native_id)
    assert job.failure_kind is FailureKind.SCHEDULER_ERROR
    if used is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(stray, signal.SIGKILL)
    await ended(stray)
    assert used is None or not (used.path / f"{native_id}.1").exists()


async def test_cgroups_removed_without_jobs(site: LocalSite, used: CgroupTree | None) -> None:
    if used is not None:
        (used.path / "999.1").mkdir()
    await site.restart()
    assert used is None or list(used.path.glob("*.1")) == []
    await site.run("true\n")
    await site.stop()
    assert used is None or not used.path.exists()
    await site.start()


async def test_controllers_disabled_at_service_end(tmp_path: Path) -> None:
    """Whatever ends the service, the launcher sees the end of its channel."""
    base = tmp_path / "top" / "hpcq-1"
    base.mkdir(parents=True)
    for group in (base, base.parent):
        (group / "cgroup.subtree_control").touch()
    launcher = LauncherClient(os.open("/dev/null", os.O_RDONLY), CgroupTree(base, (), ("memory",)))
    await launcher.start()
    await launcher.stop()
    for group in (base, base.parent):
        assert (group / "cgroup.subtree_control").read_text() == "-memory"


@pytest.fixture
def without_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    process = tmp_path / "proc"
    process.mkdir()
    (process / "cgroup").write_text("1:name=systemd:/\n")
    monkeypatch.setattr(
        "hpcq.schedulers.local.cgroup_setup.claim", lambda name: claim(name, process)
    )
    yield


async def test_cgroups_missing_process_tree_fallback(tmp_path: Path, without_groups: None) -> None:
    with capture_logs() as logs:
        site = await LocalSite(tmp_path).start()
        script = site.work / "nobody_waits.py"
        script.write_text(NOBODY_WAITS)
        jobs = [await site.run(script) for _ in range(2)]
        await site.clean_up()
    said = [entry for entry in logs if entry["event"].startswith("cgroups.")]
    assert [entry["event"] for entry in said] == ["cgroups.unused"]
    assert said[0]["reason"] == "This kernel has no cgroup v2."
    for job in jobs:
        assert job.usage is not None and 0 < (job.usage.cpu_seconds or 0) < 0.6
