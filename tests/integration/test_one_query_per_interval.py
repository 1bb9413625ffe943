"""However many clients read a real scheduler: its commands stay those that one client causes."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.backends import BACKENDS
from tests.failures.site import readers
from tests.faults.fake import counting_wrapper

from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service

INTERVAL_SECONDS = 0.5
WATCHED_SECONDS = 4.0


def _allowed(seconds: float) -> float:
    return seconds / INTERVAL_SECONDS + 2


@pytest.mark.parametrize(
    ("scheduler", "command"),
    [
        pytest.param("SLURM", "/usr/bin/squeue", marks=pytest.mark.slurm),
        pytest.param("SGE", "/usr/bin/qstat", marks=pytest.mark.sge),
    ],
)
def test_poll_commands_many_readers(
    scheduler: str,
    command: str,
    start_service: Callable[..., Service],
    tmp_path: Path,
    study: Study,
) -> None:
    settings = BACKENDS[scheduler].settings()
    counting_wrapper(tmp_path / "bin", Path(command))
    count = tmp_path / "bin" / f"{Path(command).name}.runs"
    service = start_service(
        **settings,
        SCHEDULER_PATH=f"{tmp_path}/bin:/usr/bin:/bin",
        POLL_INTERVAL_SECONDS=str(INTERVAL_SECONDS),
        USAGE_INTERVAL_SECONDS=str(INTERVAL_SECONDS),
    )
    jobs = Jobs(service)
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    with readers(service, "/jobs", f"/jobs/{job_id}") as codes:
        before, begun = count.stat().st_size, time.monotonic()
        time.sleep(WATCHED_SECONDS)
        runs, took = count.stat().st_size - before, time.monotonic() - begun
    assert set(codes) == {200}
    assert runs <= 2 * _allowed(took), (runs, len(codes))
    jobs.clean_up()
