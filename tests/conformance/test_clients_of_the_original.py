"""The exchange of a client of the original implementation, with its models, on every scheduler.

The models are written from the contract, once for pydantic 2 and once for pydantic 1 (which comes
with it as `pydantic.v1`). What has no default there has to be in an answer, for pydantic 2.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

import httpx
import pydantic
import pytest
from pydantic import v1

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import Jobs, Json, Study
from hpcq.schedulers.testing.service import ROOT_PATH, Service
from hpcq.schedulers.testing.waiting import until


class Status(StrEnum):
    START_REQUESTED = "START_REQUESTED"
    STARTING = "STARTING"
    ENABLED = "ENABLED"
    RUNNING = "RUNNING"
    PROTECTED = "PROTECTED"
    DISABLED = "DISABLED"
    STOP_REQUESTED = "STOP_REQUESTED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    UNKNOWN = "UNKNOWN"


class Usage2(pydantic.BaseModel):
    cpuSeconds: float
    memoryCpuSeconds: float
    instantTotalMemory: float
    maxTotalMemory: float
    processIO: float
    processIOWaiting: float
    timeInstant: datetime


class Job2(pydantic.BaseModel):
    jobId: str | None
    status: Status | None
    name: str | None
    startTime: datetime | None
    lastStatusUpdateTime: datetime | None
    endTime: datetime | None
    clusterId: str
    workingDirectory: str | None
    reservedSlots: int | None
    scriptFile: str | None
    args: list[str] | None
    resourceUsage: Usage2 | None


class Program2(pydantic.BaseModel):
    programId: str
    name: str
    clusterId: str
    version: str
    installationDirectory: str
    isManaged: bool
    executablePath: str
    args: list[str] | None


class Usage1(v1.BaseModel):
    cpuSeconds: float
    memoryCpuSeconds: float
    instantTotalMemory: float
    maxTotalMemory: float
    processIO: float
    processIOWaiting: float
    timeInstant: datetime


class Job1(v1.BaseModel):
    jobId: str | None
    status: Status | None
    name: str | None
    startTime: datetime | None
    lastStatusUpdateTime: datetime | None
    endTime: datetime | None
    clusterId: str
    workingDirectory: str | None
    reservedSlots: int | None
    scriptFile: str | None
    args: list[str] | None
    resourceUsage: Usage1 | None


class Program1(v1.BaseModel):
    programId: str
    name: str
    clusterId: str
    version: str
    installationDirectory: str
    isManaged: bool
    executablePath: str
    args: list[str] | None


class Models(Protocol):
    """A client's models of answers and requests."""

    def job(self, answer: Json) -> Any: ...

    def program(self, answer: Json) -> Any: ...

    def body(self, fields: Json) -> Json: ...


class Pydantic2:
    def job(self, answer: Json) -> Job2:
        return Job2.model_validate(answer)

    def program(self, answer: Json) -> Program2:
        return Program2.model_validate(answer)

    def body(self, fields: Json) -> Json:
        body: Json = json.loads(Job2.model_validate(fields).model_dump_json())
        return body


class Pydantic1:
    def job(self, answer: Json) -> Job1:
        return Job1(**answer)

    def program(self, answer: Json) -> Program1:
        return Program1(**answer)

    def body(self, fields: Json) -> Json:
        body: Json = json.loads(Job1(**fields).json())
        return body


NOTHING_KNOWN = dict.fromkeys(
    (
        "jobId",
        "status",
        "name",
        "startTime",
        "lastStatusUpdateTime",
        "endTime",
        "args",
        "resourceUsage",
    )
)


@pytest.fixture(scope="module", params=["none", "original"])
def answering(
    request: pytest.FixtureRequest,
    backend: Backend,
    service: Service,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service, with each setting of ``COMPATIBILITY``."""
    if request.param == "none":
        yield service
        return
    settings = {**backend.settings(), "ROOT_PATH": ROOT_PATH, "COMPATIBILITY": "original"}
    with Service(tmp_path_factory.mktemp(f"original-{backend.name}"), settings) as running:
        yield running


class Client:
    """A client of the original: it adds paths with a slash at their end to its base address."""

    def __init__(self, service: Service, models: Models) -> None:
        self._http = service.client
        self._models = models
        self.is_original = service.is_original
        self.cluster_id = "1" if self.is_original else service.settings["CLUSTER_ID"]

    def programs(self, query: str = "") -> list[Any]:
        answer = self._get(f"/programs/{query}")
        return [self._models.program(program) for program in answer.json()]

    def submit(self, fields: Json) -> str:
        body = self._models.body(NOTHING_KNOWN | {"clusterId": self.cluster_id} | fields)
        if self.is_original:
            body["studyId"] = 7
        answer = self._http.post(f"{ROOT_PATH}/jobs/", json=body)
        assert answer.status_code == 201, answer.text
        job_id: str = answer.json()["jobId"]
        return job_id

    def listed(self) -> dict[str, Any]:
        jobs = [self._models.job(job) for job in self._get("/jobs/").json()]
        return {job.jobId: job for job in jobs}

    def read(self, job_id: str) -> Any:
        return self._models.job(self._get(f"/jobs/{job_id}").json())

    def delete(self, job_id: str) -> httpx.Response:
        return self._http.delete(f"{ROOT_PATH}/jobs/{job_id}")

    def now(self) -> datetime:
        """The present, as its own code compares it with what it reads."""
        return datetime.now() if self.is_original else datetime.now(UTC)

    def _get(self, path: str) -> httpx.Response:
        answer = self._http.get(f"{ROOT_PATH}{path}")
        assert answer.status_code == 200, answer.text
        return answer


@pytest.mark.parametrize("models", [Pydantic1(), Pydantic2()], ids=["pydantic 1", "pydantic 2"])
def test_original_client_job_to_end(answering: Service, models: Models, study: Study) -> None:
    client, jobs = Client(answering, models), Jobs(answering)
    assert client.programs() == client.programs("?name=&version=")
    script = study.script("while [ ! -e go ]; do sleep 0.1; done\nexit 3\n")
    began = client.now() - timedelta(minutes=5)  # hosts' clocks differ
    job_id = client.submit(
        {
            "workingDirectory": str(study.directory),
            "reservedSlots": 1,
            "scriptFile": str(script),
            "args": ["28.16.4", "64"],
        }
    )
    jobs.submitted.append(job_id)
    queued = client.listed()[job_id]
    assert (queued.name, queued.clusterId) == ("study", answering.settings["CLUSTER_ID"])
    assert queued.resourceUsage is None
    if client.is_original:
        assert began < queued.startTime, "it is the submission until the job starts"

    running = until(lambda: _if(client.read(job_id), Status.RUNNING), lambda: client.read(job_id))
    assert (running.workingDirectory, running.reservedSlots) == (str(study.directory), 1)
    assert (running.scriptFile, running.args) == (str(script), ["28.16.4", "64"])
    assert began < running.startTime < client.now() + timedelta(minutes=5)
    assert running.endTime is None
    listed = client.listed()[job_id]
    assert listed.status == Status.RUNNING
    if client.is_original:
        until(lambda: client.listed()[job_id].lastStatusUpdateTime > listed.lastStatusUpdateTime)
        assert client.now() - listed.lastStatusUpdateTime < timedelta(minutes=5)

    (study.directory / "go").touch()
    ended = until(lambda: _if(client.read(job_id), Status.STOPPED), lambda: client.read(job_id))
    assert ended.endTime >= ended.startTime > began
    assert ended.resourceUsage is None or ended.resourceUsage.instantTotalMemory == 0.0
    assert (job_id in client.listed()) is not client.is_original
    deleted = client.delete(job_id)
    assert (deleted.status_code, deleted.json()) == (202, {"detail": f"jobId: {job_id}"})
    assert job_id not in client.listed()
    assert client.read(job_id).status == Status.STOPPED


def test_original_client_error(answering: Service, study: Study) -> None:
    url = f"{ROOT_PATH}/jobs/"
    for field in ("workingDirectory", "reservedSlots", "scriptFile"):
        body = study.job(study.script("true\n")) | {field: None}
        answer = answering.client.post(url, json=body)
        assert (answer.status_code, answer.json()["field"]) == (400, field)
        assert isinstance(answer.json()["detail"], str)
    assert answering.client.get(f"{url}99999999/").status_code == 404


def _if(job: Any, status: Status) -> Any:
    return job if job.status == status else None
