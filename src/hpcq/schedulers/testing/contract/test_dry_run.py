"""Plans: what a submission would run, told and not done."""

import pytest

from hpcq.schedulers.testing.jobs import RECORD_ENVIRONMENT, Jobs, Study, assert_problem
from hpcq.schedulers.testing.service import Service


def test_dry_run_command(service: Service, jobs: Jobs, study: Study) -> None:
    body = study.job(
        study.script(": > ran\n"), args=["a b"], name="planned", environment={"SHOWN": "yes"}
    )
    before = set(jobs.listed())
    answer = service.client.post("/jobs?dryRun=true", json=body)
    if answer.status_code == 501:
        assert assert_problem(answer, 501)["field"] == "dryRun"
        return
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert any("planned" in word for word in plan["argv"]) or plan["argv"][0] == body["scriptFile"]
    assert plan["workingDirectory"] == body["workingDirectory"]
    assert "ran" in plan["script"]
    assert plan["isWrapped"] or plan["argv"][-1] == "a b"
    assert plan["environment"]["SHOWN"] == "yes"
    assert plan["environment"]["HPCQ_SCRIPT_DIRECTORY"] == str(study.directory)
    # What comes later has been seen in the queue, and no other job has.
    later = jobs.submit(body | {"hold": True})
    jobs.polled(2)
    ours = {
        i for i, job in jobs.listed().items() if job["workingDirectory"] == str(study.directory)
    }
    assert ours - before == {later}
    assert not (study.directory / "ran").exists()


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"scriptFile": "/no/such/script"}, 400, "scriptFile"),
        ({"reservedSlots": 2, "nodes": 3}, 400, "nodes"),
        ({"unheardOf": 1}, 422, "unheardOf"),
    ],
)
def test_dry_run_refusal_like_submission(
    service: Service, study: Study, fields: dict[str, object], status: int, field: str
) -> None:
    body = study.job(study.script("true\n")) | fields
    answers = [service.client.post(f"/jobs{query}", json=body) for query in ("", "?dryRun=true")]
    told = [assert_problem(answer, status) for answer in answers]
    assert [problem["field"] for problem in told] == [field, field]
    assert told[0]["detail"] == told[1]["detail"]


def test_dry_run_idempotency_key(service: Service, study: Study) -> None:
    body = study.job(study.script(RECORD_ENVIRONMENT))
    answer = service.client.post(
        "/jobs?dryRun=true", json=body, headers={"Idempotency-Key": "study-7"}
    )
    assert_problem(answer, 422)
