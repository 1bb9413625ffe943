"""Commas break `--export` and `-v`, and the gateway's own environment leaks into jobs.

Met in: SmartSim PR 104.
Here: Values that no list can carry take another way (Slurm's export file, a wrapper around Grid
Engine's script) and arrive byte for byte. Jobs and the scheduler's commands get a clean
environment, without the service's own variables.
"""

import os
import subprocess
from collections.abc import Callable

from tests.failures.conftest import FAST
from tests.failures.site import Site, submitted

from hpcq.schedulers.testing.jobs import RECORD_ENVIRONMENT, Jobs, Study
from hpcq.schedulers.testing.service import CANARY, Service

HOSTILE = {
    "COMMAS": "a,b,c=d,",
    "QUOTES": 'it\'s "quoted" \\ back',
    "LINES": "one\ntwo\n\nfour\n",
    "BLANKS": "  a\tb  ",
    "SHELL": "$(id) `id` ${HOME} ; true",
    "EMPTY": "",
    "UNICODE": "ação 日本",
    "ALL": "NONE",
}
OWN = {"SECRET_TOKEN": CANARY, "SBATCH_PARTITION": "other", "SLURM_HINT": "x", "BASH_ENV": "/x"}


def test_environment_hostile_values_to_scheduler(
    site: Site, serving: Service, study: Study
) -> None:
    taken = submitted(serving, study, environment=HOSTILE)
    arguments, stdin, variables = site.fake.taken(taken["jobId"])
    # With --export=ALL a job of Slurm's gets the environment of sbatch.
    if site.fake.scheduler != "SLURM":
        variables = _of_wrapper(arguments, stdin, study)
    assert {name: variables.get(name) for name in HOSTILE} == HOSTILE


def _of_wrapper(arguments: list[str], script: bytes, study: Study) -> dict[str, str]:
    """Run what the scheduler would run, with what ``-v`` says, and return what the job sees."""
    listed = arguments[arguments.index("-v") + 1] if "-v" in arguments else ""
    given = dict(pair.split("=", 1) for pair in listed.split(",") if pair)
    wrapper = study.directory / "wrapper"
    recorder = study.script(RECORD_ENVIRONMENT, "recorder")
    # Grid Engine's holds the script as it is, Torque's as what printf makes of it.
    script = script.replace(b"true\n", RECORD_ENVIRONMENT.encode())
    script = script.replace(rb"true\012'", b"'; cat " + os.fsencode(recorder))
    wrapper.write_bytes(script)
    subprocess.run(["/bin/sh", wrapper], cwd=study.directory, env=given, check=True)
    return study.environment()


def test_environment_service_variables_hidden(
    site: Site, start_service: Callable[..., Service], study: Study
) -> None:
    service = start_service(**site.fake.settings(), **FAST, **OWN)
    taken = submitted(service, study, environment={"MINE": "yes"})
    arguments, stdin, environment = site.fake.taken(taken["jobId"])
    assert not OWN.keys() & environment.keys()
    assert CANARY not in " ".join([*arguments, *environment.values()])
    assert CANARY.encode() not in stdin


def test_environment_job_variables_not_for_command(
    site: Site, serving: Service, study: Study
) -> None:
    steering = dict.fromkeys(("SLURM_CONF", "SGE_ROOT", "SBATCH_PARTITION", "LD_PRELOAD"), "/job")
    taken = submitted(serving, study, environment=steering)
    _, _, environment = site.fake.taken(taken["jobId"])
    assert not steering.items() & environment.items()


def test_environment_hostile_values_in_running_job(
    start_service: Callable[..., Service], study: Study
) -> None:
    service = start_service(SCHEDULER="LOCAL", **FAST, **OWN)
    jobs = Jobs(service)
    job_id = jobs.submit(study.job(study.script(RECORD_ENVIRONMENT), environment=HOSTILE))
    assert jobs.ended(job_id)["state"] == "DONE"
    found = study.environment()
    assert {name: found.get(name) for name in HOSTILE} == HOSTILE
    assert not OWN.keys() & found.keys()
