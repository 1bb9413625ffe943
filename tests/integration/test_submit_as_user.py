"""`SUBMIT_AS=user` with real accounts on real schedulers: whose the jobs and the files are."""

import os
import pwd
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.accounts import made_accounts
from tests.backends import BACKENDS
from tests.integration.test_access import token_command

from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make accounts")

SYSTEM_ACCOUNT = "daemon"


@pytest.fixture(scope="module")
def homes() -> Iterator[Path]:
    # Others cannot enter pytest's own folders.
    folder = Path(tempfile.mkdtemp(prefix="hpcq-t-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def accounts(homes: Path) -> Iterator[list[pwd.struct_passwd]]:
    with made_accounts(2, homes) as accounts:
        for account in accounts:
            Path(account.pw_dir).chmod(0o700)
        yield accounts


@dataclass
class Person:
    """A user of the service, with an account of the machine or without."""

    name: str
    client: httpx.Client
    home: Path

    def script(self, body: str, name: str = "job.sh") -> Path:
        path = self.home / name
        path.write_text("#!/bin/sh\n" + body)
        owner = self.home.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o700)
        return path

    def submit(self, **fields: Any) -> httpx.Response:
        job = {"workingDirectory": str(self.home), "reservedSlots": 1, **fields}
        return self.client.post("/jobs", json=job)

    def submitted(self, body: str, **fields: Any) -> str:
        answer = self.submit(scriptFile=str(self.script(body)), **fields)
        assert answer.status_code == 201, answer.text
        job_id: str = answer.json()["jobId"]
        return job_id

    def ended(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = {}

        def is_over() -> bool:
            job.update(self.client.get(f"/jobs/{job_id}").json())
            return job["state"] in {"DONE", "FAILED"}

        until(is_over)
        return job


class Site:
    """A service that submits as the person, and its users."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._clients: dict[str, httpx.Client] = {}

    def person(self, name: str, home: Path) -> Person:
        if name not in self._clients:
            made = token_command(self.service, "create", "--user", name, "--role", "user")
            assert made.returncode == 0, made.stderr
            headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
            self._clients[name] = httpx.Client(
                base_url=self.service.url, headers=headers, timeout=PATIENCE_SECONDS
            )
        return Person(name, self._clients[name], home)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


SCHEDULERS = [
    "LOCAL",
    *(pytest.param(name, marks=getattr(pytest.mark, name.lower())) for name in ("SLURM", "SGE")),
]


@pytest.fixture(scope="module", params=SCHEDULERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    settings = {**BACKENDS[request.param].settings(), "SUBMIT_AS": "user", "AUTH": "token,peer"}
    with Service(tmp_path_factory.mktemp("site"), settings) as service:
        site = Site(service)
        yield site
        site.close()


@pytest.fixture
def people(site: Site, accounts: list[pwd.struct_passwd]) -> list[Person]:
    return [site.person(account.pw_name, Path(account.pw_dir)) for account in accounts]


def test_job_and_file_owner(people: list[Person]) -> None:
    ana, _ = people
    out = f"out-{secrets.token_hex(4)}"
    job_id = ana.submitted('id -un; echo "$HOME $USER $LOGNAME"\n', stdoutPath=out)
    job = ana.ended(job_id)
    assert (job["state"], job["owner"]) == ("DONE", ana.name)
    assert (ana.home / out).read_text() == f"{ana.name}\n{ana.home} {ana.name} {ana.name}\n"
    assert (ana.home / out).owner() == ana.name


def test_script_text_owner(people: list[Person]) -> None:
    ana, _ = people
    out = f"out-{secrets.token_hex(4)}"
    there = set(ana.home.iterdir())
    text = '#!/bin/sh\nid -un; pwd; echo "$HPCQ_SCRIPT_DIRECTORY $1"\n'
    answer = ana.submit(script=text, stdoutPath=f"{out}-%j", stderrPath="/dev/null", args=["a b"])
    assert answer.status_code == 201, answer.text
    job = ana.ended(answer.json()["jobId"])
    written = ana.home / f"{out}-{job['jobId']}"
    assert (job["state"], job["owner"], job["scriptFile"]) == ("DONE", ana.name, None)
    assert written.read_text() == f"{ana.name}\n{ana.home}\n{ana.home} a b\n"
    assert written.owner() == ana.name
    assert set(ana.home.iterdir()) - there == {written}


def test_directory_of_other_user(people: list[Person]) -> None:
    ana, ben = people
    ben.script("true\n")
    answer = ana.submit(workingDirectory=str(ben.home), scriptFile=str(ana.script("true\n")))
    assert (answer.status_code, answer.json()["field"]) == (400, "workingDirectory")
    assert answer.json()["detail"] == (
        f"The directory {str(ben.home)!r} may not be entered by the account {ana.name!r}."
    )
    for path in (ben.home / "job.sh", ben.home / "none.sh"):
        answer = ana.submit(scriptFile=str(path))
        assert answer.status_code == 400
        # What is there and what is not look alike.
        assert answer.json()["detail"] == (
            f"{str(path)!r} cannot be used by the account {ana.name!r}: Permission denied."
        )


def test_script_readable_by_service_only(people: list[Person]) -> None:
    answer = people[0].submit(scriptFile="/etc/shadow")
    assert (answer.status_code, answer.json()["field"]) == (400, "scriptFile")
    assert "Permission denied" in answer.json()["detail"]
    assert people[0].name in answer.json()["detail"]


def test_output_writable_by_service_only(people: list[Person]) -> None:
    ana, _ = people
    answer = ana.submit(scriptFile=str(ana.script("true\n")), stdoutPath="/root/out")
    assert (answer.status_code, answer.json()["field"]) == (400, "stdoutPath")


@pytest.mark.parametrize("user", ["root", SYSTEM_ACCOUNT, "hpcq-t-nobody"])
def test_user_without_account(site: Site, people: list[Person], user: str) -> None:
    script = people[0].script("true\n")
    answer = site.person(user, people[0].home).submit(scriptFile=str(script))
    assert answer.status_code == 403
    assert repr(user) in answer.json()["detail"]


def test_job_of_other_user_change(people: list[Person]) -> None:
    ana, ben = people
    job_id = ana.submitted("true\n", hold=True)
    for method, path in (("DELETE", ""), ("POST", "/hold"), ("POST", "/release")):
        assert ben.client.request(method, f"/jobs/{job_id}{path}").status_code == 403
    assert ana.client.get(f"/jobs/{job_id}").json()["state"] == "QUEUED_HELD"
    assert ana.client.post(f"/jobs/{job_id}/release").status_code == 202
    assert ana.ended(job_id)["state"] == "DONE"


def test_output_and_files_read_as_user(people: list[Person]) -> None:
    ana, ben = people
    # Grid Engine adds to what is there.
    out = f"mine-{secrets.token_hex(4)}.out"
    (ben.home / "secret").write_text("ben's")
    body = f"echo mine; ln -s {ben.home}/secret stolen; ln {ben.home}/secret hard; true\n"
    job_id = ana.submitted(body, stdoutPath=out)
    assert ana.ended(job_id)["state"] == "DONE"
    url = f"/jobs/{job_id}"
    with ana.client.stream("GET", f"{url}/output?follow=true") as events:
        told = events.read().decode()
    assert '{"text": "mine\\n"}' in told
    assert ana.client.get(f"{url}/output", headers={"Range": "bytes=1-2"}).text == "in"
    (ana.home / "of-root").write_text("root's")
    (ana.home / "of-root").chmod(0o600)
    listed = ana.client.get(f"{url}/files").json()["entries"]
    assert {out, "stolen", "of-root"} <= {entry["name"] for entry in listed}
    assert ana.client.get(f"{url}/files/{out}").text == "mine\n"
    for name in ("stolen", "hard", "of-root", "../" + ben.home.name + "/secret"):
        answer = ana.client.get(f"{url}/files/{name}")
        assert answer.status_code == 404, answer.text
    for path in ("/output", "/output?follow=true", "/files", f"/files/{out}"):
        assert ben.client.get(url + path).status_code == 403


def test_job_cancelled_by_owner(people: list[Person]) -> None:
    ana, _ = people
    job_id = ana.submitted("sleep 600\n")
    assert ana.client.delete(f"/jobs/{job_id}").status_code == 202
    assert ana.ended(job_id)["state"] == "FAILED"
