"""The time limit of a job that asked for none, in a partition that has one."""

from collections.abc import Callable

import pytest
from tests.backends import SLURM
from tests.integration.outages import command

from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize(
    ("directive", "asked", "shown"),
    [("", None, None), ("#SBATCH --time=1\n", None, 60), ("", 60, 60)],
    ids=["nobody", "script", "request"],
)
def test_time_limit_shown_if_requested(
    start_service: Callable[..., Service],
    study: Study,
    directive: str,
    asked: int | None,
    shown: int | None,
) -> None:
    jobs = Jobs(start_service(**SLURM.settings()))
    script = study.script(f"{directive}sleep 600\n")
    fields = {} if asked is None else {"wallTimeLimit": asked}
    job_id = jobs.submit(study.job(script, queue="short", **fields))
    assert jobs.running(job_id)["wallTimeLimit"] == shown
    assert command(SLURM, "squeue", "-h", "-j", job_id, "-o", "%l") == "1:00"
    jobs.delete(job_id)
    assert jobs.ended(job_id)["wallTimeLimit"] == shown
