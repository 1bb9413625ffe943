"""A job as JSON, the way the contract writes it, encoded once and shared by all readers.

What changes with every poll although nothing happened to the job (``elapsed``, ``asOf``,
``stale``) stands at the end, so that all before it is encoded only when the job changes.
"""

import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from hpcq.domain.jobs import JobRecord, JobSpec, NativeId, Observation, Usage
from hpcq.domain.outputs import fill_pattern
from hpcq.domain.states import FailureKind, JobState, JobStatus
from hpcq.domain.units import format_local_time, format_time, gibibytes

__all__ = ["WireFormat", "WireJob"]


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
    resource_usage: Mapping[str, object] | None
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
        # One of which nobody knows where it is goes too: it may stay so for days.
        gone = record.state.is_final or record.state is JobState.UNDETERMINED
        return record.removed_at is None or not gone

    def time(self, moment: datetime) -> str:
        """Return a time as it stands in a body."""
        return format_local_time(moment) if self.is_original else format_time(moment)

    def encode_head(self, record: JobRecord, *, usage: bool) -> bytes:
        """Return a job's JSON object up to, and with, the comma before ``elapsed``.

        Args:
            record: the job.
            usage: whether ``resourceUsage`` is filled in.
        """
        job = self._job(record, usage=usage)
        try:
            body = _encoder.encode(job)
        except (UnicodeEncodeError, OverflowError):
            # A scheduler printed bytes that are no UTF-8, or a number of more than 64 bits.
            text = json.dumps(
                msgspec.to_builtins(job, enc_hook=str), ensure_ascii=False, separators=(",", ":")
            )
            body = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
        return body[:-1] + b","

    def complete_head(self, head: bytes, confirmed_at: datetime) -> bytes:
        """Return what `encode_head` gave, with the time at which the job was last confirmed.

        Only the original implementation's ``lastStatusUpdateTime`` tells it.
        """
        filled = f',"lastStatusUpdateTime":"{_of_many(self, confirmed_at)}"'
        return head.replace(_NOT_CONFIRMED_YET, filled.encode(), 1)

    def encode_tail(
        self, elapsed_seconds: int | None, as_of: datetime | None, *, stale: bool
    ) -> bytes:
        """Return the end of a job's JSON: ``elapsed``, ``asOf``, ``stale`` and the brace."""
        elapsed = "null" if elapsed_seconds is None else elapsed_seconds
        moment = "null" if as_of is None else f'"{_of_many(self, as_of)}"'
        is_stale = "true" if stale else "false"
        return f'"elapsed":{elapsed},"asOf":{moment},"stale":{is_stale}}}'.encode()

    def tail_of_waiting(self, as_of: datetime | None, *, stale: bool) -> bytes:
        """Return the tail that all jobs in the queue share that have not started."""
        return _tail_of_waiting(self.is_original, as_of, stale)

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

    def _job(self, record: JobRecord, *, usage: bool) -> WireJob:
        spec = record.spec or _NOTHING_ASKED
        seen = record.seen or _unseen(record)
        start_time = seen.start_time
        if self.is_original:
            start_time = start_time or record.submit_time
        return WireJob(
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
            failure_kind=record.failure_kind,
            exit_code=seen.exit_code,
            exit_signal=seen.exit_signal,
            submit_time=self.time(record.submit_time),
            owner=seen.owner,
            queue=seen.queue or spec.queue,
            account=seen.account or spec.account,
            hosts=seen.hosts,
            wall_time_limit=_either(spec.wall_time_limit_seconds, seen.wall_time_limit_seconds),
            memory_limit=gibibytes(_either(spec.memory_limit_bytes, seen.memory_limit_bytes)),
            stdout_path=_output(record, "stdout"),
            stderr_path=_output(record, "stderr"),
            array_job_id=seen.array_job_id,
            array_task_id=seen.array_task_id,
            depends_on=seen.depends_on or tuple(job.native_id for job in spec.depends_on) or None,
        )

    def _usage_of(self, record: JobRecord) -> Mapping[str, object] | None:
        seen = record.seen
        if seen is None or seen.usage is None:
            return None
        # Figures without a time are those of the end, or of the last word about the job.
        last_word = seen.end_time or record.confirmed_at or record.state_changed_at
        taken_at = seen.usage.sampled_at or last_word
        return self._usage(seen.usage, taken_at, is_over=record.state.is_final)

    def _usage(
        self, usage: Usage, taken_at: datetime, *, is_over: bool
    ) -> Mapping[str, object] | None:
        """Return ``resourceUsage``, or None when no figure is known; 1 GB = 2**30 bytes."""
        figures = {
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
        return {
            **{name: known.get(name, 0.0) for name in figures},
            "timeInstant": self.time(taken_at),
            "unknown": [name for name in figures if name not in known],
        }

    def _known_time(self, moment: datetime | None) -> str | None:
        return None if moment is None else self.time(moment)


@functools.lru_cache(maxsize=16)
def _of_many(wire: WireFormat, moment: datetime) -> str:
    """Return a time that is the same for all jobs in the queue."""
    return wire.time(moment)


def _output(record: JobRecord, stream: Literal["stdout", "stderr"]) -> str | None:
    """Return where a stream of the job goes: as this service arranged it, else as it was seen."""
    spec, seen = record.spec, record.seen
    pattern = None if spec is None or spec.outputs is None else getattr(spec.outputs, stream)
    if pattern is not None:
        task = None if seen is None else seen.array_task_id
        return fill_pattern(pattern, record.native_id, task)
    told: str | None = None if seen is None else getattr(seen, f"{stream}_path")
    # Records of earlier releases hold no pattern.
    asked: str | None = None if spec is None else getattr(spec, f"{stream}_path")
    return told or asked


@functools.lru_cache(maxsize=4)
def _tail_of_waiting(is_original: bool, as_of: datetime | None, stale: bool) -> bytes:
    return WireFormat("", is_original).encode_tail(None, as_of, stale=stale)


def _unseen(record: JobRecord) -> Observation:
    """Stand for the scheduler's word about a job of which it has not said any."""
    return Observation(native_id=record.native_id or NativeId("0"), state=record.state)


def _is_number(figure: float | None) -> bool:
    return figure is not None and math.isfinite(figure)


def _either(asked: int | None, seen: int | None) -> int | None:
    return seen if asked is None else asked
