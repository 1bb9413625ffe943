"""The answers of the service as typed results.

Each struct follows a schema of ``/openapi.json``. Fields that a newer service adds are ignored, and
words that may become more (`state`, `reason_code`) are plain text. None means unknown.
"""

import re
from datetime import datetime
from typing import Any, TypeVar

import httpx
import msgspec

from hpcq.client.errors import Unreadable

__all__ = [
    "Capabilities",
    "Cluster",
    "Efficiency",
    "Event",
    "File",
    "Folder",
    "JobCounts",
    "JobData",
    "Limits",
    "Node",
    "OutputPart",
    "Parameter",
    "Plan",
    "Program",
    "Queue",
    "QueuePoint",
    "QueueUsage",
    "ResourceUsage",
    "TaskCounts",
    "decode",
    "part_of",
]

_T = TypeVar("_T")
_PART = re.compile(r"bytes (\d+)-\d+/(\d+)")


class ResourceUsage(msgspec.Struct, rename="camel"):
    """The usage of a job: seconds and GB of 2**30 bytes. Figures in `unknown` are 0.0."""

    cpu_seconds: float
    memory_cpu_seconds: float
    instant_total_memory: float
    max_total_memory: float
    process_io: float = msgspec.field(name="processIO")
    process_io_waiting: float = msgspec.field(name="processIOWaiting")
    time_instant: datetime
    unknown: list[str] = []


class Efficiency(msgspec.Struct, rename="camel"):
    """The share of its reservation that an ended job used; 1.0 is all of it."""

    cpu: float | None = None
    memory: float | None = None


class TaskCounts(msgspec.Struct, rename="camel"):
    """The number of an array's tasks, by their states."""

    total: int
    by_state: dict[str, int]


class JobData(msgspec.Struct, rename="camel"):
    """The fields of a job, as ``docs/api.md`` describes them."""

    uid: str
    job_id: str | None = None
    status: str = "UNKNOWN"
    name: str | None = None
    start_time: datetime | None = None
    last_status_update_time: datetime | None = None
    end_time: datetime | None = None
    cluster_id: str | None = None
    working_directory: str | None = None
    reserved_slots: int | None = None
    script_file: str | None = None
    args: list[str] | None = None
    resource_usage: ResourceUsage | None = None
    state: str = "UNDETERMINED"
    native_state: str | None = None
    state_reason: str | None = None
    explanation: str | None = None
    reason_code: str | None = None
    native_reason: str | None = None
    start_estimate: datetime | None = None
    failure_kind: str | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    efficiency: Efficiency | None = None
    submit_time: datetime | None = None
    owner: str | None = None
    submitted_by: str | None = None
    queue: str | None = None
    account: str | None = None
    hosts: list[str] | None = None
    wall_time_limit: int | None = None
    memory_limit: float | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    array_job_id: str | None = None
    array_task_id: int | None = None
    tasks: TaskCounts | None = None
    depends_on: list[str] | None = None
    elapsed: int | None = None
    as_of: datetime | None = None
    stale: bool = False

    @property
    def is_over(self) -> bool:
        """True when the job has ended and its end is known."""
        return self.state in ("DONE", "FAILED")

    @property
    def id(self) -> str:
        """The scheduler's id; the `uid` until it is known."""
        return self.job_id or self.uid


class JobCounts(msgspec.Struct, rename="camel"):
    """The number of jobs, by their states."""

    jobs: int
    by_state: dict[str, int]
    by_status: dict[str, int]


class Plan(msgspec.Struct, rename="camel"):
    """The submission of a job that was not made: the command, the script and the variables."""

    argv: list[str]
    working_directory: str
    directives: list[str]
    script: str
    is_wrapped: bool
    environment: dict[str, str]


class Parameter(msgspec.Struct, rename="camel"):
    """An argument that a program expects."""

    name: str
    type: str
    default: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: list[str] | None = None
    description: str | None = None
    optional: bool = False


class Program(msgspec.Struct, rename="camel"):
    """One installed version of a program."""

    program_id: str
    name: str
    cluster_id: str
    version: str
    installation_directory: str
    is_managed: bool
    executable_path: str
    args: list[str]
    is_default: bool | None = None
    parameters: list[Parameter] = []


class Capabilities(msgspec.Struct, rename="camel"):
    """The features of the scheduler.

    Attributes:
        fields: the optional fields of a submission.
        actions: on a job.
        changes: the fields of a queued job that can be changed.
        removals: those of them that can be taken back.
        accounting: whether ended jobs can be asked for.
        memory_enforced: whether a job above its memory limit is ended.
        files: whether the files of jobs are shown.
    """

    fields: list[str]
    actions: list[str]
    changes: list[str] = []
    removals: list[str] = []
    accounting: bool = False
    memory_enforced: bool = False
    files: bool = False


class Limits(msgspec.Struct, rename="camel"):
    """The most that a request may hold, in bytes."""

    max_request_bytes: int
    max_args_bytes: int
    max_environment_bytes: int
    max_script_bytes: int


class Cluster(msgspec.Struct, rename="camel"):
    """The cluster behind the service."""

    cluster_id: str
    scheduler: str
    capabilities: Capabilities
    limits: Limits
    version: str | None = None


class Queue(msgspec.Struct, rename="camel"):
    """A queue or partition."""

    name: str
    is_open: bool
    native_state: str | None = None
    slots_total: int | None = None
    slots_used: int | None = None
    max_wall_time: int | None = None


class QueuePoint(msgspec.Struct, rename="camel"):
    """The mean load of a queue over one step, from `time` on."""

    time: datetime
    slots_used: float
    slots_queued: float
    jobs_running: float
    jobs_queued: float
    slots_total: float | None = None


class QueueUsage(msgspec.Struct, rename="camel"):
    """The load of a queue over a time, in steps of `step` seconds."""

    queue: str
    since: datetime
    until: datetime
    step: int
    points: list[QueuePoint]


class Node(msgspec.Struct, rename="camel"):
    """A host that runs jobs."""

    name: str
    is_up: bool
    native_state: str | None = None
    slots_total: int | None = None
    slots_used: int | None = None
    memory: float | None = None
    queues: list[str] = []


class File(msgspec.Struct, rename="camel"):
    """An entry of a job's folder.

    Attributes:
        kind: ``file``, ``folder``, ``link`` or ``other``.
        size: in bytes; None for what is no file.
    """

    name: str
    kind: str
    size: int | None = None
    modified: datetime | None = None


class Folder(msgspec.Struct, rename="camel"):
    """The working directory of a job, or a folder in it.

    Attributes:
        path: below the working directory.
        is_complete: False if there are more entries than these.
    """

    path: str
    entries: list[File]
    is_complete: bool = True


class OutputPart(msgspec.Struct):
    """A part of what a job wrote.

    Attributes:
        content: its bytes.
        begin: the place of its first byte in the output.
        total: the length of the output by now.
    """

    content: bytes
    begin: int
    total: int


class Event(msgspec.Struct, rename="camel"):
    """Something that happened to a job.

    Attributes:
        timestamp: the time when the service learnt of it.
        uid: the job.
        id: for `after`, to go on behind this event.
        type: ``job.submitted``, ``job.state``, ``job.usage``, ``job.deleted`` …
        job_id: the job, by the scheduler's id.
        state: the state of the job, in the events that tell it.
        data: all fields of the event, as they came.
    """

    timestamp: datetime
    uid: str
    id: int = 0
    type: str = ""
    job_id: str | None = None
    state: str | None = None
    data: dict[str, Any] = {}


def decode(answer: httpx.Response, decoder: msgspec.json.Decoder[_T]) -> _T:
    """Return the typed result in an answer.

    Raises:
        Unreadable: the answer is none of this service.
    """
    try:
        return decoder.decode(answer.content)
    except msgspec.DecodeError as error:
        raise Unreadable(f"{answer.url} did not answer as this service does: {error}.") from None


def part_of(answer: httpx.Response) -> OutputPart:
    """Return the part of an output that an answer holds.

    Raises:
        Unreadable: the answer does not say which part it is.
    """
    found = _PART.fullmatch(answer.headers.get("content-range", ""))
    if found is None:
        raise Unreadable(f"{answer.url} did not answer with the part that was asked for.")
    return OutputPart(answer.content, int(found[1]), int(found[2]))
