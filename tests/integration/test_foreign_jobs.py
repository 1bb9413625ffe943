"""Jobs that others handed to the scheduler: arrays and dependencies too are listed and read."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.backends import BACKENDS

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import Jobs, Json
from hpcq.schedulers.testing.service import Service, clean_environment
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

# For each scheduler: a held job, a held array of three, a job after the first, and how to end all.
COMMANDS = {
    "SLURM": {
        "plain": "sbatch --parsable -H -D / -o /dev/null -J foreign --wrap true",
        "array": "sbatch --parsable -H -D / -o /dev/null -J foreign -a 1-3 --wrap true",
        "after": "sbatch --parsable -d afterok:{plain} -D / -o /dev/null -J foreign --wrap true",
        "end": "scancel {plain} {array} {after}",
    },
    "SGE": {
        "plain": "qsub -terse -cwd -h -o /dev/null -j y -N foreign -b y /bin/true",
        "array": "qsub -terse -cwd -h -o /dev/null -j y -N foreign -t 1-3 -b y /bin/true",
        "after": "qsub -terse -cwd -hold_jid {plain} -o /dev/null -j y -N foreign -b y /bin/true",
        "end": "qdel {plain} {array} {after}",
    },
}


@contextmanager
def _foreign(backend: Backend) -> Iterator[dict[str, str]]:
    """Submit the three jobs by the scheduler's own commands; yields their numbers."""
    commands = COMMANDS[backend.name]
    environment = clean_environment() | backend.settings()
    ids: dict[str, str] = {}

    def run(command: str, *, check: bool = True) -> str:
        argv = [word.format(**ids) for word in command.split()]
        done = subprocess.run(
            argv,
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=check,
        )
        return done.stdout.strip().partition(".")[0].partition(";")[0]

    for name in ("plain", "array", "after"):
        ids[name] = run(commands[name])
    try:
        yield ids
    finally:
        run(commands["end"], check=False)  # one of them is gone already


def _appeared(jobs: Jobs, number: str) -> dict[str, Json]:
    """Wait for a job with this number; returns it, or its tasks, by id."""
    return until(
        lambda: {i: job for i, job in jobs.listed().items() if _number(i) == number},
        lambda: f"{number} never appeared",
    )


def _number(job_id: str) -> str:
    return job_id.partition("_")[0].partition("[")[0].partition(".")[0]


@pytest.mark.parametrize(
    "backend", [pytest.param(BACKENDS[n], marks=BACKENDS[n].marks, id=n) for n in COMMANDS]
)
def test_foreign_jobs_listed_and_read(
    backend: Backend, start_service: Callable[..., Service]
) -> None:
    with _foreign(backend) as ids:
        service = start_service(**backend.settings())
        jobs = Jobs(service)
        for name, number in ids.items():
            for job_id, listed in _appeared(jobs, number).items():
                assert listed["name"] == "foreign"
                assert listed["status"] == "START_REQUESTED"
                read = jobs.wait(job_id, lambda job: job["workingDirectory"] is not None)
                assert read["uid"] == listed["uid"]
                is_task = name == "array" and job_id != number
                assert read["arrayJobId"] == (number if is_task else None)
        # What is known of them in detail must not spoil the listing either.
        assert service.client.get("/jobs?expand=resourceUsage").status_code == 200
        assert _appeared(jobs, ids["after"]).keys() == {ids["after"]}
        jobs.delete(ids["plain"])
        assert jobs.read(ids["plain"])["status"] in {"STOP_REQUESTED", "STOPPED", "UNKNOWN"}
