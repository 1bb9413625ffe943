"""The submission timed out, or exited with an error, yet the job exists; it is sent again.

Met in: toil 5459; sisyphus 156; firecrest-v2 76; ondemand 3198.
Here: There is one job. The service finds it by the key that it carries, before it answers: at once
(201), or later under the `uid` of a 202. It submits nothing again until the scheduler has answered
and certainly does not have the job.
"""

from collections.abc import Callable

import httpx
import pytest
from tests.failures.conftest import FAST, LIMITED
from tests.failures.site import Site, key_of, listed, read, read_until, until

from hpcq.schedulers.testing.jobs import Json, Study, assert_problem
from hpcq.schedulers.testing.service import Service

# The command took the job; this is what it did then.
LIES = ["hang", "deaf", "fail", "crash", "silent", "banner", "noise", "binary"]
IDEMPOTENT = {"Idempotency-Key": "study-7"}
SOON_SETTLED = {**LIMITED, "SUBMISSION_SETTLE_SECONDS": "3"}

Start = Callable[..., Service]


def _post(service: Service, study: Study, headers: dict[str, str] | None = None) -> httpx.Response:
    body = study.job(study.script("true\n"))
    return service.client.post("/jobs", json=body, headers=headers or {})


def _accepted_for_later(answer: httpx.Response) -> Json:
    assert answer.status_code == 202, answer.text
    body: Json = answer.json()
    assert body["jobId"] is None
    assert answer.headers["location"].endswith(f"/jobs/{body['uid']}")
    return body


@pytest.mark.parametrize("lie", LIES)
def test_submission_timeout_job_found(
    site: Site, start_service: Start, study: Study, lie: str
) -> None:
    patient = {**(LIMITED if lie in ("hang", "deaf") else FAST), "SUBMISSION_WAIT_SECONDS": "300"}
    serving = start_service(**site.fake.settings(), **patient)
    site.takes(lie)
    answer = _post(serving, study)
    assert answer.status_code == 201, answer.text
    assert [answer.json()["jobId"]] == site.fake.taken_ids()
    site.polled(3)
    assert {i: job["uid"] for i, job in listed(serving).items()} == {
        answer.json()["jobId"]: answer.json()["uid"]
    }
    assert site.fake.runs(site.fake.submit) == 1
    assert site.fake.left_behind() == []


@pytest.mark.parametrize("lie", ["hang", "crash", "silent", "fail"])
def test_submission_timeout_job_appears_late(
    site: Site, serving: Service, study: Study, lie: str
) -> None:
    site.takes(lie)
    site.fake.keep_from_view()
    taken = _accepted_for_later(_post(serving, study, IDEMPOTENT))
    job = read(serving, taken["uid"])
    assert (job["jobId"], job["state"], job["status"]) == (None, "UNDETERMINED", "UNKNOWN")
    assert job["stateReason"]
    (job_id,) = site.fake.taken_ids()
    site.queue(job_id, state=site.waiting, key=key_of(taken))
    job = read_until(serving, taken["uid"], lambda job: job["jobId"] is not None)
    assert (job["jobId"], job["uid"]) == (job_id, taken["uid"])
    again = _post(serving, study, IDEMPOTENT)
    assert (again.status_code, again.json()) == (201, {"jobId": job_id, "uid": taken["uid"]})
    assert again.headers["idempotent-replayed"] == "true"
    site.polled(5)
    assert listed(serving).keys() == {job_id}
    assert site.fake.taken_ids() == [job_id]


def test_submission_timeout_job_absent_resubmitted(
    site: Site, start_service: Start, study: Study
) -> None:
    serving = start_service(**site.fake.settings(), **SOON_SETTLED)
    site.fake.behave(site.fake.submit, "hang")
    taken = _accepted_for_later(_post(serving, study, IDEMPOTENT))
    site.takes()
    job = read_until(serving, taken["uid"], lambda job: job["jobId"] is not None)
    assert [job["jobId"]] == site.fake.taken_ids()
    assert key_of(taken) in " ".join(site.fake.taken(job["jobId"])[0])
    site.polled(5)
    assert site.fake.runs(site.fake.submit) == 2
    assert listed(serving).keys() == {job["jobId"]}


def test_submission_timeout_scheduler_unreachable(
    site: Site, start_service: Start, study: Study
) -> None:
    serving = start_service(**site.fake.settings(), **SOON_SETTLED)
    site.fake.behave(site.fake.submit, "hang")
    site.fake.behave_all("fail")
    answer = _post(serving, study, IDEMPOTENT)
    taken = _accepted_for_later(answer)
    site.takes()
    until(lambda: read(serving, taken["uid"])["stale"])
    site.fake.behave(site.fake.submit, "take-id")
    asked = site.fake.runs(site.fake.list)
    until(lambda: site.fake.runs(site.fake.list) > asked)
    assert site.fake.taken_ids() == []
    site.fake.behave_all("ok")
    job = read_until(serving, taken["uid"], lambda job: job["jobId"] is not None)
    assert [job["jobId"]] == site.fake.taken_ids()


def test_submission_refused(site: Site, serving: Service, study: Study) -> None:
    site.fake.behave(site.fake.submit, "refuse")
    problem = assert_problem(_post(serving, study), 502)
    assert problem["code"] == "scheduler_refused"
    assert (
        problem["schedulerMessage"]
        == f"{site.fake.submit}: error: the fake scheduler does not want it"
    )
    site.polled(3)
    assert listed(serving) == {}
    assert site.fake.runs(site.fake.submit) == 1
