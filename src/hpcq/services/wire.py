"""A job as JSON, the way the contract writes it, encoded once and shared by all readers.

What changes with every poll although nothing happened to the job (``elapsed``, ``asOf``,
``stale``) stands at the end, so that all before it is encoded only when the job changes.
"""

import json
from collections.abc import Iterable
from datetime import datetime

import msgspec

from hpcq.domain.jobs import JobRecord, JobSpec, NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState, JobStatus
from hpcq.domain.units import format_time, gibibytes

__all__ = ["WireJob", "WireUsage", "encode_head", "encode_samples", "encode_tail"]


class WireUsage(msgspec.Struct, frozen=True, rename="camel"):
    """``resourceUsage``; 1 GB = 2**30 bytes."""

    cpu_seconds: float | None
    memory_cpu_seconds: float | None
    instant_total_memory: float | None
    max_total_memory: float | None
    process_io: float | None = msgspec.field(name="processIO")
    process_io_waiting: float | None = msgspec.field(name="processIOWaiting")
    time_instant: str | None


class WireJob(msgspec.Struct, frozen=True, rename="camel"):
    """A ``Job`` without its last three fields; the base contract's come first, in its order."""

    job_id: str | None
    status: JobStatus
    name: str | None
    start_time: str | None
    last_status_update_time: str
    end_time: str | None
    cluster_id: str
    working_directory: str | None
    reserved_slots: int | None
    script_file: str | None
    args: tuple[str, ...] | None
    resource_usage: WireUsage | None
    uid: str
    state: JobState
    native_state: str | None
    state_reason: str | None
    failure_kind: FailureKind | None
    exit_code: int | None
    exit_signal: int | None
    submit_time: str
    owner: str | None
    queue: str | None
    account: str | None
    hosts: tuple[str, ...] | None
    wall_time_limit: int | None
    memory_limit: float | None
    stdout_path: str | None
    stderr_path: str | None
    array_job_id: str | None
    array_task_id: int | None
    depends_on: tuple[str, ...] | None


_NOTHING_ASKED = JobSpec(name="", working_directory="", script_file="", slots=0)
# Ids are a kind of text of their own, which msgspec takes when told that it is text.
_encoder = msgspec.json.Encoder(enc_hook=str)


def encode_head(record: JobRecord, cluster_id: str, *, usage: bool) -> bytes:
    """Return a job's JSON object up to, and with, the comma before ``elapsed``.

    Args:
        record: the job.
        cluster_id: this deployment's name.
        usage: whether ``resourceUsage`` is filled in.
    """
    job = _wire_job(record, cluster_id, usage=usage)
    try:
        body = _encoder.encode(job)
    except (UnicodeEncodeError, OverflowError):
        # A scheduler printed bytes that are no UTF-8, or a number of more than 64 bits.
        text = json.dumps(msgspec.to_builtins(job, enc_hook=str), ensure_ascii=False)
        body = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    return body[:-1] + b","


def encode_tail(elapsed_seconds: int | None, as_of: datetime | None, *, stale: bool) -> bytes:
    """Return the end of a job's JSON object: ``elapsed``, ``asOf``, ``stale`` and the brace."""
    elapsed = "null" if elapsed_seconds is None else elapsed_seconds
    moment = "null" if as_of is None else f'"{format_time(as_of)}"'
    return f'"elapsed":{elapsed},"asOf":{moment},"stale":{"true" if stale else "false"}}}'.encode()


def encode_samples(samples: Iterable[Usage]) -> bytes:
    """Return a JSON array of usage figures, each as in ``resourceUsage``."""
    return _encoder.encode([_wire_usage(usage) for usage in samples])


def _wire_job(record: JobRecord, cluster_id: str, *, usage: bool) -> WireJob:
    spec = record.spec or _NOTHING_ASKED
    seen = record.seen or _unseen(record)
    return WireJob(
        job_id=record.native_id,
        status=record.status,
        name=spec.name or seen.name,
        start_time=_time(seen.start_time),
        last_status_update_time=format_time(record.state_changed_at),
        end_time=_time(seen.end_time),
        cluster_id=cluster_id,
        working_directory=spec.working_directory or seen.working_directory,
        reserved_slots=spec.slots or seen.slots,
        script_file=spec.script_file or seen.script_file,
        args=spec.args if record.spec else seen.args,
        resource_usage=_wire_usage(seen.usage) if usage else None,
        uid=record.uid,
        state=record.state,
        native_state=seen.native_state,
        state_reason=record.state_reason,
        failure_kind=record.failure_kind,
        exit_code=seen.exit_code,
        exit_signal=seen.exit_signal,
        submit_time=format_time(record.submit_time),
        owner=seen.owner,
        queue=seen.queue or spec.queue,
        account=seen.account or spec.account,
        hosts=seen.hosts,
        wall_time_limit=_either(spec.wall_time_limit_seconds, seen.wall_time_limit_seconds),
        memory_limit=gibibytes(_either(spec.memory_limit_bytes, seen.memory_limit_bytes)),
        stdout_path=seen.stdout_path or spec.stdout_path,
        stderr_path=seen.stderr_path or spec.stderr_path,
        array_job_id=seen.array_job_id,
        array_task_id=seen.array_task_id,
        depends_on=seen.depends_on or tuple(job.native_id for job in spec.depends_on) or None,
    )


def _unseen(record: JobRecord) -> Observation:
    """Stand for the scheduler's word about a job of which it has not said any."""
    return Observation(native_id=record.native_id or NativeId("0"), state=record.state)


def _wire_usage(usage: Usage | None) -> WireUsage | None:
    if usage is None:
        return None
    return WireUsage(
        cpu_seconds=usage.cpu_seconds,
        memory_cpu_seconds=gibibytes(usage.memory_byte_seconds),
        instant_total_memory=gibibytes(usage.memory_bytes),
        max_total_memory=gibibytes(usage.max_memory_bytes),
        process_io=gibibytes(usage.io_bytes),
        process_io_waiting=usage.io_wait_seconds,
        time_instant=_time(usage.sampled_at),
    )


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)


def _either(asked: int | None, seen: int | None) -> int | None:
    return seen if asked is None else asked
