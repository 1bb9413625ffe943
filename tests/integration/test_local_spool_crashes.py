"""LOCAL when the service is killed: no job is lost, run twice, or given a false end."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pytest
from tests.accounts import Account, make_folder
from tests.integration.local_driver import STEPS
from tests.integration.local_site import LocalSite

from hpcq.domain.actions import Action
from hpcq.domain.jobs import NativeId
from hpcq.domain.states import JobState

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
# Those through which each job goes.
USUAL = sorted(STEPS.keys() - {"request", "request_end", "put_back"})
RECORD = "echo $HPCQ_JOB_ID >> ran\nexit $HPCQ_JOB_ID\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def start_service(
    directory: Path, slots: int, jobs: int | str, step: str, *account: str, **environment: str
) -> subprocess.Popen[str]:
    words = (str(directory), str(slots), str(jobs), step, *account)
    driver = ["-m", "tests.integration.local_driver", *words]
    return subprocess.Popen(
        [sys.executable, *driver],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_crash_ten_running_jobs_exit_status(tmp_path: Path) -> None:
    site = LocalSite(tmp_path, slots=10)
    site.script(
        "echo $HPCQ_JOB_ID >> started\nwhile [ ! -e go$HPCQ_JOB_ID ]; do sleep 0.02; done\n"
        "exit $HPCQ_JOB_ID\n"
    )
    with start_service(tmp_path, 10, 10, "never") as service:
        while len((await site.file("started")).split()) < 10:  # noqa: ASYNC110 - ten writers
            await asyncio.sleep(0.02)
        service.kill()
    for number in range(1, 6):
        (site.work / f"go{number}").touch()
    await site.start()
    for number in range(6, 11):
        (site.work / f"go{number}").touch()
    ended = [await site.ended(NativeId(str(number))) for number in range(1, 11)]
    assert [job.exit_code for job in ended] == list(range(1, 11))
    await site.stop()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", USUAL)
async def test_crash_each_step_spool_legal(tmp_path: Path, when: str, step: str) -> None:
    """Each job that was taken runs once; one in doubt runs once or never."""
    site = LocalSite(tmp_path, slots=2)
    site.script(RECORD)
    with start_service(tmp_path, 2, 4, f"{when}:{step}") as service:
        ran = await judge_crash(site, service)
    assert int(await site.submit(site.work / "job.sh")) > max(map(int, ran))
    await site.until(lambda jobs: not jobs)
    await site.stop()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", USUAL)
async def test_crash_each_step_array(tmp_path: Path, when: str, step: str) -> None:
    """Each task of an array that was taken runs once; of one that was not, none runs."""
    site = LocalSite(tmp_path, slots=2)
    site.script("echo $HPCQ_ARRAY_TASK_ID >> ran\nexit $HPCQ_ARRAY_TASK_ID\n")
    # An array is added once.
    call = "1" if step == "add" else "2"
    with start_service(tmp_path, 2, "array:4", f"{when}:{step}", CALL=call) as service:
        taken, _ = await asyncio.to_thread(service.communicate)
        assert service.returncode == -signal.SIGKILL
    await site.start()
    await site.until(lambda jobs: not jobs)
    found = (await site.backend.history([NativeId("1")])).observations
    await site.stop()
    if (when, step) == ("before", "add"):
        assert (taken, found, (site.work / "ran").exists()) == ("", [], False)
        return
    assert Counter((site.work / "ran").read_text().split()) == dict.fromkeys("1234", 1)
    ends = {job.native_id: (job.state, job.exit_code) for job in found}
    tasks = {f"1[{number}]": (JobState.FAILED, number) for number in range(1, 5)}
    assert ends == {"1": (JobState.FAILED, 1), **tasks}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run jobs as other accounts")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", USUAL)
async def test_crash_each_step_account_job(
    homes: Path, people: list[Account], monkeypatch: pytest.MonkeyPatch, when: str, step: str
) -> None:
    directory = make_folder("crash-", homes)
    folders = make_folder("folders-", homes)
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    ana = people[0]
    site = LocalSite(directory, slots=2)
    site.script(RECORD)
    os.chown(site.work, ana.pw_uid, ana.pw_gid)
    with start_service(
        directory, 2, 4, f"{when}:{step}", ana.pw_name, TMPDIR=str(folders)
    ) as service:
        await judge_crash(site, service)
    assert (site.work / "ran").owner() == ana.pw_name
    await site.stop()
    assert os.listdir(folders) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("step", "call"),
    [
        ("request", 1),
        ("request_end", 1),
        ("result", 1),
        ("remove", 1),
        ("put_back", 1),
        ("dispatch", 2),
        ("start", 2),
        ("finish", 1),
    ],
)
async def test_crash_each_step_requeue(tmp_path: Path, when: str, step: str, call: int) -> None:
    site = LocalSite(tmp_path)
    site.script("echo run >> runs\necho > ready\n[ $(wc -l < runs) = 2 ] || exec sleep 600\n")
    with start_service(
        tmp_path, 4, 1, f"{when}:{step}", REQUEUE_AT="ready", CALL=str(call)
    ) as service:
        output, _ = await asyncio.to_thread(service.communicate)
    assert service.returncode == -signal.SIGKILL
    native_id = NativeId(output.strip())
    await site.start()
    if (when, step) == ("before", "request"):
        assert (await site.running(native_id)).state is JobState.RUNNING
        await site.backend.act(Action.REQUEUE, native_id)
    job = await site.ended(native_id)
    assert (job.state, job.exit_code) == (JobState.DONE, 0)
    assert (site.work / "runs").read_text().split() == ["run", "run"]
    await site.stop()


async def judge_crash(site: LocalSite, service: subprocess.Popen[str]) -> Collection[str]:
    """Wait for the end of a service, start another one, and check that each job ran once.

    Returns:
        The ids of the jobs.
    """
    output, _ = await asyncio.to_thread(service.communicate)
    assert service.returncode == -signal.SIGKILL
    taken = output.split()
    await site.start()
    await site.until(lambda jobs: not jobs)
    ran = Counter((site.work / "ran").read_text().split())
    assert set(ran.values()) == {1}
    assert set(taken) <= set(ran)
    assert len(ran) <= len(taken) + 1
    for native_id in ran:
        job = await site.ended(NativeId(native_id))
        assert (job.state, job.exit_code) == (JobState.FAILED, int(native_id))
    return ran
