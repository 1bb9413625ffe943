"""A job in memory, and its observation for the service."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hpcq.domain.actions import Action
from hpcq.domain.jobs import Dependency, JobSpec, NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.outputs import file_name, fill_pattern
from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.domain.units import from_epoch
from hpcq.schedulers.local.files import Result, ShepherdStart, UsageSample
from hpcq.schedulers.local.ids import task_id, task_mark
from hpcq.schedulers.local.processes import Process
from hpcq.schedulers.local.spool_row import Phase, SpoolRow, end_of, spec_from_json

__all__ = ["QUEUE_NAME", "LocalJob", "Site", "build_usage", "output_paths"]

QUEUE_NAME = "local"


@dataclass(frozen=True, slots=True)
class Site:
    """The host that jobs run on, and the account of jobs that have no other."""

    host: str
    owner: str


@dataclass(slots=True, kw_only=True)
class LocalJob:
    """A job that is not finished, a task of an array, or an array as a whole.

    Attributes:
        number: its own; each task of an array has one, too.
        key: the mark of its submission.
        phase: as in the spool, see `Phase`; nothing for a whole array.
        array: the number of the array whose task it is.
        task: its number in that.
        result: its end, once the spool has it.
        start_time: the time it started, in seconds since the epoch.
        began: the same by the monotonic clock; None when a shepherd of an older version runs it.
        started: the shepherd and the start, as the spool has them.
        shepherd: the process that watches it, once started.
        folder: the job's own folder, once made.
        request: what was last requested of it while it ran: to suspend, resume or requeue it.
        launching: the task that starts it, while that runs.
        stopped: how many looks in a row have found its shepherd stopped.
        is_ending: it has ended, or will never start, and the spool does not say so yet.
        overtaken: the number of later jobs that started before it.
        note: the reason why it does not start, or end, although it could, or why it was held.
        note_code: the same for a program, of a queued job.
        waits_for: those of its dependencies that are still to be met.
    """

    number: int
    key: SubmissionKey
    spec: JobSpec
    submitted: float
    phase: str
    array: int | None = None
    task: int | None = None
    result: Result | None = None
    attempt: int = 0
    start_time: float | None = None
    began: float | None = None
    started: ShepherdStart | None = None
    shepherd: Process | None = None
    folder: str | None = None
    request: Action | None = None
    launching: asyncio.Task[None] | None = field(default=None, repr=False)
    cancel_requested: bool = False
    is_ending: bool = False
    overtaken: int = 0
    stopped: int = 0
    note: str | None = None
    note_code: ReasonCode | None = None
    waits_for: tuple[Dependency, ...] = ()
    _observation: Observation | None = field(default=None, repr=False)

    @classmethod
    def from_row(cls, row: SpoolRow) -> "LocalJob":
        """Return the job that a row of the spool holds."""
        return cls(
            number=row.id,
            key=SubmissionKey(row.key),
            spec=spec_from_json(row.spec),
            submitted=row.submitted,
            phase=row.phase,
            array=row.array,
            task=row.task,
            result=json.loads(row.result) if row.result is not None else None,
            attempt=row.attempt,
            request=None if row.request is None else Action(row.request),
        )

    @property
    def native_id(self) -> NativeId:
        """Its id outside of this package."""
        return task_id(self.array or self.number, self.task)

    @property
    def is_whole_array(self) -> bool:
        """True for an array, False for its tasks and for any other job."""
        return self.spec.array is not None and self.task is None

    @property
    def mark(self) -> str:
        """The mark of its own processes; a task has not that of its array."""
        return task_mark(self.key, self.task)

    @property
    def has_started(self) -> bool:
        """True when it runs, or has run."""
        has_run = self.result is not None and self.result["start_time"] is not None
        return self.shepherd is not None or has_run

    @property
    def run_name(self) -> str:
        """The name of its run directory; another one for each attempt to start it."""
        return f"{self.number}.{self.attempt}"

    def put_back(self) -> None:
        """Forget the run that is over; the next one is like the first."""
        self.start_time = self.began = self.started = self.shepherd = self.folder = None
        self.request = self.note = None
        self.is_ending = False

    def changed(self) -> None:
        """Discard the observation made before."""
        self._observation = None

    def observe(self, site: Site) -> Observation:
        """Return the job as the service sees it; the same object until something changes."""
        if self._observation is None and self.result is not None:
            self._observation = _with_end(self._build_observation(site), self.result, site)
        if self._observation is None:
            state, stage, word, reason, code = self._state()
            self._observation = replace(
                self._build_observation(site),
                state=state,
                stage=stage,
                native_state=word,
                state_reason=reason,
                reason_code=code,
                start_time=from_epoch(self.start_time),
                hosts=(site.host,) if self.phase == Phase.DISPATCHED else None,
                depends_on=_ids(self.waits_for or self.spec.depends_on),
            )
        return self._observation

    def _build_observation(self, site: Site) -> Observation:
        spec = self.spec
        stdout_path, stderr_path = output_paths(self.array or self.number, spec, self.task)
        return Observation(
            native_id=self.native_id,
            state=JobState.QUEUED,
            name=spec.name,
            owner=spec.run_as or site.owner,
            queue=QUEUE_NAME,
            submit_time=from_epoch(self.submitted),
            working_directory=spec.working_directory,
            script_file=spec.script_file or None,
            args=spec.args,
            slots=spec.slots,
            wall_time_limit_seconds=spec.wall_time_limit_seconds,
            memory_limit_bytes=spec.memory_limit_bytes,
            stdout_path=stdout_path,
            stderr_path=stderr_path,
            array_job_id=None if self.array is None else str(self.array),
            array_task_id=self.task,
            depends_on=_ids(spec.depends_on),
            submission_key=self.key,
        )

    def _state(
        self,
    ) -> tuple[JobState, Stage | None, str, str | None, ReasonCode | None]:
        leaving = Stage.CANCELLING if self.is_ending else None
        if self.phase == Phase.HELD:
            reason = self.note or "It is held until someone releases it."
            code = ReasonCode.HELD_BY_SYSTEM if self.note else ReasonCode.HELD_BY_USER
            return JobState.QUEUED_HELD, leaving, "held", reason, code
        if self.phase == Phase.QUEUED:
            slots = self.spec.slots
            if self.waits_for:
                others = ", ".join(_ids(self.waits_for) or ())
                reason = f"It waits for other jobs: {others}."
                code = ReasonCode.WAITING_FOR_DEPENDENCY
                return JobState.QUEUED, leaving, "waiting", reason, code
            if self.note:
                return JobState.QUEUED, leaving, "queued", self.note, self.note_code
            free = f"It waits for {slots} free slot{'s' if slots > 1 else ''}."
            if self.spec.exclusive:
                free = "It waits until no other job runs."
            return JobState.QUEUED, leaving, "queued", free, ReasonCode.WAITING_FOR_RESOURCES
        if self.request is Action.REQUEUE:
            reason = self.note or "It is ended, and then put back into the queue."
            return JobState.RUNNING, Stage.EXITING, "requeueing", reason, None
        if self.is_ending:
            return JobState.RUNNING, Stage.EXITING, "exiting", self.note, None
        if self.cancel_requested:
            return JobState.RUNNING, Stage.CANCELLING, "cancelling", None, None
        if self.shepherd is None:
            return JobState.RUNNING, Stage.DISPATCHING, "starting", None, None
        if self.request is Action.SUSPEND:
            reason = "It is suspended until someone resumes it."
            return JobState.SUSPENDED, None, "suspended", reason, None
        return JobState.RUNNING, None, "running", None, None


def _with_end(seen: Observation, result: Result, site: Site) -> Observation:
    kind = result["failure_kind"]
    began = result["start_time"]
    code = result.get("reason_code")
    return replace(
        seen,
        state=end_of(result),
        native_state="finished",
        state_reason=result["reason"],
        reason_code=None if code is None else ReasonCode(code),
        failure_kind=None if kind is None else FailureKind(kind),
        exit_code=result["exit_code"],
        exit_signal=result["exit_signal"],
        start_time=from_epoch(began),
        end_time=from_epoch(result["end_time"]),
        hosts=None if began is None else (site.host,),
        usage=build_usage(result["usage"]),
    )


def build_usage(sample: UsageSample | None) -> Usage | None:
    """Return the figures of a shepherd in the domain's form."""
    if sample is None:
        return None
    return Usage(
        cpu_seconds=sample["cpu_seconds"],
        memory_byte_seconds=sample["memory_byte_seconds"],
        memory_bytes=sample["memory_bytes"],
        max_memory_bytes=sample["max_memory_bytes"],
        io_bytes=sample["io_bytes"],
        io_wait_seconds=sample.get("io_wait_seconds"),
        sampled_at=from_epoch(sample["sampled_at"]),
    )


def _ids(dependencies: Sequence[Dependency]) -> tuple[NativeId, ...] | None:
    """Return the jobs that another depends on, each once; None for none."""
    return tuple(dict.fromkeys(one.native_id for one in dependencies)) or None


def output_paths(number: int, spec: JobSpec, task: int | None = None) -> tuple[str, str]:
    """Return the paths of the output and the error output of a job, or of a task of one."""
    native_id, outputs = NativeId(str(number)), spec.outputs
    out = None if outputs is None else fill_pattern(outputs.stdout, native_id, task)
    err = None if outputs is None else fill_pattern(outputs.stderr, native_id, task)
    # The rows of earlier releases hold no patterns.
    stem = file_name(spec.name)
    out = out or os.path.join(spec.working_directory, spec.stdout_path or f"{stem}.o{number}")
    err = err or os.path.join(spec.working_directory, spec.stderr_path or f"{stem}.e{number}")
    return out, err
