"""A site's settings for all jobs, on a service with a locale that is not UTF-8."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import RECORD_ARGUMENTS, RECORD_ENVIRONMENT, Jobs, Study
from hpcq.schedulers.testing.service import Service

SITE = {
    "JOB_ENVIRONMENT": "LICENSE_SERVER, OMP_NUM_THREADS=4 'GREETING=olá, mundo' OVERRIDDEN=site",
    "LICENSE_SERVER": "27000@licenses",
    "JOB_PATH": "/opt/mpi/bin:/usr/local/bin:/usr/bin:/bin",
    "JOB_SHELL": "/bin/bash",
}
# Python takes another encoding than UTF-8 for C where it is told to believe the locale.
NOT_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def site(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {**backend.settings(), **SITE, **NOT_UTF8}
    with Service(tmp_path_factory.mktemp(f"site-{backend.name}"), settings) as running:
        yield running


@pytest.fixture
def jobs(site: Service) -> Iterator[Jobs]:
    client = Jobs(site)
    yield client
    client.clean_up()


def test_job_environment_of_site(jobs: Jobs, study: Study) -> None:
    body = study.job(study.script(RECORD_ENVIRONMENT), environment={"OVERRIDDEN": "request"})
    assert jobs.ended(jobs.submit(body))["state"] == "DONE"
    environment = study.environment()
    expected = {
        "LICENSE_SERVER": "27000@licenses",
        "OMP_NUM_THREADS": "4",
        "GREETING": "olá, mundo",
        "OVERRIDDEN": "request",
        "PATH": SITE["JOB_PATH"],
    }
    assert {name: environment.get(name) for name in expected} == expected


def test_dry_run_hides_site_values(site: Service, study: Study) -> None:
    body = study.job(study.script("true\n"), environment={"OVERRIDDEN": "request"})
    answer = site.client.post("/jobs?dryRun=true", json=body)
    assert answer.status_code in (200, 501), answer.text
    for secret in ("27000@licenses", "mundo"):
        assert secret not in answer.text
    if answer.status_code == 200:
        told = answer.json()["environment"]
        assert told["LICENSE_SERVER"] == "***"
        assert told["OVERRIDDEN"] == "request"


def test_job_shell_without_interpreter_line(jobs: Jobs, study: Study) -> None:
    script = study.directory / "bare.sh"
    script.write_text(f"cases=(one two three)\necho ${{cases[2]}} > said\n{RECORD_ARGUMENTS}")
    assert jobs.ended(jobs.submit(study.job(script, args=["a b"])))["state"] == "DONE"
    assert (study.directory / "said").read_text() == "three\n"
    assert study.arguments() == ["a b"]


def test_text_in_non_utf8_locale(jobs: Jobs, study: Study) -> None:
    odd = Study(study.directory / "São José 数値")
    script = odd.script(f"echo olá\n{RECORD_ARGUMENTS}", name="previsão.sh")
    body = odd.job(script, name="ação", args=["São Paulo", "数値"], stdoutPath="saída.txt")
    job_id = jobs.submit(body)
    job = jobs.ended(job_id)
    assert (job["state"], job["name"]) == ("DONE", "ação")
    assert jobs.listed()[job_id]["workingDirectory"] == str(odd.directory)
    assert odd.arguments() == ["São Paulo", "数値"]
    assert Path(job["stdoutPath"]).read_text("utf-8") == "olá\n"
