"""Actions on running jobs: suspend, resume, requeue and signal."""

import pytest

from hpcq.domain.actions import Action
from hpcq.schedulers.testing.backend import Backend, those_with
from hpcq.schedulers.testing.jobs import Jobs, Study, assert_problem
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until, until_there

TICKS = "while :; do echo tick >> ticks; sleep 0.1; done\n"


def _act(service: Service, job_id: str, action: Action, body: object = None) -> None:
    answer = service.client.post(f"/jobs/{job_id}/{action}", json=body)
    assert (answer.status_code, answer.json()) == (202, {"detail": f"jobId: {job_id}"})


def _size(study: Study) -> int:
    return (study.directory / "ticks").stat().st_size


@those_with(lambda backend: backend.actions >= {Action.SUSPEND, Action.RESUME})
def test_resume_suspended_job(service: Service, jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script(TICKS)))
    jobs.running(job_id)
    until_there(study.directory / "ticks")
    for _ in range(2):
        _act(service, job_id, Action.SUSPEND)
        job = jobs.wait(job_id, lambda job: job["state"] == "SUSPENDED")
    assert (job["status"], job["endTime"]) == ("DISABLED", None)
    written = _size(study)
    for _ in range(2):
        _act(service, job_id, Action.RESUME)
        jobs.wait(job_id, lambda job: job["state"] == "RUNNING")
    until(lambda: _size(study) > written, lambda: "it does not go on")
    _act(service, job_id, Action.SUSPEND)
    jobs.wait(job_id, lambda job: job["state"] == "SUSPENDED")
    jobs.delete(job_id)
    assert jobs.ended(job_id)["failureKind"] == "CANCELLED"


@those_with(lambda backend: Action.REQUEUE in backend.actions)
def test_requeue_running_job(service: Service, jobs: Jobs, study: Study, backend: Backend) -> None:
    body = "echo run >> runs\nuntil [ -e go ]; do sleep 0.1; done\n"
    job_id = jobs.submit(study.job(study.script(backend.requeue_directives + body)))
    first = jobs.running(job_id)
    until_there(study.directory / "runs")
    (study.directory / "runs").unlink()
    _act(service, job_id, Action.REQUEUE)
    if backend.requeues_soon:
        until_there(study.directory / "runs")
        (study.directory / "go").touch()
        job = jobs.ended(job_id)
        assert (job["state"], job["exitCode"], job["failureKind"]) == ("DONE", 0, None)
        assert job["startTime"] >= first["startTime"]
    else:
        job = jobs.wait(job_id, lambda job: job["state"] == "REQUEUED")
        assert job["endTime"] is None
        jobs.delete(job_id)
        assert jobs.ended(job_id)["failureKind"] == "CANCELLED"
    assert jobs.read(job_id)["uid"] == first["uid"]


@those_with(lambda backend: Action.SIGNAL in backend.actions)
def test_signal_to_script(service: Service, jobs: Jobs, study: Study) -> None:
    script = study.script("trap ': > got' USR1\n: > ready\nuntil [ -e got ]; do sleep 0.1; done\n")
    job_id = jobs.submit(study.job(script))
    jobs.running(job_id)
    until_there(study.directory / "ready")
    _act(service, job_id, Action.SIGNAL, {"signal": "USR1"})
    until_there(study.directory / "got")
    jobs.ended(job_id)


@pytest.mark.parametrize("action", [Action.SUSPEND, Action.RESUME, Action.REQUEUE, Action.SIGNAL])
def test_action_on_queued_or_finished_job(
    service: Service, jobs: Jobs, study: Study, action: Action
) -> None:
    known = service.client.get("/cluster").json()["capabilities"]["actions"]
    body = {"signal": "USR1"} if action is Action.SIGNAL else None
    held = jobs.submit(study.job(study.script("true\n"), hold=True))
    done = jobs.submit(study.job(study.script("true\n")))
    jobs.ended(done)
    for job_id in (held, done):
        answer = service.client.post(f"/jobs/{job_id}/{action}", json=body)
        problem = assert_problem(answer, 409 if action in known else 501)
        if action not in known:
            assert f"cannot express '{action}'" in problem["detail"]
    assert_problem(service.client.post(f"/jobs/99999999/{action}", json=body), 404)


@pytest.mark.parametrize("signal", ["SIGUSR1", "usr1", "STOP", "9", "", "-1", "USR1\n", None])
def test_signal_unknown(service: Service, signal: str | None) -> None:
    assert_problem(service.client.post("/jobs/1/signal", json={"signal": signal}), 422)
