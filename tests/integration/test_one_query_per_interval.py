"""However many clients read: the number of scheduler commands stays what one client causes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.backends import BACKENDS
from tests.faults.fake import COMMANDS, FakeScheduler, counting_wrapper
from tests.jobs import Jobs, Study
from tests.service import Service

INTERVAL_SECONDS = 0.5
WATCHED_SECONDS = 4.0
READERS = 16


@contextmanager
def _readers(service: Service, *paths: str) -> Iterator[list[int]]:
    """Read these paths in many threads at once, without a pause; yields the answers' codes."""
    codes: list[int] = []
    over = threading.Event()

    def read() -> None:
        with httpx.Client(base_url=service.url, timeout=30) as client:
            while not over.is_set():
                codes.extend(client.get(path).status_code for path in paths)

    threads = [threading.Thread(target=read) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    try:
        yield codes
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _allowed(seconds: float) -> float:
    return seconds / INTERVAL_SECONDS + 2


@pytest.mark.parametrize("scheduler", COMMANDS)
def test_readers_never_cause_commands(
    scheduler: str, start_service: Callable[..., Service], tmp_path: Path, study: Study
) -> None:
    fake = FakeScheduler(tmp_path / "fake", scheduler)
    service = start_service(
        **fake.settings(),
        POLL_INTERVAL_SECONDS=str(INTERVAL_SECONDS),
        USAGE_INTERVAL_SECONDS=str(INTERVAL_SECONDS),
    )
    job_id = Jobs(service).submit(study.job(study.script("true\n")))
    submissions = fake.runs(fake.submit)
    with _readers(service, "/jobs", f"/jobs/{job_id}", "/jobs?expand=resourceUsage") as codes:
        before, begun = fake.runs(fake.list), time.monotonic()
        time.sleep(WATCHED_SECONDS)
        runs, took = fake.runs(fake.list) - before, time.monotonic() - begun
    assert set(codes) == {200}
    assert len(codes) > 100
    # One listing, and at most one question for details, in each interval.
    assert runs <= 2 * _allowed(took), (runs, len(codes))
    assert fake.runs(fake.submit) == submissions


@pytest.mark.parametrize("scheduler", COMMANDS)
def test_readers_of_an_unknown_job_share_one_question(
    scheduler: str, start_service: Callable[..., Service], tmp_path: Path
) -> None:
    fake = FakeScheduler(tmp_path / "fake", scheduler)
    service = start_service(**fake.settings(), POLL_INTERVAL_SECONDS=str(INTERVAL_SECONDS))
    with _readers(service, "/jobs/4711") as codes:
        before, begun = fake.runs(), time.monotonic()
        time.sleep(WATCHED_SECONDS)
        runs, took = fake.runs() - before, time.monotonic() - begun
    assert set(codes) == {404}
    assert len(codes) > 100
    # Accounting and controller are asked once for the id, in each interval; the queue as well.
    assert runs <= 4 * _allowed(took), (runs, len(codes))


@pytest.mark.parametrize(
    ("scheduler", "command"),
    [
        pytest.param("SLURM", "/usr/bin/squeue", marks=pytest.mark.slurm),
        pytest.param("SGE", "/usr/bin/qstat", marks=pytest.mark.sge),
    ],
)
def test_readers_never_cause_commands_of_a_real_scheduler(
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
    with _readers(service, "/jobs", f"/jobs/{job_id}") as codes:
        before, begun = count.stat().st_size, time.monotonic()
        time.sleep(WATCHED_SECONDS)
        runs, took = count.stat().st_size - before, time.monotonic() - begun
    assert set(codes) == {200}
    assert runs <= 2 * _allowed(took), (runs, len(codes))
    jobs.clean_up()
