"""Records that cannot be used: at the start one sentence, while it runs 503 until they can be."""

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests import real
from tests.databases import PostgreSQL, new_postgresql_database

from hpcq.schedulers.testing.jobs import Jobs, Json, Study, assert_problem
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

EXIT_START = 3

StartService = Callable[..., Service]


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Makes services that were not started."""
    made: list[Service] = []

    def make(**settings: str) -> Service:
        service = Service(tmp_path / "service", {"SCHEDULER": "LOCAL", **settings})
        made.append(service)
        return service

    yield make
    for service in made:
        service.stop()


def refusal(service: Service) -> str:
    """The sentence with which a service ends that cannot start."""
    service.start(wait=False)
    assert service.wait_until_ended() == EXIT_START
    log = service.log.read_text()
    assert "Traceback" not in log
    (said,) = [line for line in log.splitlines() if "cannot start" in line]
    return said


def test_database_file_damaged(make_service: StartService) -> None:
    service = make_service()
    service.state_directory.mkdir(parents=True)
    (service.state_directory / "jobs.sqlite3").write_bytes(b"no database" * 500)
    said = refusal(service)
    assert f"{service.state_directory}/jobs.sqlite3 cannot be used" in said
    assert "The file is damaged; move it away" in said


def test_database_file_not_writable(make_service: StartService) -> None:
    service = make_service()
    service.start()
    service.stop()
    (service.state_directory / "jobs.sqlite3").chmod(0o400)
    assert "This account may not write" in refusal(service)


def test_database_folder_second_service(make_service: StartService) -> None:
    first, second = make_service(), make_service()
    first.start()
    assert "Another service uses the records in" in refusal(second)
    assert first.client.get("/health/ready").status_code == 200


def test_database_server_missing_at_start(make_service: StartService) -> None:
    url = "postgresql://hpcq:s3cret@127.0.0.1:1/hpcq"
    service = make_service(DATABASE_URL=url)
    said = refusal(service)
    assert "Is its server running" in said
    assert "postgresql://hpcq:***@127.0.0.1:1/hpcq" in said
    assert "s3cret" not in service.log.read_text()


@pytest.mark.postgres
def test_database_missing_at_start(make_service: StartService) -> None:
    server = real.settings_of("postgres")["DATABASE_URL"]
    url = server.rpartition("/")[0] + "/nowhere"
    assert "Create it, or correct DATABASE_URL." in refusal(make_service(DATABASE_URL=url))


# While it runs


def wait_until_not_ready(client: httpx.Client) -> Json:
    until(lambda: client.get("/health/ready").status_code != 200)
    return assert_problem(client.get("/health/ready"), 503)


def assert_refused_until_restored(
    service: Service, study: Study, restore: Callable[[], object], because: str
) -> None:
    """The records of a running service cannot be used now, and can be again once restored."""
    script = study.script("echo run >> runs\n")
    before = service.client.get("/jobs")
    body, key = study.job(script), {"Idempotency-Key": "one"}
    refused = service.client.post("/jobs", json=body, headers=key)
    problem = assert_problem(refused, 503)
    assert problem["code"] == "store_unavailable"
    assert because in problem["detail"]
    assert int(refused.headers["Retry-After"]) == problem["retryAfter"] > 0
    # A server that was just stopping said something else.
    until(lambda: because in wait_until_not_ready(service.client)["detail"])
    listed = service.client.get("/jobs")
    assert listed.status_code == 200
    assert [job["uid"] for job in listed.json()] == [job["uid"] for job in before.json()]
    restore()
    service.wait_until_ready()
    first = service.client.post("/jobs", json=body, headers=key)
    assert first.status_code == 201, first.text
    again = service.client.post("/jobs", json=body, headers=key)
    assert again.json() == first.json()
    assert Jobs(service).ended(first.json()["jobId"])["state"] == "DONE"
    assert (study.directory / "runs").read_text() == "run\n", "once"


def test_database_file_locked(start_service: StartService, study: Study) -> None:
    service = start_service()
    lock = sqlite3.connect(service.state_directory / "jobs.sqlite3", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        assert_refused_until_restored(service, study, lambda: lock.execute("ROLLBACK"), "locked")
    finally:
        lock.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a disk of one's own needs root, and leave to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_database_disk_full(small_disk: Path, tmp_path: Path, study: Study) -> None:
    (tmp_path / "service").mkdir()
    service = Service(tmp_path / "service", {"SCHEDULER": "LOCAL"})
    service.state_directory.symlink_to(small_disk)
    with service:
        ballast = small_disk / "ballast"
        fill(ballast)
        assert_refused_until_restored(service, study, ballast.unlink, "The disk is full")


def test_spool_disk_full(small_disk: Path, tmp_path: Path, study: Study) -> None:
    """The records are on another disk, and can be written."""
    # Whoever waits for something here waits for longer than the client does.
    settings = {"SUBMISSION_WAIT_SECONDS": "1000", "SUBMISSION_SETTLE_SECONDS": "1000"}
    service = Service(tmp_path / "service", {"SCHEDULER": "LOCAL", **settings})
    service.state_directory.mkdir(parents=True)
    (service.state_directory / "local").symlink_to(small_disk)
    with service:
        body = study.job(study.script("echo run >> runs\n"), hold=True)
        waiting = service.client.post("/jobs", json=body).json()["jobId"]
        ballast = small_disk / "ballast"
        fill(ballast)
        key = {"Idempotency-Key": "one"}
        # Larger than what SQLite has room for in the pages that it has.
        large = {**body, "hold": False, "args": ["x" * 100_000]}
        for headers in ({}, key):
            refused = service.client.post("/jobs", json=large, headers=headers)
            problem = assert_problem(refused, 503)
            assert problem["code"] == "scheduler_unavailable"
            assert "disk is full" in problem["detail"]
        deleted = service.client.delete(f"/jobs/{waiting}")
        assert deleted.status_code in (202, 503), "there may be room for so little"
        ballast.unlink()
        first = service.client.post("/jobs", json=large, headers=key)
        assert first.status_code == 201, first.text
        job_id = first.json()["jobId"]
        until(lambda: service.client.get(f"/jobs/{job_id}").json()["state"] == "DONE")
        assert (study.directory / "runs").read_text() == "run\n", "once"


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)


@pytest.mark.postgres
def test_database_server_away(start_service: StartService, study: Study) -> None:
    with PostgreSQL.alone() as server, new_postgresql_database(server.url) as place:
        service = start_service(**place.settings)
        try:
            server.stop("immediate")
            assert_refused_until_restored(service, study, server.start, "Is its server running")
        finally:
            service.stop()
