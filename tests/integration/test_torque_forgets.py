"""Torque forgets the key of a job that ended, while nobody knows that it took the job."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.fakebin.torque import Torque
from tests.faults.fake import left_behind

from hpcq.schedulers.testing.jobs import Json, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, cut_off, until

MARK = "300.4117"


class Site:
    """A service whose first submission is taken and never answered, by a Torque that forgets."""

    def __init__(self, start: Callable[..., Service], folder: Path) -> None:
        self.torque = Torque(folder / "torque", slots=4, keep_completed=0)
        wrapper = folder / "bin" / "qsub"
        wrapper.parent.mkdir()
        self._runs = folder / "submissions"
        taken = folder / "taken"
        wrapper.write_text(
            f"#!/bin/sh\nprintf . >> {self._runs}\nif [ -e {taken} ]; then\n"
            f'    exec {self.torque.path}/qsub "$@"\nfi\n'
            f'{self.torque.path}/qsub "$@" > {taken}\nexec sleep {MARK}\n'
        )
        wrapper.chmod(0o755)
        settings = self.torque.settings()
        self.service = start(
            **{**settings, "SCHEDULER_PATH": f"{wrapper.parent}:{settings['SCHEDULER_PATH']}"},
            POLL_INTERVAL_SECONDS="15",
            COMMAND_TIMEOUT_SECONDS="300",
            SUBMISSION_SETTLE_SECONDS="1",
        )

    @property
    def submissions(self) -> int:
        return self._runs.stat().st_size

    def lose(self, study: Study) -> None:
        """Submit a job that runs, ends and is forgotten while the service is away."""
        with cut_off(lambda: self.post(study)):
            until(lambda: b";Q;" in self.accounting())
            self.service.kill9()
        until(lambda: b";E;" in self.accounting())

    def post(self, study: Study) -> Json:
        body = study.job(study.script("echo ran >> runs\n"), name="lost run")
        headers = {"Idempotency-Key": "lost"}
        url = f"{self.service.url}/jobs"
        answer = httpx.post(url, json=body, headers=headers, timeout=PATIENCE_SECONDS)
        told: Json = answer.json()
        return told

    def accounting(self) -> bytes:
        logs = (self.torque.home / "server_priv" / "accounting").iterdir()
        return b"".join(path.read_bytes() for path in logs)

    def start_again(self, **settings: str) -> None:
        self.service.settings |= {"POLL_INTERVAL_SECONDS": "0.3", **settings}
        self.service.start()

    def read(self, uid: str) -> Json:
        job: Json = self.service.client.get(f"/jobs/{uid}").json()
        return job


@pytest.fixture
def site(start_service: Callable[..., Service], tmp_path: Path) -> Iterator[Site]:
    yield Site(start_service, tmp_path)
    assert left_behind(MARK) == []


def test_submission_uncertain_may_have_run(site: Site, study: Study) -> None:
    site.lose(study)
    site.start_again()
    uid = site.post(study)["uid"]
    until(lambda: "same name and owner" in (site.read(uid)["stateReason"] or ""))
    job = site.read(uid)
    assert (job["state"], job["jobId"]) == ("UNDETERMINED", None)
    assert " 1, of the same name" in job["stateReason"]
    polls = site.service.log_tail().count("submission.doubtful")
    assert (polls, site.submissions) == (1, 1)
    assert site.service.client.delete(f"/jobs/{uid}").status_code in (202, 204)
    until(lambda: site.read(uid)["state"] == "FAILED")
    assert (study.directory / "runs").read_text() == "ran\n"


def test_submission_uncertain_no_traces(site: Site, study: Study) -> None:
    site.lose(study)
    site.start_again(TORQUE_HOME=str(study.directory / "closed"))
    until(lambda: site.submissions == 2)
