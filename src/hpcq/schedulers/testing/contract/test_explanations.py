"""Explanations of jobs that wait or failed: the same code on every scheduler."""

from datetime import datetime

from hpcq.schedulers.testing.backend import Backend, those_with
from hpcq.schedulers.testing.jobs import Jobs, Json, Study
from hpcq.schedulers.testing.service import Service

_FOR_SLOTS = {"WAITING_FOR_RESOURCES", "WAITING_FOR_PRIORITY"}


def _explained(jobs: Jobs, job_id: str, codes: set[str]) -> Json:
    job = jobs.wait(job_id, lambda job: job["reasonCode"] in codes)
    assert job["explanation"], job
    assert job["explanation"].endswith("."), job
    return job


@those_with(lambda backend: backend.explains_waits)
def test_explanation_waiting_for_slots(service: Service, jobs: Jobs, study: Study) -> None:
    of_queues = max(queue["slotsTotal"] or 0 for queue in service.client.get("/queues").json())
    of_nodes = sum(node["slotsTotal"] for node in service.client.get("/nodes").json())
    script = study.script("exec sleep 300\n")
    body = study.job(script, reservedSlots=of_queues or of_nodes, wallTimeLimit=600)
    # On a cluster that others use too, the first may wait as well.
    jobs.submit(body)
    waits = jobs.submit(body)
    job = _explained(jobs, waits, _FOR_SLOTS)
    assert job["state"] == "QUEUED"
    assert job["stateReason"]
    if job["startEstimate"] is not None:
        assert datetime.fromisoformat(job["startEstimate"]).timestamp() > 0


def test_explanation_held_job(service: Service, jobs: Jobs, study: Study) -> None:
    script = study.script("true\n")
    from_the_start = jobs.submit(study.job(script, hold=True))
    first = jobs.submit(study.job(study.script("exec sleep 600\n", "long.sh"), hold=True))
    assert service.client.post(f"/jobs/{first}/hold").status_code == 202
    for job_id in (from_the_start, first):
        job = _explained(jobs, job_id, {"HELD_BY_USER"})
        assert job["state"] == "QUEUED_HELD"
    assert service.client.post(f"/jobs/{from_the_start}/release").status_code == 202
    job = jobs.ended(from_the_start)
    assert (job["reasonCode"], job["explanation"]) == (None, None)
    assert job["startEstimate"] is None


def test_explanation_failed_job_exit_code(jobs: Jobs, study: Study) -> None:
    job = jobs.ended(jobs.submit(study.job(study.script("exit 3\n"))))
    assert job["reasonCode"] == "NON_ZERO_EXIT"
    assert job["explanation"] == "It ended with exit code 3."


def test_explanation_cancelled_job(jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("exec sleep 600\n")))
    jobs.running(job_id)
    jobs.delete(job_id)
    job = jobs.ended(job_id)
    assert job["reasonCode"] == "CANCELLED"
    assert job["explanation"] == f"It was cancelled by {job['submittedBy']}."


@those_with(lambda backend: backend.explains_waits and backend.conditions)
def test_explanation_waiting_for_dependency(jobs: Jobs, study: Study, backend: Backend) -> None:
    first = jobs.submit(study.job(study.script("exec sleep 600\n")))
    condition = "any" if "any" in backend.conditions else "success"
    wanted = [{"jobId": first, "condition": condition}]
    second = jobs.submit(study.job(study.script("true\n", "second.sh"), dependsOn=wanted))
    job = _explained(jobs, second, {"WAITING_FOR_DEPENDENCY"})
    assert job["explanation"] == f"It waits for other jobs: {first}."


@those_with(lambda backend: "success" in backend.conditions)
def test_explanation_impossible_dependency(jobs: Jobs, study: Study) -> None:
    body = "until [ -e go ]; do sleep 0.2; done\nexit 3\n"
    first = jobs.submit(study.job(study.script(body, "first.sh")))
    wanted = [{"jobId": first, "condition": "success"}]
    second = jobs.submit(study.job(study.script("true\n"), dependsOn=wanted))
    jobs.running(first)
    jobs.wait(second, lambda job: job["nativeState"] is not None)
    (study.directory / "go").touch()
    job = jobs.ended(second)
    assert job["reasonCode"] == "DEPENDENCY_NEVER_SATISFIED", str(job)
    assert job["explanation"].startswith("It never started"), job
