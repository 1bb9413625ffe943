"""Fields of a submission that some schedulers have: taken, or refused by name."""

import pytest

from hpcq.schedulers.testing.jobs import Jobs, Json, Study, assert_problem
from hpcq.schedulers.testing.service import Service

EVERYWHERE_ALIKE: Json = {
    "nodes": 1,
    "slotsPerNode": 2,
    "cpusPerTask": 2,
    "exclusive": True,
    "mailTo": "nobody@localhost.invalid",
    "mailOn": ["begin", "end", "fail"],
}
"""Those that any site's scheduler takes if its kind has them."""
OF_THE_SITE: Json = {
    "gpus": {"count": 1, "type": "a100"},
    "qos": "normal",
    "project": "hpcq-none",
    "reservation": "1",
    "constraints": ["hpcq-none"],
}
"""Those that name what a site may not have: the scheduler then says so."""


def _capable(service: Service) -> set[str]:
    return set(service.client.get("/cluster").json()["capabilities"]["fields"])


@pytest.mark.parametrize("name", [*EVERYWHERE_ALIKE, *OF_THE_SITE])
def test_fields_each_accepted_or_refused(
    service: Service, jobs: Jobs, study: Study, name: str
) -> None:
    value = (EVERYWHERE_ALIKE | OF_THE_SITE)[name]
    needed = {"mailTo": EVERYWHERE_ALIKE["mailTo"]} if name == "mailOn" else {}
    body = study.job(study.script("true\n"), hold=True, **{**needed, name: value})
    answer = service.client.post("/jobs", json={**body, "reservedSlots": 2})
    if name not in _capable(service):
        assert assert_problem(answer, 501)["field"] in (name, *needed)
    elif answer.status_code == 201:
        assert jobs.read(jobs.accepted(answer))["reservedSlots"] == 2
    else:
        problem = assert_problem(answer, 400, 403, 501, 502)
        assert name in OF_THE_SITE
        # Torque says of a missing feature only that there are no such nodes for the slots.
        said = problem.get("field", "").startswith((name, "reservedSlots"))
        assert said or problem.get("schedulerMessage")


def test_fields_all_at_once(service: Service, jobs: Jobs, study: Study) -> None:
    # An exclusive job would wait for the jobs of all who use the cluster.
    capable = _capable(service) - {"exclusive"}
    asked = {name: value for name, value in EVERYWHERE_ALIKE.items() if name in capable}
    job_id = jobs.submit(study.job(study.script("true\n"), **asked) | {"reservedSlots": 2})
    job = jobs.ended(job_id)
    assert (job["state"], job["reservedSlots"]) == ("DONE", 2)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"nodes": 3}, "nodes"),
        ({"slotsPerNode": 3}, "slotsPerNode"),
        ({"nodes": 2, "slotsPerNode": 2}, "slotsPerNode"),
        ({"cpusPerTask": 3}, "cpusPerTask"),
        ({"mailOn": ["end"]}, "mailOn"),
        ({"gpus": 0}, "gpus"),
    ],
)
def test_fields_contradictory(service: Service, study: Study, fields: Json, field: str) -> None:
    body = study.job(study.script("true\n")) | {"reservedSlots": 2} | fields
    problem = assert_problem(service.client.post("/jobs", json=body), 400)
    assert problem["field"] == field


def test_options_not_allowed_by_site(service: Service, study: Study) -> None:
    body = study.job(study.script("true\n"), options=["--output=/dev/null"])
    problem = assert_problem(service.client.post("/jobs", json=body), 400, 501)
    if "options" in _capable(service):
        assert problem["field"] == "options[0]"
        assert "'--output'" in problem["detail"]
        assert "SUBMIT_OPTIONS" in problem["detail"]
    else:
        assert (problem["status"], problem["field"]) == (501, "options")
