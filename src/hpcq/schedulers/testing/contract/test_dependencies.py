"""Jobs that wait for others."""

from hpcq.schedulers.testing.backend import ALL_CONDITIONS, Backend, those_with
from hpcq.schedulers.testing.jobs import Jobs, Json, Study, assert_problem
from hpcq.schedulers.testing.service import Service

EXIT_CODES = {"success": 0, "failure": 3, "any": 3, "started": 0}


def _first(study: Study, exit_code: int) -> Json:
    """Return a job that runs until it is let go."""
    body = f"until [ -e go ]; do sleep 0.2; done\nexit {exit_code}\n"
    return study.job(study.script(body, f"first{exit_code}.sh"), name=f"first{exit_code}")


def _second(study: Study, first: str, condition: str) -> Json:
    """Return a job that waits for another, and leaves a file when it runs."""
    script = study.script(f": > ran-{condition}\n", f"second-{condition}.sh")
    wanted = {"jobId": first, "condition": condition}
    return study.job(script, name=f"second-{condition}", dependsOn=[wanted])


def _ran(study: Study) -> set[str]:
    return {path.name.removeprefix("ran-") for path in study.directory.glob("ran-*")}


def test_dependency_met(service: Service, jobs: Jobs, study: Study, backend: Backend) -> None:
    firsts = {code: jobs.submit(_first(study, code)) for code in (0, 3)}
    seconds: dict[str, str] = {}
    for condition in sorted(ALL_CONDITIONS):
        body = _second(study, firsts[EXIT_CODES[condition]], condition)
        if condition in backend.conditions:
            seconds[condition] = jobs.submit(body)
        else:
            assert assert_problem(service.client.post("/jobs", json=body), 501)["field"] == (
                "dependsOn"
            )
    for first in firsts.values():
        jobs.running(first)
    at_once = seconds.pop("started", None)
    if at_once is not None:
        assert jobs.ended(at_once)["state"] == "DONE"
    for condition, job_id in seconds.items():
        job = jobs.wait(job_id, lambda job: job["nativeState"] is not None)
        assert job["state"] in {"QUEUED", "QUEUED_HELD"}, condition
        assert job["dependsOn"] == [firsts[EXIT_CODES[condition]]]
    assert _ran(study) == backend.conditions & {"started"}
    (study.directory / "go").touch()
    for condition, job_id in seconds.items():
        assert jobs.ended(job_id)["state"] == "DONE", condition
    for code, first in firsts.items():
        assert jobs.ended(first)["exitCode"] == code
    assert _ran(study) == backend.conditions


def test_dependency_impossible_job_failed(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    first = jobs.submit(_first(study, 3))
    answer = service.client.post("/jobs", json=_second(study, first, "success"))
    second = None
    if "success" in backend.conditions:
        assert answer.status_code == 201
        second = jobs.accepted(answer)
    else:
        assert_problem(answer, 501)
    jobs.running(first)
    (study.directory / "go").touch()
    assert jobs.ended(first)["exitCode"] == 3
    if second is not None:
        job = jobs.ended(second)
        assert (job["state"], job["startTime"]) == ("FAILED", None)
    assert _ran(study) == set()


@those_with(lambda backend: backend.arrays and "any" in backend.conditions)
def test_dependency_on_array(jobs: Jobs, study: Study, backend: Backend) -> None:
    body = 'until [ -e go ] || [ -e "go$HPCQ_ARRAY_TASK_ID" ]; do sleep 0.2; done\n'
    script = study.script(body, "tasks.sh")
    array = jobs.submit(study.job(script, name="tasks", array={"first": 1, "last": 2}))
    first, last = (backend.task_id.format(array=array, task=number) for number in (1, 2))
    jobs.running(first)
    second = jobs.submit(_second(study, array, "any"))
    (study.directory / "go1").touch()
    jobs.ended(first)
    jobs.running(last)
    job = jobs.wait(second, lambda job: job["nativeState"] is not None)
    assert job["state"] in {"QUEUED", "QUEUED_HELD"}
    (study.directory / "go").touch()
    assert jobs.ended(second)["state"] == "DONE"
    assert jobs.ended(last)["endTime"] <= jobs.ended(second)["startTime"]


def test_dependency_on_ended_job(
    service: Service, jobs: Jobs, study: Study, backend: Backend
) -> None:
    (study.directory / "go").touch()
    first = jobs.submit(_first(study, 3))
    assert jobs.ended(first)["exitCode"] == 3
    for condition, status in (("any", 201), ("success", 400)):
        answer = service.client.post("/jobs", json=_second(study, first, condition))
        if not backend.conditions:
            assert_problem(answer, 501)
        elif status == 201:
            assert jobs.ended(jobs.accepted(answer))["state"] == "DONE"
        else:
            assert assert_problem(answer, status)["field"] == "dependsOn"
