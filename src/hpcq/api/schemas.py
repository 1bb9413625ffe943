"""Answers, as the documentation shows them."""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from hpcq.domain.parameters import ParameterType
from hpcq.domain.states import FailureKind, JobState, JobStatus

__all__ = [
    "Accepted",
    "CircuitOut",
    "Health",
    "Job",
    "ProgramOut",
    "ResourceUsage",
    "Submitted",
]

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


JOB_EXAMPLE: dict[str, JsonValue] = {
    "jobId": "141",
    "status": "RUNNING",
    "name": "pmo-2026-11",
    "startTime": "2026-11-22T12:00:03.000Z",
    "lastStatusUpdateTime": "2026-11-22T12:00:03.000Z",
    "endTime": None,
    "clusterId": "1",
    "workingDirectory": "/home/ana/estudos/pmo-2026-11",
    "reservedSlots": 16,
    "scriptFile": "/home/pem/rotinas/tuber/jobs/mpi_newave.job",
    "args": ["28.16", "16"],
    "resourceUsage": {
        "cpuSeconds": 57423.2,
        "memoryCpuSeconds": 0.0,
        "instantTotalMemory": 21.4,
        "maxTotalMemory": 23.9,
        "processIO": 3.1,
        "processIOWaiting": 0.0,
        "timeInstant": "2026-11-22T13:00:00.000Z",
        "unknown": ["memoryCpuSeconds", "processIOWaiting"],
    },
    "uid": "7d9f0c6e-2f6b-4d0e-9d5c-1f1f6a1f2b3c",
    "state": "RUNNING",
    "nativeState": "RUNNING",
    "stateReason": None,
    "failureKind": None,
    "exitCode": None,
    "exitSignal": None,
    "submitTime": "2026-11-22T11:58:41.000Z",
    "owner": "ana",
    "queue": "batch",
    "account": "pem",
    "hosts": ["node07"],
    "wallTimeLimit": 43200,
    "memoryLimit": 64.0,
    "stdoutPath": "/home/ana/estudos/pmo-2026-11/pmo-2026-11.o141",
    "stderrPath": "/home/ana/estudos/pmo-2026-11/pmo-2026-11.e141",
    "arrayJobId": None,
    "arrayTaskId": None,
    "dependsOn": None,
    "elapsed": 3600,
    "asOf": "2026-11-22T13:00:03.000Z",
    "stale": False,
}


UsageFigure = Literal[
    "cpuSeconds",
    "memoryCpuSeconds",
    "instantTotalMemory",
    "maxTotalMemory",
    "processIO",
    "processIOWaiting",
]


class ResourceUsage(_Wire):
    """What a job has used. All figures are numbers; those in `unknown` were not measured."""

    cpu_seconds: float = Field(description="CPU time, s.")
    memory_cpu_seconds: float = Field(description="Memory integrated over CPU time, GB·s.")
    instant_total_memory: float = Field(
        description="Memory at `timeInstant`, GB; 0.0 once the job is over."
    )
    max_total_memory: float = Field(description="The most memory so far, GB.")
    process_io: float = Field(alias="processIO", description="Read and written, GB.")
    process_io_waiting: float = Field(
        alias="processIOWaiting", description="Time spent waiting for it, s."
    )
    time_instant: Time = Field(description="When the figures were taken.")
    unknown: list[UsageFigure] = Field(
        description="The figures that the scheduler does not give; they are 0.0."
    )


class Job(_Wire):
    """A job. All fields are present in every answer, null when unknown."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    job_id: str | None = Field(description="The scheduler's own id.")
    status: JobStatus
    name: str | None
    start_time: Time | None = Field(description="When it started.")
    last_status_update_time: Time = Field(description="When its status last changed.")
    end_time: Time | None = Field(description="When it ended.")
    cluster_id: str
    working_directory: str | None
    reserved_slots: int | None
    script_file: str | None
    args: list[str] | None
    resource_usage: ResourceUsage | None = Field(
        description="null in listings without `expand`, and when nothing is known of it."
    )
    uid: str = Field(description="Permanent; given by this service before the submission.")
    state: JobState
    native_state: str | None = Field(description="The scheduler's own word.")
    state_reason: str | None = Field(description="Why pending, why failed, in words.")
    failure_kind: FailureKind | None
    exit_code: int | None
    exit_signal: int | None
    submit_time: Time
    owner: str | None
    queue: str | None
    account: str | None
    hosts: list[str] | None
    wall_time_limit: int | None = Field(description="s.")
    memory_limit: float | None = Field(description="GB, whole job.")
    stdout_path: str | None
    stderr_path: str | None
    array_job_id: str | None
    array_task_id: int | None
    depends_on: list[str] | None
    elapsed: int | None = Field(description="From the start until now or the end, s.")
    as_of: Time | None = Field(description="When the scheduler last confirmed this.")
    stale: bool = Field(description="Whether it has not done so within the allowed age.")


class Submitted(_Wire):
    """The answer to a submission."""

    job_id: str | None = Field(
        examples=["141"],
        description="null (202) while it is not known whether the scheduler took the job.",
    )
    uid: str = Field(examples=["7d9f0c6e-2f6b-4d0e-9d5c-1f1f6a1f2b3c"])


class Accepted(BaseModel):
    """The answer to a deletion or an action."""

    detail: str = Field(examples=["jobId: 141"])


PROGRAM_EXAMPLE: dict[str, JsonValue] = {
    "programId": "NW0",
    "name": "NEWAVE",
    "clusterId": "1",
    "version": "v28.16.4",
    "installationDirectory": "/home/pem/versoes/NEWAVE/v28.16.4",
    "isManaged": True,
    "executablePath": "/home/pem/rotinas/tuber/jobs/mpi_newave.job 28.16.4",
    "args": ["N_PROC"],
    "isDefault": None,
    "parameters": [
        {
            "name": "N_PROC",
            "type": "integer",
            "default": "reservedSlots",
            "minimum": 1,
            "maximum": None,
            "choices": None,
            "description": "How many processes to start.",
            "optional": False,
        }
    ],
}


class ParameterOut(_Wire):
    """An argument that a program expects."""

    name: str
    type: ParameterType
    default: str | None = Field(
        description="Taken when no value is given; `reservedSlots` stands for the number of "
        "reserved slots. null: a value has to be given, unless it is `optional`."
    )
    minimum: float | None = Field(description="Of a number; included in its range.")
    maximum: float | None = Field(description="Of a number; included in its range.")
    choices: list[str] | None = Field(description="The only values that are allowed.")
    description: str | None
    optional: bool = Field(description="Whether it is left out when no value is given.")


class ProgramOut(_Wire):
    """One installed version of a program."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROGRAM_EXAMPLE]})

    program_id: str = Field(description="Stays when other versions come and go.")
    name: str
    cluster_id: str
    version: str
    installation_directory: str
    is_managed: bool = Field(description="Whether the site looks after it.")
    executable_path: str = Field(
        description="The script, and after a blank what it is told before `args`."
    )
    args: list[str] = Field(
        description="The names of the arguments that it has to be given, in order."
    )
    is_default: bool | None = Field(
        description="Whether this version is taken when none is named; null when nobody says."
    )
    parameters: list[ParameterOut] = Field(description="`args`, and what it may be given.")


class CircuitOut(_Wire):
    """Whether one part of the scheduler answers, and when it is asked next."""

    state: Literal["closed", "open", "half_open"] = Field(
        description="`closed`: it answers. `open`: it did not, and is left in peace. `half_open`: "
        "it is being asked whether it is back."
    )
    failures: int = Field(description="Unanswered questions in a row.", examples=[0])
    retry_after: int | None = Field(description="Seconds; null while it is closed.")


class Health(_Wire):
    """Whether the service works."""

    status: str = Field(examples=["ready"])
    scheduler: str | None = Field(default=None, examples=["LOCAL"])
    as_of: Time | None = Field(default=None, description="When the scheduler last answered.")
    circuits: dict[str, CircuitOut] | None = Field(
        default=None, description="Of the `scheduler` and of its `accounting`."
    )
