"""Mails of a whole service on every scheduler, and of one that is killed: none is missed."""

import itertools
from pathlib import Path

import pytest
from tests.backends import BACKENDS
from tests.mail_server import Mail, MailServer, receiving_mails

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

JOBS = 12
ADDRESS = "ana@site.example"


def settings(server: MailServer) -> dict[str, str]:
    return {
        "MAIL_SERVER": f"127.0.0.1:{server.port}",
        "MAIL_FROM": "hpc@site.example",
        "MAIL_TLS": "off",
    }


@pytest.mark.parametrize(
    "backend", [pytest.param(one, marks=one.marks, id=name) for name, one in BACKENDS.items()]
)
def test_mails_each_scheduler(tmp_path: Path, backend: Backend) -> None:
    study = Study(tmp_path / "study")
    asked = {"mailTo": ADDRESS, "mailOn": ["begin", "end", "fail"], "name": "estudo é"}
    body = study.job(study.script("exit 3\n"), **asked)
    with (
        receiving_mails() as server,
        Service(tmp_path / "service", backend.settings() | settings(server)) as service,
    ):
        jobs = Jobs(service)
        plan = service.client.post("/jobs?dryRun=true", json=body)
        job = jobs.ended(jobs.submit(body))
        until(lambda: any("FAILED" in mail.message["Subject"] for mail in server.mails))
        mails = list(server.mails)
    # A job this short may not have been seen running.
    subjects = [mail.message["Subject"] for mail in mails]
    assert subjects[-1] == f"[conformance] estudo é ({job['jobId']}): FAILED"
    assert len(subjects) == len(set(subjects)) <= 2
    assert "It ended with exit code 3." in mails[-1].text
    assert job["stdoutPath"] in mails[-1].text
    if plan.status_code == 200:
        # Nor does what the script itself asks for make the scheduler send one.
        argv = " ".join([*plan.json()["argv"], ""])
        assert backend.name == "LOCAL" or " -m n " in argv or "--mail-type=NONE" in argv, argv


@pytest.mark.parametrize(
    "backend",
    [pytest.param(one, marks=one.marks, id=name) for name, one in BACKENDS.items() if one.arrays],
)
def test_mails_array_as_whole(tmp_path: Path, backend: Backend) -> None:
    study = Study(tmp_path / "study")
    script = study.script('[ "$HPCQ_ARRAY_TASK_ID" != 2 ]\n')
    asked = {"mailTo": ADDRESS, "name": "array", "array": {"first": 1, "last": 3}}
    with (
        receiving_mails() as server,
        Service(tmp_path / "service", backend.settings() | settings(server)) as service,
    ):
        jobs = Jobs(service)
        array = jobs.submit(study.job(script, **asked))
        jobs.ended(array)
        # Had a task made a mail, it would have come before that of a later job.
        later = jobs.submit(study.job(study.script("exit 0\n", "later.sh"), mailTo=ADDRESS))
        jobs.ended(later)
        expected = {
            f"[conformance] array ({array}): FAILED",
            f"[conformance] study ({later}): DONE",
        }
        until(lambda: expected <= {mail.message["Subject"] for mail in server.mails})
    assert len(server.mails) == len(expected)


def test_mails_service_killed(tmp_path: Path) -> None:
    study = Study(tmp_path / "study")
    body = study.job(study.script("exit 0\n"), mailTo=ADDRESS)
    count = itertools.count()

    def answer(_mail: Mail) -> str:
        return "451 Later" if next(count) % 7 == 0 else "250 OK"

    with (
        receiving_mails() as server,
        Service(tmp_path / "service", {"SCHEDULER": "LOCAL", **settings(server)}) as service,
    ):
        server.answer_mail = answer
        uids = set()
        for number in range(JOBS):
            submitted = service.client.post("/jobs", json=body)
            assert submitted.status_code == 201, submitted.text
            uids.add(submitted.json()["uid"])
            if number % 4 == 3:
                service.kill9()
                service.start()

        def told() -> set[str]:
            return {mail.text.split("uid:")[1].strip() for mail in server.mails}

        until(lambda: told() == uids, lambda: (len(told()), service.log_tail()))
    # One that was sent as the service was killed came twice, under the same name.
    assert len({mail.key for mail in server.mails}) == JOBS
