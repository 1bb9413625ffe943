"""The scheduler took the job and its command never said so: one job, found by its mark."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.backends import BACKENDS, Backend
from tests.faults.fake import counting_wrapper, processes_with
from tests.jobs import Jobs, Study, assert_problem
from tests.service import Service

SUBMIT = {"SLURM": "/usr/bin/sbatch", "SGE": "/usr/bin/qsub"}


@pytest.mark.parametrize(
    "backend",
    [pytest.param(b, marks=b.marks, id=b.name) for b in BACKENDS.values() if b.name in SUBMIT],
)
def test_a_job_whose_submission_timed_out_is_found(
    backend: Backend, start_service: Callable[..., Service], tmp_path: Path, study: Study
) -> None:
    program, mark = Path(SUBMIT[backend.name]), str(100000 + secrets.randbelow(900000))
    counting_wrapper(tmp_path / "bin", program, then_hang=mark)
    service = start_service(
        **backend.settings(),
        SCHEDULER_PATH=f"{tmp_path}/bin:/usr/bin:/bin",
        COMMAND_TIMEOUT_SECONDS="3",
    )
    body = study.job(study.script("echo ran >> runs\n"), name="uncertain", args=["a b"])
    assert_problem(service.client.post("/jobs", json=body), 504)
    assert processes_with(mark, 5) == []
    jobs = Jobs(service)
    deadline = time.monotonic() + 60
    found: list[str] = []
    while not found:
        assert time.monotonic() < deadline, "the job was never found"
        time.sleep(0.2)
        found = [
            i for i, j in jobs.listed().items() if j["workingDirectory"] == str(study.directory)
        ]
    assert len(found) == 1
    job = jobs.ended(found[0])
    assert (job["state"], job["name"], job["args"]) == ("DONE", "uncertain", ["a b"])
    assert (study.directory / "runs").read_text() == "ran\n"
    assert (tmp_path / "bin" / f"{program.name}.runs").read_text() == "."
