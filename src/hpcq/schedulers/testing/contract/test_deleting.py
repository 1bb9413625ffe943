"""Deleting: queued, running and finished jobs."""

import contextlib
import secrets
from pathlib import Path

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import Jobs, Study, assert_problem
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until, until_there

STOPPING = {"STOP_REQUESTED", "STOPPING", "STOPPED"}


def _alive(mark: str) -> list[int]:
    """Return the processes that carry a mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def test_delete_queued_job(service: Service, jobs: Jobs, study: Study, backend: Backend) -> None:
    job_id = jobs.submit(study.job(study.script(": > ran\n"), hold=True))
    answer = service.client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()) == (202, {"detail": f"jobId: {job_id}"})
    seen = jobs.read(job_id)
    assert seen["status"] in {"STOP_REQUESTED", "STOPPED"}
    job = jobs.ended(job_id)
    assert (job["state"], job["failureKind"]) == ("FAILED", "CANCELLED")
    assert job["startTime"] == (job["submitTime"] if service.is_original else None)
    assert job["elapsed"] is None
    assert not (study.directory / "ran").exists()


def test_delete_running_job_with_processes(jobs: Jobs, study: Study, backend: Backend) -> None:
    mark = secrets.token_hex(16)
    orphans = "(trap '' TERM HUP INT; sleep 600) &\nsetsid sleep 600 &\n"
    body = (
        f"{orphans if backend.kills_orphans else ''}"
        ": > started\n"
        "trap 'sleep 2; exit 143' TERM\n"
        "sleep 600 &\n"
        "wait\n"
    )
    job_id = jobs.submit(study.job(study.script(body), environment={"MARK": mark}))
    jobs.running(job_id)
    until_there(study.directory / "started")
    assert _alive(mark)
    jobs.delete(job_id)
    seen = jobs.read(job_id)
    assert seen["status"] in ({"STOPPING"} if backend.first_kill_is_term else STOPPING)
    job = jobs.ended(job_id)
    assert (job["state"], job["failureKind"]) == ("FAILED", "CANCELLED")
    assert job["startTime"] is not None
    until(lambda: not _alive(mark), lambda: f"still there: {_alive(mark)}")


def test_delete_running_job_status(jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("exec sleep 600\n")))
    jobs.running(job_id)
    jobs.delete(job_id)
    seen = {jobs.read(job_id)["status"]}
    while "STOPPED" not in seen:
        seen.add(jobs.read(job_id)["status"])
        # Between the queue and the accounting nobody can say.
        assert seen <= STOPPING | {"UNKNOWN"}


def test_delete_twice(jobs: Jobs, study: Study) -> None:
    held = jobs.submit(study.job(study.script("true\n"), hold=True))
    running = jobs.submit(study.job(study.script("exec sleep 600\n")))
    jobs.running(running)
    for job_id in (held, running):
        jobs.delete(job_id)
        jobs.delete(job_id)
        job = jobs.ended(job_id)
        jobs.delete(job_id)
        jobs.delete(job_id)
        assert jobs.read(job_id)["failureKind"] == job["failureKind"] == "CANCELLED"


def test_delete_finished_job_leaves_listing(jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("exit 3\n")))
    ended = jobs.ended(job_id)
    assert jobs.over(job_id)["uid"] == ended["uid"]
    jobs.delete(job_id)
    assert job_id not in jobs.listed()
    job = jobs.read(job_id)
    assert (job["state"], job["failureKind"], job["exitCode"]) == ("FAILED", "NON_ZERO_EXIT", 3)
    assert job["endTime"] == ended["endTime"]


def test_delete_other_jobs_untouched(jobs: Jobs, study: Study) -> None:
    script = study.script("until [ -e go ]; do sleep 0.2; done\n")
    ids = [jobs.submit(study.job(script)) for _ in range(3)]
    jobs.delete(ids[1])
    jobs.ended(ids[1])
    (study.directory / "go").touch()
    assert [jobs.ended(job_id)["state"] for job_id in ids] == ["DONE", "FAILED", "DONE"]


def test_finished_job_after_restart(service: Service, jobs: Jobs, study: Study) -> None:
    done = jobs.submit(study.job(study.script("exit 5\n"), args=["x y"]))
    held = jobs.submit(study.job(study.script("true\n"), hold=True, args=["held"]))
    before = jobs.ended(done)
    service.restart()
    again = Jobs(service)
    after = again.read(done)
    for field in ("uid", "state", "exitCode", "failureKind", "endTime", "args", "name"):
        assert after[field] == before[field], field
    job = again.wait(held, lambda job: job["asOf"] is not None)
    assert (job["state"], job["args"]) == ("QUEUED_HELD", ["held"])
    again.delete(held)
    assert again.ended(held)["failureKind"] == "CANCELLED"
    assert_problem(service.client.get("/jobs/99999999"), 404)
