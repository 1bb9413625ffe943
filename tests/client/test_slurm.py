"""The client in front of a real Slurm: what LOCAL cannot show."""

import subprocess
from collections.abc import Iterator

import pytest
from tests.backends import SLURM

from hpcq.client import Client, sync_client
from hpcq.client.errors import Unsupported
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service, clean_environment
from hpcq.schedulers.testing.waiting import until

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("service"), dict(SLURM.settings())) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as new:
        yield new


def test_change_queued_job(client: Client, study: Study) -> None:
    script = study.script("true\n")
    job = client.submit(script, working_directory=study.directory, hold=True, wall_time_limit=600)
    assert job.change(name="new", wall_time_limit=7200) is job
    assert (job.name, job.wall_time_limit) == ("new", 7200)
    with pytest.raises(Unsupported) as refused:
        job.change(wall_time_limit=None)
    assert refused.value.field == "wallTimeLimit"
    job.delete()


def test_cancel_array_tasks(client: Client, study: Study) -> None:
    array = client.submit(
        study.script("sleep 100\n"),
        working_directory=study.directory,
        array={"first": 1, "last": 3},
        hold=True,
    )
    array.delete(tasks="2-3")

    def states() -> list[str]:
        return [task.state for task in client.jobs(array_job_id=array.id, active=True)]

    until(lambda: len(states()) <= 1, states)
    array.delete()
    assert array.wait().failure_kind == "CANCELLED"


def test_wait_job_from_elsewhere(
    client: Client, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_client, "_POLL_SECONDS", 0.2)
    done = subprocess.run(
        ["sbatch", "--parsable", "-D", "/", "-o", "/dev/null", "--wrap", "sleep 2; exit 3"],
        env=clean_environment() | SLURM.settings(),
        capture_output=True,
        text=True,
        check=True,
    )
    job = client.job(done.stdout.strip())
    assert (job.wait().state, job.exit_code) == ("FAILED", 3)
