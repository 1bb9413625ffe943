"""A scheduler that hangs, talks nonsense or is gone: a typed answer, and the service goes on."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.faults.fake import HANGS_SECONDS, LIMIT_SECONDS, FakeScheduler, processes_with

from hpcq.schedulers.testing.jobs import Jobs, Json, Study, assert_problem
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

# What no adapter has a part in is tried on one scheduler.
ON_ONE = pytest.mark.parametrize("fake", ["SLURM"], indirect=True)


def _post(service: Service, study: Study) -> httpx.Response:
    return service.client.post("/jobs", json=study.job(study.script("true\n")))


def _submitted(service: Service, study: Study) -> str:
    answer = _post(service, study)
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["jobId"]
    return job_id


def _is_stale(service: Service) -> bool:
    answer = service.client.get("/jobs")
    assert answer.status_code == 200
    return answer.headers["x-stale"] == "true"


def _reads_are_answered(service: Service, job_id: str) -> Json:
    """Check that all reads answer, and wait for no command; returns the job."""
    begun = time.monotonic()
    assert service.client.get("/jobs").status_code == 200
    answer = service.client.get(f"/jobs/{job_id}")
    assert answer.status_code == 200
    assert service.client.get("/health/live").status_code == 200
    assert time.monotonic() - begun < int(service.settings["COMMAND_TIMEOUT_SECONDS"])
    job: Json = answer.json()
    return job


def _is_left_open(service: Service, answer: httpx.Response) -> None:
    """Check that an answer says that it is not known yet whether there is a job, and why."""
    assert answer.status_code == 202, f"{answer.status_code} {answer.text[:2000]}"
    assert answer.json()["jobId"] is None
    job = service.client.get(answer.headers["location"]).json()
    assert job["uid"] == answer.json()["uid"]
    # On a slow machine it may be known by now that the scheduler surely does not have it.
    reasons = {
        "UNDETERMINED": "Whether it took the job is being found out.",
        "QUEUED": "It is being handed to the scheduler again",
    }
    assert reasons.get(job["state"], "?") in job["stateReason"], job


@ON_ONE
@pytest.mark.parametrize("mode", ["hang", "deaf"])
def test_submission_hangs_answer_in_time(
    fake: FakeScheduler, impatient: Service, study: Study, mode: str
) -> None:
    job_id = _submitted(impatient, study)
    fake.behave(fake.submit, mode)
    begun = time.monotonic()
    answer = _post(impatient, study)
    assert LIMIT_SECONDS <= time.monotonic() - begun < HANGS_SECONDS
    _is_left_open(impatient, answer)
    assert fake.left_behind() == []
    _reads_are_answered(impatient, job_id)
    fake.behave(fake.submit, "id")
    _submitted(impatient, study)


def test_submission_hangs_not_repeated(
    fake: FakeScheduler, impatient: Service, study: Study
) -> None:
    fake.behave(fake.submit, "hang")
    before = fake.runs(fake.submit)
    _is_left_open(impatient, _post(impatient, study))
    Jobs(impatient).polled(3)  # what is not to happen would happen with the next queries
    assert fake.runs(fake.submit) == before + 1


@ON_ONE
def test_submission_hangs_ten_at_once(fake: FakeScheduler, faulty: Service, study: Study) -> None:
    fake.behave(fake.submit, "hang")
    with ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(_post, faulty, study) for _ in range(10)]
        until(lambda: fake.runs(fake.submit) == 10)
        assert not any(answer.done() for answer in waiting)
        # None is to be ended before it has begun to hang.
        until(lambda: len(processes_with(fake.mark)) >= 2 * 10)
        fake.end_hanging()
    for answer in waiting:
        _is_left_open(faulty, answer.result())
    assert fake.left_behind() == []


# It may have submitted before it was killed or printed nonsense.
@pytest.mark.parametrize("mode", ["noise", "endless", "half", "binary", "silent", "fail", "crash"])
def test_submission_answer_nonsense(
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


def test_submission_refused(fake: FakeScheduler, faulty: Service, study: Study) -> None:
    job_id = _submitted(faulty, study)
    fake.behave(fake.submit, "refuse")
    problem = assert_problem(_post(faulty, study), 502)
    assert problem["code"] == "scheduler_refused"
    assert problem["schedulerMessage"]
    _reads_are_answered(faulty, job_id)
    fake.behave(fake.submit, "id")
    _submitted(faulty, study)


def test_submission_command_missing(fake: FakeScheduler, faulty: Service, study: Study) -> None:
    job_id = _submitted(faulty, study)
    fake.remove(fake.submit)
    answer = _post(faulty, study)
    problem = assert_problem(answer, 503)
    assert problem["code"] == "scheduler_unavailable"
    assert int(answer.headers["retry-after"]) > 0
    assert fake.submit in problem["detail"]
    _reads_are_answered(faulty, job_id)


@pytest.mark.parametrize("mode", ["noise", "endless", "half", "binary", "fail"])
def test_reads_stale_command_output_bad(
    fake: FakeScheduler, faulty: Service, study: Study, mode: str
) -> None:
    _reads_go_on(fake, faulty, study, mode)


@ON_ONE
@pytest.mark.parametrize("mode", ["hang", "deaf", "crash", "missing"])
def test_reads_stale_command_hangs_or_missing(
    fake: FakeScheduler, faulty: Service, study: Study, mode: str
) -> None:
    _reads_go_on(fake, faulty, study, mode)


def _reads_go_on(fake: FakeScheduler, faulty: Service, study: Study, mode: str) -> None:
    job_id = _submitted(faulty, study)
    until(lambda: not _reads_are_answered(faulty, job_id)["stale"])
    if mode == "missing":
        fake.remove(fake.list)
    else:
        fake.behave_all(mode)
    until(lambda: _is_stale(faulty))
    seen = _reads_are_answered(faulty, job_id)
    assert seen["stale"] is True
    assert seen["state"] not in ("DONE", "FAILED")
    assert faulty.client.get("/health/ready").status_code == 503
    if mode == "missing":
        return
    fake.behave_all("ok")
    fake.end_hanging()
    until(lambda: not _is_stale(faulty))
    faulty.wait_until_ready()
    assert fake.left_behind() == []


def test_outage_jobs_not_ended(fake: FakeScheduler, faulty: Service, study: Study) -> None:
    """A queue that is empty by mistake, with an accounting that is down, decides nothing."""
    job_id = _submitted(faulty, study)
    if fake.scheduler == "PBS":  # which asks qstat for both
        fake.answer("qstat", b"out of order", question="some", exit_status=1)
    else:
        accounting = {"SLURM": "sacct", "SGE": "qacct", "TORQUE": "tracejob"}[fake.scheduler]
        fake.behave(accounting, "fail")
    runs = fake.runs(fake.list)
    until(lambda: fake.runs(fake.list) >= runs + 5)
    job = _reads_are_answered(faulty, job_id)
    assert job["state"] not in ("DONE", "FAILED")
    assert job["failureKind"] is None


def test_delete_scheduler_hangs(fake: FakeScheduler, impatient: Service, study: Study) -> None:
    job_id = _submitted(impatient, study)
    fake.behave_all("hang")
    begun = time.monotonic()
    answer = impatient.client.delete(f"/jobs/{job_id}")
    assert time.monotonic() - begun < HANGS_SECONDS
    assert_problem(answer, 504)
    fake.behave_all("ok")
    assert fake.left_behind() == []


def test_unknown_id_scheduler_hangs(fake: FakeScheduler, impatient: Service) -> None:
    fake.behave_all("hang")
    begun = time.monotonic()
    answer = impatient.client.get("/jobs/4711")
    assert time.monotonic() - begun < HANGS_SECONDS
    # Elsewhere the accounting is a file, which answers whatever the commands do.
    assert_problem(answer, 504, *([] if fake.scheduler == "SLURM" else [404]))


@ON_ONE
def test_service_stop_commands_hang(fake: FakeScheduler, faulty: Service) -> None:
    fake.behave_all("deaf")
    until(lambda: processes_with(fake.mark))
    begun = time.monotonic()
    faulty.stop()
    assert time.monotonic() - begun < int(faulty.settings["COMMAND_TIMEOUT_SECONDS"])
    assert fake.left_behind() == []


def test_service_start_scheduler_down(fake: FakeScheduler, tmp_path: Path) -> None:
    fake.behave_all("fail")
    service = Service(tmp_path / "early", fake.settings())
    try:
        service.start(wait=False)
        until(lambda: _live(service))
        until(lambda: "out of order" in _unreadiness(service), lambda: _unreadiness(service))
        refused = service.client.get("/jobs")
        assert_problem(refused, 503)
        assert int(refused.headers["retry-after"]) > 0
        fake.behave_all("ok")
        service.wait_until_ready()
        assert service.client.get("/jobs").headers["x-stale"] == "false"
    finally:
        service.stop()


def _unreadiness(service: Service) -> str:
    problem = assert_problem(service.client.get("/health/ready"), 503)
    return str(problem["detail"])


def _live(service: Service) -> bool:
    try:
        return service.client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False
