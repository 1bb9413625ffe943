"""A scheduler that hangs, talks nonsense or is gone: a typed answer, and the service goes on."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.faults.fake import FakeScheduler
from tests.jobs import Json, Study, assert_problem
from tests.service import Service

LIMIT_SECONDS = 2.0
# From the limit to the answer, on a busy machine.
MARGIN_SECONDS = 2.0


def _post(service: Service, study: Study) -> httpx.Response:
    return service.client.post("/jobs", json=study.job(study.script("true\n")))


def _submitted(service: Service, study: Study) -> str:
    answer = _post(service, study)
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["jobId"]
    return job_id


def _until(reached: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.05)


def _is_stale(service: Service) -> bool:
    answer = service.client.get("/jobs")
    assert answer.status_code == 200
    return answer.headers["x-stale"] == "true"


def _reads_are_answered(service: Service, job_id: str) -> Json:
    """Check that all reads answer, and quickly; returns the job."""
    begun = time.monotonic()
    assert service.client.get("/jobs").status_code == 200
    answer = service.client.get(f"/jobs/{job_id}")
    assert answer.status_code == 200
    assert service.client.get("/health/live").status_code == 200
    assert time.monotonic() - begun < 1
    job: Json = answer.json()
    return job


def _is_left_open(service: Service, answer: httpx.Response) -> None:
    """Check that an answer says that it is not known yet whether there is a job, and why."""
    assert answer.status_code == 202, f"{answer.status_code} {answer.text[:2000]}"
    assert answer.json()["jobId"] is None
    job = service.client.get(answer.headers["location"]).json()
    assert (job["uid"], job["state"]) == (answer.json()["uid"], "UNDETERMINED")
    assert "Whether it took the job is being found out." in job["stateReason"]


@pytest.mark.parametrize("mode", ["hang", "deaf"])
def test_a_submission_that_hangs_is_answered_within_the_limit(
    fake: FakeScheduler, faulty: Service, study: Study, mode: str
) -> None:
    job_id = _submitted(faulty, study)
    fake.behave(fake.submit, mode)
    begun = time.monotonic()
    answer = _post(faulty, study)
    assert LIMIT_SECONDS <= time.monotonic() - begun < LIMIT_SECONDS + MARGIN_SECONDS
    _is_left_open(faulty, answer)
    assert fake.left_behind() == []
    _reads_are_answered(faulty, job_id)
    fake.behave(fake.submit, "id")
    _submitted(faulty, study)


def test_a_submission_is_never_repeated_on_its_own(
    fake: FakeScheduler, faulty: Service, study: Study
) -> None:
    fake.behave(fake.submit, "hang")
    before = fake.runs(fake.submit)
    _is_left_open(faulty, _post(faulty, study))
    time.sleep(3 * 0.3)  # what is not to happen would happen with the next queries
    assert fake.runs(fake.submit) == before + 1


def test_ten_submissions_that_hang_do_not_wait_for_each_other(
    fake: FakeScheduler, faulty: Service, study: Study
) -> None:
    fake.behave(fake.submit, "hang")
    begun = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: _post(faulty, study), range(10)))
    assert time.monotonic() - begun < LIMIT_SECONDS + 2 * MARGIN_SECONDS
    for answer in answers:
        _is_left_open(faulty, answer)
    assert fake.left_behind() == []


# It may have submitted before it was killed or printed nonsense.
@pytest.mark.parametrize("mode", ["noise", "endless", "half", "binary", "silent", "fail", "crash"])
def test_a_submission_that_is_answered_with_nonsense_is_left_open(
    fake: FakeScheduler, faulty: Service, study: Study, mode: str
) -> None:
    job_id = _submitted(faulty, study)
    fake.behave(fake.submit, mode)
    answer = _post(faulty, study)
    _is_left_open(faulty, answer)
    assert len(answer.content) < 5000
    _reads_are_answered(faulty, job_id)
    fake.behave(fake.submit, "id")
    _submitted(faulty, study)


def test_a_submission_that_is_refused_is_a_typed_error(
    fake: FakeScheduler, faulty: Service, study: Study
) -> None:
    job_id = _submitted(faulty, study)
    fake.behave(fake.submit, "refuse")
    problem = assert_problem(_post(faulty, study), 502)
    assert problem["code"] == "scheduler_refused"
    assert problem["schedulerMessage"]
    _reads_are_answered(faulty, job_id)
    fake.behave(fake.submit, "id")
    _submitted(faulty, study)


def test_a_missing_command_is_a_scheduler_that_is_away(
    fake: FakeScheduler, faulty: Service, study: Study
) -> None:
    job_id = _submitted(faulty, study)
    fake.remove(fake.submit)
    answer = _post(faulty, study)
    problem = assert_problem(answer, 503)
    assert problem["code"] == "scheduler_unavailable"
    assert int(answer.headers["retry-after"]) > 0
    assert fake.submit in problem["detail"]
    _reads_are_answered(faulty, job_id)


@pytest.mark.parametrize(
    "mode", ["hang", "deaf", "noise", "endless", "half", "binary", "fail", "crash", "missing"]
)
def test_reads_go_on_and_say_that_they_are_stale(
    fake: FakeScheduler, faulty: Service, study: Study, mode: str
) -> None:
    job_id = _submitted(faulty, study)
    before = _reads_are_answered(faulty, job_id)
    assert before["stale"] is False
    if mode == "missing":
        fake.remove(fake.list)
    else:
        fake.behave_all(mode)
    _until(lambda: _is_stale(faulty))
    seen = _reads_are_answered(faulty, job_id)
    assert seen["stale"] is True
    assert seen["state"] not in ("DONE", "FAILED")
    assert faulty.client.get("/health/ready").status_code == 503
    if mode == "missing":
        return
    fake.behave_all("ok")
    _until(lambda: not _is_stale(faulty))
    faulty.wait_until_ready()
    assert fake.left_behind() == []


def test_an_outage_never_ends_a_job(fake: FakeScheduler, faulty: Service, study: Study) -> None:
    """A queue that is empty by mistake, with an accounting that is down, decides nothing."""
    job_id = _submitted(faulty, study)
    if fake.scheduler == "PBS":  # which asks qstat for both
        fake.answer("qstat", b"out of order", question="some", exit_status=1)
    else:
        accounting = {"SLURM": "sacct", "SGE": "qacct", "TORQUE": "tracejob"}[fake.scheduler]
        fake.behave(accounting, "fail")
    runs = fake.runs(fake.list)
    _until(lambda: fake.runs(fake.list) >= runs + 5)
    job = _reads_are_answered(faulty, job_id)
    assert job["state"] not in ("DONE", "FAILED")
    assert job["failureKind"] is None


def test_deleting_while_the_scheduler_hangs_is_answered(
    fake: FakeScheduler, faulty: Service, study: Study
) -> None:
    job_id = _submitted(faulty, study)
    fake.behave_all("hang")
    begun = time.monotonic()
    answer = faulty.client.delete(f"/jobs/{job_id}")
    assert time.monotonic() - begun < 2 * LIMIT_SECONDS + MARGIN_SECONDS
    assert_problem(answer, 504)
    fake.behave_all("ok")
    assert fake.left_behind() == []


def test_an_unknown_id_while_the_scheduler_hangs_is_answered(
    fake: FakeScheduler, faulty: Service
) -> None:
    fake.behave_all("hang")
    begun = time.monotonic()
    answer = faulty.client.get("/jobs/4711")
    assert time.monotonic() - begun < 2 * LIMIT_SECONDS + MARGIN_SECONDS
    # Elsewhere the accounting is a file, which answers whatever the commands do.
    assert_problem(answer, 504, *([] if fake.scheduler == "SLURM" else [404]))


def test_a_service_stops_while_commands_hang(fake: FakeScheduler, faulty: Service) -> None:
    fake.behave_all("deaf")
    runs = fake.runs(fake.list)
    _until(lambda: fake.runs(fake.list) > runs)
    begun = time.monotonic()
    faulty.stop()
    assert time.monotonic() - begun < 10
    assert fake.left_behind() == []


def test_a_service_starts_before_its_scheduler(fake: FakeScheduler, tmp_path: Path) -> None:
    fake.behave_all("fail")
    service = Service(tmp_path / "early", fake.settings())
    try:
        service.start(wait=False)
        _until(lambda: _live(service))
        problem = assert_problem(service.client.get("/health/ready"), 503)
        assert "out of order" in problem["detail"]
        assert service.client.get("/jobs").headers["x-stale"] == "true"
        fake.behave_all("ok")
        service.wait_until_ready()
        assert service.client.get("/jobs").headers["x-stale"] == "false"
    finally:
        service.stop()


def _live(service: Service) -> bool:
    try:
        return service.client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False
