"""``kill -9`` of the service: the embedded scheduler's jobs neither die nor are forgotten."""

import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until, until_there

RUNNING = 10


def _submit_ten(jobs: Jobs, study: Study) -> list[str]:
    """Submit jobs that wait for a file and end with exit status 0 to 9; wait until all run."""
    script = study.script(
        ': > "started-$1"\n'
        "while [ ! -e go ]; do sleep 0.1; done\n"
        'sleep "0.$1"\n'
        'echo finished > "finished-$1"\n'
        'exit "$1"\n'
    )
    ids = [jobs.submit(study.job(script, args=[str(n)], name=f"job-{n}")) for n in range(RUNNING)]
    until_there(*[study.directory / f"started-{n}" for n in range(RUNNING)])
    return ids


def _assert_true_endings(jobs: Jobs, ids: list[str]) -> None:
    for number, job_id in enumerate(ids):
        job = jobs.ended(job_id)
        assert (job["exitCode"], job["exitSignal"]) == (number, None), job
        assert job["state"] == ("FAILED" if number else "DONE")
        assert job["failureKind"] == ("NON_ZERO_EXIT" if number else None)
        assert job["name"] == f"job-{number}"
        assert job["startTime"] <= job["endTime"]


def test_crash_jobs_ended_meanwhile(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service(INTERNAL_SCHEDULER_MAX_SLOTS="10")
    ids = _submit_ten(Jobs(service), study)
    service.kill9()
    (study.directory / "go").touch()
    until_there(*[study.directory / f"finished-{n}" for n in range(RUNNING)])
    service.start()
    _assert_true_endings(Jobs(service), ids)
    listed = Jobs(service).listed()
    assert set(ids) <= listed.keys()


def test_crash_jobs_still_running(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service(INTERNAL_SCHEDULER_MAX_SLOTS="10")
    ids = _submit_ten(Jobs(service), study)
    service.kill9()
    service.start()
    jobs = Jobs(service)
    for job_id in ids:
        assert jobs.read(job_id)["status"] == "RUNNING"
    (study.directory / "go").touch()
    _assert_true_endings(jobs, ids)


def test_crash_then_cancel_job(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service(INTERNAL_SCHEDULER_MAX_SLOTS="10")
    ids = _submit_ten(Jobs(service), study)
    service.kill9()
    service.start()
    jobs = Jobs(service)
    for job_id in ids:
        jobs.delete(job_id)
    for job_id in ids:
        assert jobs.ended(job_id)["failureKind"] == "CANCELLED"
    assert list(study.directory.glob("finished-*")) == []


def test_crash_after_signal_taken(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service()
    jobs = Jobs(service)
    script = study.script(
        "trap 'echo got >> got' USR1\n: > ready\nuntil [ -e go ]; do sleep 0.1; done\n"
    )
    job_id = jobs.submit(study.job(script))
    until_there(study.directory / "ready")
    jobs.running(job_id)
    answer = service.client.post(f"/jobs/{job_id}/signal", json={"signal": "USR1"})
    assert answer.status_code == 202
    service.kill9()
    service.start()
    until_there(study.directory / "got")
    (study.directory / "go").touch()
    assert Jobs(service).ended(job_id)["state"] == "DONE"
    assert (study.directory / "got").read_text() == "got\n"


def test_crash_suspended_job_resumed(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service()
    jobs = Jobs(service)
    script = study.script(": > ready\nuntil [ -e go ]; do sleep 0.1; done\n")
    job_id = jobs.submit(study.job(script))
    until_there(study.directory / "ready")
    jobs.running(job_id)
    assert service.client.post(f"/jobs/{job_id}/suspend").status_code == 202
    service.kill9()
    (study.directory / "go").touch()
    service.start()
    jobs = Jobs(service)
    job = jobs.read(job_id)
    assert (job["state"], job["status"]) == ("SUSPENDED", "DISABLED")
    assert service.client.post(f"/jobs/{job_id}/resume").status_code == 202
    assert jobs.ended(job_id)["state"] == "DONE"


def test_crash_during_requeue_runs_once(
    start_service: Callable[..., Service], study: Study
) -> None:
    service = start_service(CANCEL_GRACE_SECONDS="1")
    jobs = Jobs(service)
    script = study.script(
        "trap '' TERM\necho run >> runs\n: > ready\n[ $(wc -l < runs) = 2 ] || exec sleep 600\n"
    )
    job_id = jobs.submit(study.job(script))
    until_there(study.directory / "ready")
    first = jobs.running(job_id)
    assert service.client.post(f"/jobs/{job_id}/requeue").status_code == 202
    service.kill9()
    service.start()
    job = Jobs(service).ended(job_id)
    assert (job["state"], job["exitCode"], job["uid"]) == ("DONE", 0, first["uid"])
    assert job["startTime"] > first["startTime"]
    assert (study.directory / "runs").read_text() == "run\nrun\n"


def test_crash_queued_jobs_order(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service(INTERNAL_SCHEDULER_MAX_SLOTS="1")
    jobs = Jobs(service)
    script = study.script('echo "$1" >> order\nwhile [ ! -e go ]; do sleep 0.05; done\n')
    ids = [jobs.submit(study.job(script, args=[str(n)])) for n in range(4)]
    held = jobs.submit(study.job(script, args=["held"], hold=True))
    until_there(*[study.directory / "order"])
    service.kill9()
    (study.directory / "go").touch()
    service.start()
    jobs = Jobs(service)
    assert {jobs.ended(job_id)["state"] for job_id in ids} == {"DONE"}
    assert (study.directory / "order").read_text().split() == ["0", "1", "2", "3"]
    assert jobs.read(held)["state"] == "QUEUED_HELD"


def test_crash_ids_unique_finished_jobs_kept(
    start_service: Callable[..., Service], study: Study
) -> None:
    service = start_service()
    script = study.script('exit "$1"\n')
    seen: dict[str, int] = {}
    for number in range(3):
        jobs = Jobs(service)
        job_id = jobs.submit(study.job(script, args=[str(number)]))
        assert job_id not in seen
        seen[job_id] = number
        jobs.ended(job_id)
        service.kill9()
        service.start()
    jobs = Jobs(service)
    assert {job_id: jobs.read(job_id)["exitCode"] for job_id in seen} == seen
    assert seen.keys() <= jobs.listed().keys()


def test_service_stop_jobs_go_on(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service(INTERNAL_SCHEDULER_MAX_SLOTS="10")
    ids = _submit_ten(Jobs(service), study)
    service.stop()
    (study.directory / "go").touch()
    until_there(*[study.directory / f"finished-{n}" for n in range(RUNNING)])
    service.start()
    _assert_true_endings(Jobs(service), ids)


def test_crash_dependencies_decided_afterwards(
    start_service: Callable[..., Service], study: Study
) -> None:
    service = start_service()
    jobs = Jobs(service)
    body = ": > started\nuntil [ -e go ]; do sleep 0.1; done\n: > finished\nexit 3\n"
    first = jobs.submit(study.job(study.script(body)))
    script = study.script('echo "$1" >> ran\n', "second.sh")

    def after(other: str, condition: str) -> str:
        depends_on = [{"jobId": other, "condition": condition}]
        return jobs.submit(study.job(script, args=[condition], dependsOn=depends_on))

    until_there(study.directory / "started")
    good, vain = after(first, "failure"), after(first, "success")
    behind, last = after(vain, "success"), after(vain, "any")
    service.kill9()
    (study.directory / "go").touch()
    until_there(study.directory / "finished")
    service.start()
    jobs = Jobs(service)
    assert [jobs.ended(job_id)["state"] for job_id in (good, last)] == ["DONE", "DONE"]
    for job_id in (vain, behind):
        job = jobs.ended(job_id)
        assert (job["failureKind"], job["startTime"]) == ("CANCELLED", None)
        assert job["reasonCode"] == "DEPENDENCY_NEVER_SATISFIED"
    assert sorted((study.directory / "ran").read_text().split()) == ["any", "failure"]


def test_crash_array_each_task_once(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service()
    jobs = Jobs(service)
    script = study.script(
        'task="$HPCQ_ARRAY_TASK_ID"\necho "$task" >> started\n'
        'until [ -e go ] || [ "$task" = 1 ]; do sleep 0.1; done\n'
        'echo "$task" >> finished\n[ "$task" != 2 ] || exit 3\n'
    )
    body = study.job(script, array={"first": 1, "last": 6, "maxRunning": 2})
    array = jobs.submit(body)

    def lines(name: str) -> list[str]:
        path = study.directory / name
        return sorted(path.read_text().split()) if path.exists() else []

    until(lambda: lines("started") == ["1", "2", "3"])
    service.kill9()
    (study.directory / "go").touch()
    until(lambda: lines("finished") == ["1", "2", "3"])
    service.start()
    jobs = Jobs(service)
    whole = jobs.ended(array)
    assert (whole["state"], whole["exitCode"]) == ("FAILED", 3)
    ends = {number: jobs.ended(f"{array}[{number}]") for number in range(1, 7)}
    assert {number for number, job in ends.items() if job["state"] == "DONE"} == {1, 3, 4, 5, 6}
    assert lines("started") == lines("finished") == ["1", "2", "3", "4", "5", "6"]


DIES_AT_THE_SPOOL = """\
import os, signal
from pathlib import Path
from hpcq.schedulers.local.spool import Spool

add, here = Spool.add, Path(__file__).parent

async def dying(self, *args):
    if (here / "die-before").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    added = await add(self, *args)
    if (here / "die-after").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return added

Spool.add = dying
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_crash_array_at_spool(
    start_service: Callable[..., Service], study: Study, tmp_path: Path, when: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DIES_AT_THE_SPOOL)
    service = start_service(PYTHONPATH=str(tmp_path))
    script = study.script('echo "$HPCQ_ARRAY_TASK_ID" >> runs\n')
    body = study.job(script, array={"first": 1, "last": 40})
    key = {"Idempotency-Key": "interrupted"}
    (tmp_path / f"die-{when}").touch()
    with pytest.raises(httpx.TransportError):
        service.client.post("/jobs", json=body, headers=key)
    assert service.wait_until_ended() == -signal.SIGKILL
    (tmp_path / f"die-{when}").unlink()
    service.start()
    until(lambda: (study.directory / "runs").exists())
    jobs = Jobs(service)
    array = jobs.accepted(service.client.post("/jobs", json=body, headers=key))
    assert jobs.ended(array)["state"] == "DONE"
    assert sorted((study.directory / "runs").read_text().split(), key=int) == [
        str(number) for number in range(1, 41)
    ]


def test_crash_submission_between_intent_and_spool(
    start_service: Callable[..., Service], study: Study, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DIES_AT_THE_SPOOL)
    # Who waits for the settling of a submission waits for ever.
    service = start_service(PYTHONPATH=str(tmp_path), SUBMISSION_SETTLE_SECONDS="1000000")
    body = study.job(study.script("echo ran >> runs\n"))
    key = {"Idempotency-Key": "interrupted"}
    (tmp_path / "die-before").touch()
    with pytest.raises(httpx.TransportError):
        service.client.post("/jobs", json=body, headers=key)
    assert service.wait_until_ended() == -signal.SIGKILL
    (tmp_path / "die-before").unlink()
    service.start()
    until(lambda: (study.directory / "runs").exists())
    jobs = Jobs(service)
    again = service.client.post("/jobs", json=body, headers=key)
    assert jobs.ended(jobs.accepted(again))["state"] == "DONE"
    assert (study.directory / "runs").read_text() == "ran\n", "once"
