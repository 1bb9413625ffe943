"""The JSON of a job: its fields, defined once, and the encoding that all readers share.

The structs here are the definition: they encode answers, and the OpenAPI schema is made from them
(`hpcq.api.schemas`). The volatile fields (``elapsed``, ``asOf``, ``stale``) change with every poll
although nothing happened to the job. They stand at the end; all before them is encoded only when
the job changes.
"""

import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field, JsonValue, WithJsonSchema

from hpcq.domain.efficiency import efficiency_of
from hpcq.domain.explanation import explain, reason_code
from hpcq.domain.jobs import JobRecord, JobSpec, NativeId, Observation, Usage
from hpcq.domain.outputs import output_path
from hpcq.domain.states import FailureKind, JobState, JobStatus, ReasonCode
from hpcq.domain.units import format_local_time, format_time, gibibytes

__all__ = [
    "Efficiency",
    "Job",
    "ResourceUsage",
    "StableJob",
    "TaskCounts",
    "Time",
    "WireFormat",
    "keep_fields",
    "request_name",
    "wire_name",
]


def wire_name(field: str) -> str:
    """Return the name of a field in JSON.

    >>> wire_name("process_io")
    'processIO'
    """
    first, *rest = field.split("_")
    return first + "".join("IO" if word == "io" else word.capitalize() for word in rest)


def request_name(field: str) -> str:
    """Return the name of a `JobSpec` field in a request.

    >>> request_name("memory_limit_bytes")
    'memoryLimit'
    """
    return wire_name(field.removesuffix("_seconds").removesuffix("_bytes"))


Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time, as it stands in JSON."""

UsageFigure = Literal[
    "cpuSeconds",
    "memoryCpuSeconds",
    "instantTotalMemory",
    "maxTotalMemory",
    "processIO",
    "processIOWaiting",
]


class ResourceUsage(msgspec.Struct, frozen=True, rename=wire_name):
    """The usage of a job. All figures are numbers; those in `unknown` were not measured."""

    cpu_seconds: Annotated[float, Field(description="CPU time, s.")]
    memory_cpu_seconds: Annotated[
        float, Field(description="Memory integrated over CPU time, GB·s.")
    ]
    instant_total_memory: Annotated[
        float, Field(description="Memory at `timeInstant`, GB; 0.0 once the job is over.")
    ]
    max_total_memory: Annotated[float, Field(description="The most memory so far, GB.")]
    process_io: Annotated[float, Field(description="Read and written, GB.")]
    process_io_waiting: Annotated[float, Field(description="Time spent waiting for it, s.")]
    time_instant: Annotated[Time, Field(description="When the figures were taken.")]
    unknown: Annotated[
        list[UsageFigure],
        Field(description="The figures that the scheduler does not give; they are 0.0."),
    ]


class Efficiency(msgspec.Struct, frozen=True, rename=wire_name):
    """The share of its reservation that a job used; 1.0 is all of it."""

    cpu: Annotated[
        float | None,
        Field(description="CPU time over elapsed time times slots; null when it is not known."),
    ]
    memory: Annotated[
        float | None,
        Field(description="The most memory over the memory limit; null without either."),
    ]


class TaskCounts(msgspec.Struct, frozen=True, rename=wire_name):
    """The number of an array's tasks, by their states."""

    total: int
    by_state: Annotated[
        dict[JobState, int], Field(description="Every state, with the number of its tasks.")
    ]


_USAGE_EXAMPLE = {
    "cpuSeconds": 57423.2,
    "memoryCpuSeconds": 0.0,
    "instantTotalMemory": 21.4,
    "maxTotalMemory": 23.9,
    "processIO": 3.1,
    "processIOWaiting": 0.0,
    "timeInstant": "2026-11-22T13:00:00.000Z",
    "unknown": ["memoryCpuSeconds", "processIOWaiting"],
}


def _field(example: JsonValue, description: str | None = None) -> Any:
    """Describe a field in the documentation of the API."""
    return Field(description=description, examples=[example])


class StableJob(msgspec.Struct, frozen=True, rename=wire_name):
    """The fields of a job that stay as they are until something happens to it.

    Those of the base contract come first, in its order.
    """

    job_id: Annotated[str | None, _field("141", "The scheduler's own id.")]
    status: Annotated[JobStatus, _field("RUNNING")]
    name: Annotated[str | None, _field("pmo-2026-11")]
    start_time: Annotated[Time | None, _field("2026-11-22T12:00:03.000Z", "When it started.")]
    last_status_update_time: Annotated[
        Time, _field("2026-11-22T12:00:03.000Z", "When its status last changed.")
    ]
    end_time: Annotated[Time | None, _field(None, "When it ended.")]
    cluster_id: Annotated[str, _field("1")]
    working_directory: Annotated[str | None, _field("/home/ana/estudos/pmo-2026-11")]
    reserved_slots: Annotated[int | None, _field(16)]
    script_file: Annotated[
        str | None,
        _field(
            "/home/pem/rotinas/tuber/jobs/mpi_newave.job",
            "null for a job whose script came as text.",
        ),
    ]
    args: Annotated[tuple[str, ...] | None, _field(["28.16", "16"])]
    resource_usage: Annotated[
        ResourceUsage | None,
        _field(
            _USAGE_EXAMPLE, "null in listings without `expand`, and when nothing is known of it."
        ),
    ]
    uid: Annotated[
        str,
        _field(
            "7d9f0c6e-2f6b-4d0e-9d5c-1f1f6a1f2b3c",
            "Permanent; given by this service before the submission.",
        ),
    ]
    state: Annotated[JobState, _field("RUNNING")]
    native_state: Annotated[str | None, _field("RUNNING", "The scheduler's own word.")]
    state_reason: Annotated[str | None, _field(None, "Why pending, why failed, in words.")]
    explanation: Annotated[
        str | None,
        _field(None, "Why pending, why failed, in one sentence that is the same everywhere."),
    ]
    reason_code: Annotated[
        ReasonCode | FailureKind | None,
        _field(None, "The same for a program: of a failed job most often its `failureKind`."),
    ]
    native_reason: Annotated[
        str | None, _field(None, "The scheduler's own words about it, where it has any.")
    ]
    start_estimate: Annotated[
        Time | None, _field(None, "When the scheduler expects to start it; no promise.")
    ]
    failure_kind: Annotated[FailureKind | None, _field(None)]
    exit_code: Annotated[int | None, _field(None)]
    exit_signal: Annotated[int | None, _field(None)]
    efficiency: Annotated[
        Efficiency | None, _field(None, "Of a job that has ended; null until then.")
    ]
    submit_time: Annotated[Time, _field("2026-11-22T11:58:41.000Z")]
    owner: Annotated[str | None, _field("ana", "The account that the scheduler names.")]
    submitted_by: Annotated[
        str | None,
        _field("ana", "The user of this service who submitted it; null for any other job."),
    ]
    queue: Annotated[str | None, _field("batch")]
    account: Annotated[str | None, _field("pem")]
    hosts: Annotated[tuple[str, ...] | None, _field(["node07"])]
    wall_time_limit: Annotated[int | None, _field(43200, "s.")]
    memory_limit: Annotated[float | None, _field(64.0, "GB, whole job.")]
    stdout_path: Annotated[str | None, _field("/home/ana/estudos/pmo-2026-11/pmo-2026-11.o141")]
    stderr_path: Annotated[str | None, _field("/home/ana/estudos/pmo-2026-11/pmo-2026-11.e141")]
    array_job_id: Annotated[str | None, _field(None)]
    array_task_id: Annotated[int | None, _field(None)]
    tasks: Annotated[
        TaskCounts | None, _field(None, "Of an array; null for any other job, and for a task.")
    ]
    depends_on: Annotated[tuple[str, ...] | None, _field(None)]


class Job(StableJob, frozen=True, rename=wire_name):
    """A job. All fields are present in every answer, null when unknown."""

    elapsed: Annotated[int | None, _field(3600, "From the start until now or the end, s.")]
    as_of: Annotated[
        Time | None, _field("2026-11-22T13:00:03.000Z", "When the scheduler last confirmed this.")
    ]
    stale: Annotated[bool, _field(False, "Whether it has not done so within the allowed age.")]


@functools.lru_cache(maxsize=64)
def _partial_decoder(fields: frozenset[str]) -> msgspec.json.Decoder[Any]:
    order = [name for name in Job.__struct_encode_fields__ if name in fields]
    named = [(f"field_{number}", msgspec.Raw) for number in range(len(order))]
    names = {field: name for (field, _), name in zip(named, order, strict=True)}
    partial = msgspec.defstruct("PartialJob", named, rename=names)
    return msgspec.json.Decoder(list[partial])  # type: ignore[valid-type]


def keep_fields(body: bytes, fields: frozenset[str]) -> bytes:
    """Return a JSON array of jobs with these of their fields alone.

    >>> keep_fields(b'[{"jobId": "7", "name": "case"}]', frozenset({"name"}))
    b'[{"name":"case"}]'
    """
    return _encoder.encode(_partial_decoder(fields).decode(body))


_NOTHING_ASKED = JobSpec(name="", working_directory="", script_file="", slots=0)
# Ids are a kind of text of their own, which msgspec takes when told that it is text.
_encoder = msgspec.json.Encoder(enc_hook=str)
# Quotes inside of JSON's strings are escaped, so that no user's text can look like this.
_NOT_CONFIRMED_YET = b',"lastStatusUpdateTime":""'


@dataclass(frozen=True, slots=True)
class WireFormat:
    """A deployment's way of writing jobs.

    Attributes:
        cluster_id: the deployment's name.
        is_original: whether times, and what two of them mean, are those of the original
            implementation (``COMPATIBILITY=original``).
    """

    cluster_id: str
    is_original: bool = False

    def is_listed(self, record: JobRecord) -> bool:
        """Return whether a job is shown in the listing."""
        if record.native_id is None or (self.is_original and record.is_settled):
            return False
        # A job in an unknown place goes too: it may stay so for days.
        gone = record.state.is_final or record.state is JobState.UNDETERMINED
        return record.removed_at is None or not gone

    def time(self, moment: datetime) -> str:
        """Return a time as it stands in a body."""
        return format_local_time(moment) if self.is_original else format_time(moment)

    def encode_stable(
        self, record: JobRecord, *, usage: bool, tasks: Mapping[JobState, int] | None = None
    ) -> bytes:
        """Return a job's JSON object up to, and with, the comma before ``elapsed``.

        Args:
            record: the job.
            usage: whether ``resourceUsage`` is filled in.
            tasks: of an array, how many of its tasks are in each state.
        """
        job = self._job(record, usage=usage, tasks=tasks)
        try:
            body = _encoder.encode(job)
        except (UnicodeEncodeError, OverflowError):
            # A scheduler printed bytes that are no UTF-8, or a number of more than 64 bits.
            text = json.dumps(
                msgspec.to_builtins(job, enc_hook=str), ensure_ascii=False, separators=(",", ":")
            )
            body = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
        return body[:-1] + b","

    def fill_confirmed_at(self, head: bytes, confirmed_at: datetime) -> bytes:
        """Return what `encode_stable` gave, with the time at which the job was last confirmed.

        Only the original implementation's ``lastStatusUpdateTime`` tells it.
        """
        filled = f',"lastStatusUpdateTime":"{_of_many(self, confirmed_at)}"'
        return head.replace(_NOT_CONFIRMED_YET, filled.encode(), 1)

    def encode_volatile(
        self, elapsed_seconds: int | None, as_of: datetime | None, *, stale: bool
    ) -> bytes:
        """Return the end of a job's JSON: ``elapsed``, ``asOf``, ``stale`` and the brace."""
        elapsed = "null" if elapsed_seconds is None else elapsed_seconds
        moment = "null" if as_of is None else f'"{_of_many(self, as_of)}"'
        is_stale = "true" if stale else "false"
        return f'"elapsed":{elapsed},"asOf":{moment},"stale":{is_stale}}}'.encode()

    def volatile_of_waiting(self, as_of: datetime | None, *, stale: bool) -> bytes:
        """Return the volatile JSON of all jobs in the queue that have not started."""
        return _volatile_of_waiting(self.is_original, as_of, stale)

    def encode_samples(self, samples: Iterable[Usage]) -> bytes:
        """Return a JSON array of usage figures, each as in ``resourceUsage``.

        Args:
            samples: of a running job, each with its time.
        """
        written = (
            self._usage(usage, usage.sampled_at, is_over=False)
            for usage in samples
            if usage.sampled_at is not None
        )
        return _encoder.encode([usage for usage in written if usage is not None])

    def _job(
        self, record: JobRecord, *, usage: bool, tasks: Mapping[JobState, int] | None = None
    ) -> StableJob:
        spec = record.spec or _NOTHING_ASKED
        seen = record.seen or _unseen(record)
        start_time = seen.start_time
        if self.is_original:
            start_time = start_time or record.submit_time
        return StableJob(
            job_id=record.native_id,
            status=record.status,
            name=spec.name or seen.name,
            start_time=self._known_time(start_time),
            last_status_update_time="" if self.is_original else self.time(record.state_changed_at),
            end_time=self._known_time(seen.end_time),
            cluster_id=self.cluster_id,
            working_directory=spec.working_directory or seen.working_directory,
            reserved_slots=spec.slots or seen.slots,
            script_file=spec.script_file or seen.script_file,
            args=spec.args if record.spec else seen.args,
            resource_usage=self._usage_of(record) if usage else None,
            uid=record.uid,
            state=record.state,
            native_state=seen.native_state,
            state_reason=record.state_reason,
            explanation=explain(record),
            reason_code=reason_code(record),
            native_reason=seen.native_reason,
            start_estimate=self._known_time(seen.start_estimate),
            failure_kind=record.failure_kind,
            exit_code=seen.exit_code,
            exit_signal=seen.exit_signal,
            efficiency=_efficiency(record),
            submit_time=self.time(record.submit_time),
            owner=seen.owner,
            submitted_by=record.submitted_by,
            queue=seen.queue or spec.queue,
            account=seen.account or spec.account,
            hosts=seen.hosts,
            wall_time_limit=(
                None
                if spec.has_queue_time_limit
                else _either(spec.wall_time_limit_seconds, seen.wall_time_limit_seconds)
            ),
            memory_limit=gibibytes(_either(spec.memory_limit_bytes, seen.memory_limit_bytes)),
            stdout_path=output_path(record, "stdout"),
            stderr_path=output_path(record, "stderr"),
            array_job_id=seen.array_job_id,
            array_task_id=seen.array_task_id,
            tasks=None if tasks is None else _task_counts(tasks),
            depends_on=seen.depends_on or tuple(job.native_id for job in spec.depends_on) or None,
        )

    def _usage_of(self, record: JobRecord) -> ResourceUsage | None:
        seen = record.seen
        if seen is None or seen.usage is None:
            return None
        # Figures without a time are those of the end, or of the last word about the job.
        last_word = seen.end_time or record.confirmed_at or record.state_changed_at
        taken_at = seen.usage.sampled_at or last_word
        return self._usage(seen.usage, taken_at, is_over=record.state.is_final)

    def _usage(self, usage: Usage, taken_at: datetime, *, is_over: bool) -> ResourceUsage | None:
        """Return ``resourceUsage``, or None when no figure is known; 1 GB = 2**30 bytes."""
        figures: dict[UsageFigure, float | None] = {
            "cpuSeconds": usage.cpu_seconds,
            "memoryCpuSeconds": gibibytes(usage.memory_byte_seconds),
            "instantTotalMemory": gibibytes(usage.memory_bytes),
            "maxTotalMemory": gibibytes(usage.max_memory_bytes),
            "processIO": gibibytes(usage.io_bytes),
            "processIOWaiting": usage.io_wait_seconds,
        }
        known = {name: figure for name, figure in figures.items() if _is_number(figure)}
        if not known:
            return None
        if is_over:
            known["instantTotalMemory"] = 0.0
        told: dict[str, Any] = {
            field: known.get(name, 0.0)
            for field, name in zip(ResourceUsage.__struct_fields__, figures, strict=False)
        }
        unknown = [name for name in figures if name not in known]
        return ResourceUsage(**told, time_instant=self.time(taken_at), unknown=unknown)

    def _known_time(self, moment: datetime | None) -> str | None:
        return None if moment is None else self.time(moment)


@functools.lru_cache(maxsize=16)
def _of_many(wire: WireFormat, moment: datetime) -> str:
    """Return a time that is the same for all jobs in the queue."""
    return wire.time(moment)


@functools.lru_cache(maxsize=4)
def _volatile_of_waiting(is_original: bool, as_of: datetime | None, stale: bool) -> bytes:
    return WireFormat("", is_original).encode_volatile(None, as_of, stale=stale)


def _unseen(record: JobRecord) -> Observation:
    """Return an empty observation, for a job that the scheduler has not shown yet."""
    return Observation(native_id=record.native_id or NativeId("0"), state=record.state)


def _task_counts(tasks: Mapping[JobState, int]) -> TaskCounts:
    return TaskCounts(sum(tasks.values()), {state: tasks.get(state, 0) for state in JobState})


def _efficiency(record: JobRecord) -> Efficiency | None:
    known = efficiency_of(record)
    return None if known is None else Efficiency(known.cpu, known.memory)


def _is_number(figure: float | None) -> bool:
    return figure is not None and math.isfinite(figure)


def _either(asked: int | None, seen: int | None) -> int | None:
    return seen if asked is None else asked
