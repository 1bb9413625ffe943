"""pyfirecrest, as it is, against this service: the life of a job."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import firecrest
import pytest
from firecrest import v2
from tests.backends import BACKENDS
from tests.integration.test_access import made_token

from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

SYSTEM = "conformance"
SCRIPT = """#!/bin/sh
#SBATCH --ntasks=2
#SBATCH --job-name=study
echo "first $CASE"
echo second
sleep 0.2
exit ${CODE:-0}
"""


class Token:
    """What pyfirecrest asks for a token."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_access_token(self) -> str:
        return self._text


@pytest.fixture(
    params=["LOCAL", pytest.param("SLURM", marks=pytest.mark.slurm)],
)
def service(request: pytest.FixtureRequest, start_service: Callable[..., Service]) -> Service:
    return start_service(**BACKENDS[request.param].settings())


@pytest.fixture
def token(service: Service) -> str:
    return made_token(service, "ana", "user")


@pytest.fixture
def client(service: Service, token: str) -> Iterator[v2.Firecrest]:
    client = v2.Firecrest(f"{service.url}/firecrest", Token(token))
    yield client
    client.close_session()


def submit(client: v2.Firecrest, folder: Path, script: str = SCRIPT, **env: str) -> str:
    folder.chmod(0o755)
    answer = client.submit(SYSTEM, str(folder), script_str=script, env_vars=env)
    return str(answer["jobId"])


def test_job_submission_to_end(client: v2.Firecrest, service: Service, tmp_path: Path) -> None:
    (system,) = client.systems()
    assert system["name"] == SYSTEM
    assert client.server_version() == "2.6.0"
    job = submit(client, tmp_path, CASE="november")
    (ended,) = client.wait_for_job(SYSTEM, job, timeout=120)
    assert (ended["jobId"], ended["status"]["state"]) == (job, "COMPLETED")
    assert ended["status"]["exitCode"] == 0
    assert ended["time"]["start"] <= ended["time"]["end"]
    assert ended["workingDirectory"] == str(tmp_path)
    (files,) = client.job_metadata(SYSTEM, job)
    path = files["standardOutput"]
    text = "first november\nsecond\n"
    until(lambda: client.view(SYSTEM, path) == text)
    assert client.head(SYSTEM, path, num_lines=1)["content"] == "first november\n"
    assert client.head(SYSTEM, path, num_bytes=5)["content"] == "first"
    assert client.tail(SYSTEM, path, num_lines=1)["content"] == "second\n"
    tail = client.tail(SYSTEM, path, num_bytes=3)
    assert (tail["content"], tail["endPosition"]) == ("nd\n", len(text))
    without = client.tail(SYSTEM, path, num_lines=1, exclude_beginning=True)
    assert without["content"] == "second\n"
    assert client.stat(SYSTEM, path)["size"] == len(text)
    client.download(SYSTEM, path, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == text
    assert job in [one["jobId"] for one in client.job_info(SYSTEM)]
    assert [one["jobId"] for one in client.job_info(SYSTEM, name="none")] == []
    ours = service.client.get(f"/jobs/{job}").json()
    assert ours["submittedBy"] == "ana"
    is_slurm = system["scheduler"]["type"] == "slurm"
    assert ours["reservedSlots"] == (2 if is_slurm else 1)


def test_job_cancelled(client: v2.Firecrest, tmp_path: Path) -> None:
    job = submit(client, tmp_path, "#!/bin/sh\nsleep 600\n")
    client.cancel_job(SYSTEM, job)
    (ended,) = client.wait_for_job(SYSTEM, job, timeout=120)
    assert "CANCELLED" in ended["status"]["state"]
    client.cancel_job(SYSTEM, job)


def test_job_failed(client: v2.Firecrest, tmp_path: Path) -> None:
    job = submit(client, tmp_path, CODE="3")
    (ended,) = client.wait_for_job(SYSTEM, job, timeout=120)
    assert (ended["status"]["state"], ended["status"]["exitCode"]) == ("FAILED", 3)


def test_queues_and_hosts(client: v2.Firecrest) -> None:
    nodes, partitions = client.nodes(SYSTEM), client.partitions(SYSTEM)
    assert {"IDLE", "ALLOCATED", "MIXED", "DOWN"} >= {
        state for one in nodes for state in one["state"]
    }
    assert ["UP"] in [one["state"] for one in partitions]
    assert nodes[0]["partitions"]


def test_asynchronous_client(service: Service, token: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    async def life() -> list[Any]:
        client = v2.AsyncFirecrest(f"{service.url}/firecrest", Token(token))
        answer = await client.submit(SYSTEM, str(tmp_path), script_str=SCRIPT)
        ended: list[Any] = await client.wait_for_job(SYSTEM, str(answer["jobId"]), timeout=120)
        await client.close_session()
        return ended

    (ended,) = asyncio.run(life())
    assert ended["status"]["state"] == "COMPLETED"


def refused(act: Callable[..., object], *arguments: object, **more: object) -> tuple[int, str]:
    with pytest.raises(firecrest.FirecrestException) as caught:
        act(*arguments, **more)
    answer = caught.value.responses[-1]
    return answer.status_code, answer.json()["message"]


def test_refusals(client: v2.Firecrest, service: Service, tmp_path: Path) -> None:
    status, words = refused(client.nodes, "elsewhere")
    assert (status, "elsewhere" in words, SYSTEM in words) == (404, True, True)
    status, words = refused(client.job_info, SYSTEM, "999999999")
    assert (status, words.startswith("Job not found")) == (404, True)
    with pytest.raises(FileNotFoundError):
        client.download(SYSTEM, "/etc/hostname", str(tmp_path / "copy"))
    status, words = refused(client.submit, SYSTEM, "/nowhere", script_str=SCRIPT)
    assert (status, "/nowhere" in words) == (400, True)
    with pytest.raises(firecrest.FirecrestException) as caught:
        client.mkdir(SYSTEM, str(tmp_path / "new"))
    assert caught.value.responses[-1].status_code == 501
    assert not (tmp_path / "new").exists()
    stranger = v2.Firecrest(f"{service.url}/firecrest", Token("hpcq_wrong"))
    with pytest.raises(firecrest.FirecrestException) as caught:
        stranger.systems()
    assert caught.value.responses[-1].status_code == 401
    stranger.close_session()


def test_output_of_other_user(client: v2.Firecrest, service: Service, tmp_path: Path) -> None:
    job = submit(client, tmp_path)
    client.wait_for_job(SYSTEM, job, timeout=120)
    (files,) = client.job_metadata(SYSTEM, job)
    bob = v2.Firecrest(f"{service.url}/firecrest", Token(made_token(service, "bob", "user")))
    assert refused(bob.view, SYSTEM, files["standardOutput"])[0] == 403
    assert job not in [one["jobId"] for one in bob.job_info(SYSTEM)]
    assert job in [one["jobId"] for one in bob.job_info(SYSTEM, allusers=True)]
    assert refused(bob.cancel_job, SYSTEM, job)[0] == 403
    bob.close_session()
