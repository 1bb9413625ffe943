"""A job's environment: what the scheduler and the request put there, nothing of the service's."""

import pytest

from hpcq.schedulers.testing.jobs import RECORD_ENVIRONMENT, Jobs, Study
from hpcq.schedulers.testing.service import CANARY, Service

VALUES = {
    "PLAIN": "plain",
    "EMPTY": "",
    "BLANKS": "  a  b  ",
    "COMMAS": "a,b,,c,",
    "COMMA": ",",
    "ASSIGNED": "a=b,C=d",
    "NEWLINES": "one\ntwo\n\nthree\n",
    "NEWLINE": "\n",
    "FORGED": "x\nFORGED_VARIABLE=1\nLD_PRELOAD=/tmp/x.so",
    "CARRIAGE": "a\r\nb\r",
    "TAB": "\ta\t",
    "SINGLE": "it's 'quoted'",
    "DOUBLE": 'say "hi"',
    "BACKSLASHES": "\\ \\\\ \\n \\",
    "DOLLARS": "$HOME ${PATH} $$ $(id) `id`",
    "SHELLSHOCK": "() { :; }; touch /tmp/shellshock",
    "CONTROL": "\x01\x1b[31m\x7f",
    "UNICODE": "São Paulo — 数値 \U0001f4a7",
    "PERCENT": "%j %x %%",
    "SLASHES": "/a/b://c",
    "_leading_underscore": "1",
    "lower_case": "2",
    "LONG": "x" * 20000,
    "LD_LIBRARY_PATH": "/opt/solver/lib:/opt/other/lib",
    "OMP_NUM_THREADS": "4",
}


@pytest.fixture
def environment(jobs: Jobs, study: Study) -> dict[str, str]:
    """That of a job which was submitted with `VALUES`."""
    job_id = jobs.submit(study.job(study.script(RECORD_ENVIRONMENT), environment=VALUES))
    assert jobs.ended(job_id)["state"] == "DONE"
    return study.environment()


def test_environment_values_byte_for_byte(environment: dict[str, str]) -> None:
    assert {name: environment.get(name) for name in VALUES} == VALUES
    assert "FORGED_VARIABLE" not in environment
    assert "LD_PRELOAD" not in environment


def test_environment_without_service_variables(
    service: Service, environment: dict[str, str]
) -> None:
    assert not any(CANARY in value for value in environment.values())
    ours = {name for name in service.settings if not name.startswith(("SGE_", "SLURM_", "PBS_"))}
    assert not ours & environment.keys()
    assert not any(str(service.state_directory) in value for value in environment.values())
    assert not {n for n in environment if n.startswith(("VIRTUAL_ENV", "PYTEST", "PYTHON"))}


def test_environment_default(jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script(RECORD_ENVIRONMENT)))
    assert jobs.ended(job_id)["state"] == "DONE"
    environment = study.environment()
    assert environment.keys() >= {"HOME", "PATH", "USER"}
    assert not any(CANARY in value for value in environment.values())


@pytest.mark.parametrize("folder", ["scripts", 'it\'s, "odd" $HOME'])
def test_environment_script_folder(jobs: Jobs, study: Study, folder: str) -> None:
    scripts = Study(study.directory.parent / folder)
    script = scripts.script(RECORD_ENVIRONMENT)
    theirs = study.job(script, environment={"HPCQ_SCRIPT_DIRECTORY": "/theirs"})
    for body, expected in ((study.job(script), str(scripts.directory)), (theirs, "/theirs")):
        assert jobs.ended(jobs.submit(body))["state"] == "DONE"
        assert study.environment()["HPCQ_SCRIPT_DIRECTORY"] == expected


def test_environment_path_and_home_requested(jobs: Jobs, study: Study) -> None:
    values = {
        "PATH": "/opt/none:/usr/bin:/bin",
        "HOME": str(study.directory),
        "LANG": "pt_BR.UTF-8",
    }
    job_id = jobs.submit(study.job(study.script(RECORD_ENVIRONMENT), environment=values))
    assert jobs.ended(job_id)["state"] == "DONE"
    environment = study.environment()
    assert {name: environment[name] for name in values} == values
