"""The scheduler took the job, or did not, and its command never said so: one job in the end."""

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.backends import BACKENDS
from tests.faults.fake import left_behind, processes_with

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import Jobs, Json, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, cut_off, until

SUBMIT = {"SLURM": "sbatch", "SGE": "qsub", "TORQUE": "qsub", "PBS": "qsub"}
HANG = "exec /bin/sleep 300.{mark}"
# What the command does instead, once it was told to: each knows the real PROGRAM.
TOOK_IT = {
    "hangs": '{program} "$@" > /dev/null 2>&1; ' + HANG,
    "exits with 1": '{program} "$@" > /dev/null 2>&1; exit 1',
    "exits with 1 after its id": '{program} "$@"; exit 1',
    "prints garbage": "{program} \"$@\" > /dev/null 2>&1; printf 'Welcome\\377\\n7 jobs\\n'",
    "is killed": '{program} "$@" > /dev/null 2>&1; kill -9 $$',
}
DID_NOT = {"hangs": HANG, "exits with 1": "exit 1", "is killed": "kill -9 $$"}

pytestmark = pytest.mark.parametrize(
    "backend",
    [pytest.param(b, marks=b.marks, id=b.name) for b in BACKENDS.values() if b.name in SUBMIT],
)


class Site:
    """A service whose command to submit misbehaves the first time, and works from then on."""

    def __init__(
        self,
        backend: Backend,
        start: Callable[..., Service],
        folder: Path,
        deed: str,
        poll_seconds: str = "0.5",
    ) -> None:
        settings = backend.settings()
        path = settings.get("SCHEDULER_PATH", "/usr/bin:/bin")
        found = shutil.which(SUBMIT[backend.name], path=path)
        assert found is not None
        program = Path(found)
        self.mark = str(100000 + secrets.randbelow(900000))
        # No other job's: one that ended unseen under the same name may be this one.
        self.name = f"uncertain-{self.mark}"
        self.runs_file = folder / "submissions"
        self._bin = folder / "bin"
        self._bin.mkdir()
        done = folder / "misbehaved"
        script = self._bin / program.name
        deed = deed.format(program=program, mark=self.mark)
        script.write_text(
            # A trial, which submits nothing, is no submission.
            f'#!/bin/sh\ncase "$*" in *--test-only*) exec {program} "$@" ;; esac\n'
            f"printf . >> {self.runs_file}\n"
            f'if [ -e {done} ]; then exec {program} "$@"; fi\n: > {done}\n{deed}\n'
        )
        script.chmod(0o755)
        self.service = start(
            **{**settings, "SCHEDULER_PATH": f"{self._bin}:{path}"},
            # Long enough for the real command on a busy machine, before one hangs for good.
            COMMAND_TIMEOUT_SECONDS="15",
            POLL_INTERVAL_SECONDS=poll_seconds,
            SUBMISSION_WAIT_SECONDS="1",
            SUBMISSION_SETTLE_SECONDS="4",
        )

    @property
    def submissions(self) -> int:
        return self.runs_file.stat().st_size if self.runs_file.exists() else 0

    def post(self, study: Study, **fields: object) -> httpx.Response:
        script = study.script('echo "ran$HPCQ_ARRAY_TASK_ID" >> runs\n')
        body = study.job(script, name=self.name, args=["a b"], **fields)
        headers = {"Idempotency-Key": self.mark}
        url = f"{self.service.url}/jobs"
        return httpx.post(url, json=body, headers=headers, timeout=PATIENCE_SECONDS)

    def ran_once(self, study: Study, answer: httpx.Response) -> None:
        """Wait for the job of an answer, 201 or 202, and check that it is the only one."""
        assert answer.status_code in (201, 202), answer.text
        job = self.with_id(answer.json()["uid"])
        assert answer.json()["jobId"] in (None, job["jobId"])
        ended = Jobs(self.service).ended(job["jobId"])
        assert (ended["state"], ended["name"], ended["args"]) == ("DONE", self.name, ["a b"])
        assert ended["uid"] == answer.json()["uid"]
        assert (study.directory / "runs").read_text() == "ran\n"
        assert left_behind(self.mark) == []
        again = self.post(study)
        assert (again.status_code, again.json()["jobId"]) == (201, job["jobId"])

    def with_id(self, uid: str) -> Json:
        return Jobs(self.service).wait(uid, lambda job: job["jobId"] is not None)


@pytest.mark.parametrize("deed", TOOK_IT.values(), ids=TOOK_IT)
def test_submission_timeout_job_found(
    backend: Backend,
    start_service: Callable[..., Service],
    tmp_path: Path,
    study: Study,
    deed: str,
) -> None:
    site = Site(backend, start_service, tmp_path, deed)
    site.ran_once(study, site.post(study))
    assert site.submissions == 1


@pytest.mark.parametrize("deed", DID_NOT.values(), ids=DID_NOT)
def test_submission_timeout_job_absent_resubmitted(
    backend: Backend,
    start_service: Callable[..., Service],
    tmp_path: Path,
    study: Study,
    deed: str,
) -> None:
    site = Site(backend, start_service, tmp_path, deed)
    answer = site.post(study)
    assert answer.status_code == 202
    site.ran_once(study, answer)
    assert site.submissions == 2


@pytest.mark.parametrize("took_it", [True, False], ids=["took it", "did not"])
def test_submission_command_outlives_service(
    backend: Backend,
    start_service: Callable[..., Service],
    tmp_path: Path,
    study: Study,
    took_it: bool,
) -> None:
    deed = (TOOK_IT if took_it else DID_NOT)["hangs"]
    # The service that is killed has not seen the job in the queue.
    site = Site(backend, start_service, tmp_path, deed, poll_seconds="3")
    with cut_off(lambda: site.post(study)):
        until(lambda: processes_with(site.mark))
        site.service.kill9()
    site.service.start()
    site.ran_once(study, site.post(study))
    assert site.submissions == (1 if took_it else 2)


@pytest.mark.parametrize("took_it", [True, False], ids=["took it", "did not"])
def test_submission_array_service_killed(
    backend: Backend,
    start_service: Callable[..., Service],
    tmp_path: Path,
    study: Study,
    took_it: bool,
) -> None:
    deed = (TOOK_IT if took_it else DID_NOT)["hangs"]
    site = Site(backend, start_service, tmp_path, deed, poll_seconds="3")
    tasks = {"first": 1, "last": 3}
    with cut_off(lambda: site.post(study, array=tasks)):
        until(lambda: processes_with(site.mark))
        site.service.kill9()
    site.service.start()
    answer = site.post(study, array=tasks)
    assert answer.status_code in (201, 202), answer.text
    job_id, jobs = site.with_id(answer.json()["uid"])["jobId"], Jobs(site.service)
    assert jobs.ended(job_id)["state"] == "DONE"
    whole = jobs.wait(job_id, lambda job: job["tasks"]["byState"]["DONE"] == 3)
    assert whole["tasks"]["total"] == 3
    assert sorted((study.directory / "runs").read_text().split()) == ["ran1", "ran2", "ran3"]
    listed = [job for job in jobs.listed().values() if job["name"] == site.name]
    assert sorted(job["arrayTaskId"] or 0 for job in listed) == [0, 1, 2, 3]
    again = site.post(study, array=tasks)
    assert (again.status_code, again.json()["jobId"]) == (201, job_id)
    assert site.submissions == (1 if took_it else 2)
