"""A job: what was asked for, what the scheduler says, and our record of both."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Self

from hpcq.domain.ids import JobUid, NativeId, SubmissionKey
from hpcq.domain.states import FailureKind, JobState, JobStatus, ReasonCode, Stage, status_of

__all__ = [
    "ArrayRange",
    "Dependency",
    "DependencyCondition",
    "Gpus",
    "HandOver",
    "JobRecord",
    "JobSpec",
    "JobUid",
    "MailEvent",
    "NativeId",
    "Observation",
    "Outputs",
    "OwnerName",
    "SubmissionKey",
    "Usage",
]


class DependencyCondition(StrEnum):
    """The condition that a job has to meet before another one starts."""

    SUCCESS = "success"
    """Met once the other job is ``DONE``."""
    FAILURE = "failure"
    """Met once the other job is ``FAILED``."""
    ANY = "any"
    """Met once the other job has ended in any way."""
    STARTED = "started"
    """Met once the other job runs or has ended."""

    def is_met_by(self, end: JobState) -> bool:
        """Return whether a job that ended in this state meets it; if not, it never will."""
        if self is DependencyCondition.SUCCESS:
            return end is JobState.DONE
        return self is not DependencyCondition.FAILURE or end is JobState.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A job that has to come first.

    Attributes:
        native_id: the scheduler's id of it, or of a whole array.
        uid: the same job's permanent id.
    """

    native_id: NativeId
    uid: JobUid
    condition: DependencyCondition


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayRange:
    """The tasks of an array: ``first``, ``first + step`` … up to ``last``, all at least 0.

    Attributes:
        max_running: how many of them may run at the same time; None: as many as fit.

    >>> array = ArrayRange(first=1, last=9, step=4)
    >>> array.text, list(array.tasks)
    ('1-9:4', [1, 5, 9])
    """

    first: int
    last: int
    step: int = 1
    max_running: int | None = None

    @property
    def tasks(self) -> range:
        """The numbers of its tasks."""
        return range(self.first, self.last + 1, self.step)

    @property
    def text(self) -> str:
        """Its tasks as most schedulers write them: ``1-20``, ``1-20:2``."""
        return f"{self.first}-{self.last}" + (f":{self.step}" if self.step > 1 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """GPUs of a whole job.

    Attributes:
        type: the site's name for a model; None for any.
    """

    count: int
    type: str | None = None


class MailEvent(StrEnum):
    """A moment of a job that makes a mail."""

    BEGIN = "begin"
    END = "end"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Paths of a job's output, as absolute patterns (`hpcq.domain.outputs`).

    None stands for a path that only the scheduler can tell.
    """

    stdout: str | None
    stderr: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A user's request for a job. Field names follow PSI/J and the contract.

    Attributes:
        name: as the user gave it; each scheduler's package makes it acceptable there. Empty until
            the service has completed it, when the user gave none.
        working_directory: absolute path; the job starts in it.
        script_file: absolute path of the script on the head node; empty where ``script`` is its
            text.
        args: handed to the script byte for byte; no NUL.
        slots: how many CPUs to reserve, at least 1.
        environment: what the job's environment holds besides what the scheduler puts there.
        stdout_path, stderr_path: as the user gave them, see `hpcq.domain.outputs`; None for what
            the script's own directives say, else ``NAME.oID`` and ``NAME.eID`` in the directory.
        hold: wait until released.
        depends_on: the jobs that have to come first.
        array: run the script once for each of these numbers; the scheduler tells it which.
        nodes, slots_per_node, cpus_per_task: the places of the slots (`hpcq.domain.layout`).
        exclusive: no other job on the same nodes.
        qos, project, reservation: names that the site gave.
        constraints: features that each node has to have.
        mail_to: the address that gets the mails of ``mail_on``; none where that is empty.
        options: the scheduler's own, each as one text: ``--switches=1``, ``-l licence=1``.
        outputs: where the output goes; None until the service has completed it.
        has_queue_time_limit: whether nobody asked for a wall time limit, so that the one that the
            scheduler shows is its queue's.
        run_as: the account of this machine whose job it is; None for the service's own.
        is_mailed_here: whether this service sends the mails, and the scheduler none.
        script: the script's text; None for that of ``script_file``, and once the scheduler has it.
    """

    name: str
    working_directory: str
    script_file: str
    args: tuple[str, ...] = ()
    slots: int = 1
    queue: str | None = None
    account: str | None = None
    priority: int | None = None
    wall_time_limit_seconds: int | None = None
    memory_limit_bytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stdout_path: str | None = None
    stderr_path: str | None = None
    hold: bool = False
    depends_on: tuple[Dependency, ...] = ()
    array: ArrayRange | None = None
    nodes: int | None = None
    slots_per_node: int | None = None
    cpus_per_task: int | None = None
    gpus: Gpus | None = None
    exclusive: bool = False
    qos: str | None = None
    project: str | None = None
    reservation: str | None = None
    constraints: tuple[str, ...] = ()
    mail_to: str | None = None
    mail_on: tuple[MailEvent, ...] = ()
    options: tuple[str, ...] = ()
    outputs: Outputs | None = None
    has_queue_time_limit: bool = False
    run_as: str | None = None
    is_mailed_here: bool = False
    script: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The resources that a job has used so far; a figure that is not known is None, never 0.

    Attributes:
        cpu_seconds: user and system time of all its processes.
        memory_byte_seconds: memory integrated over CPU time (Grid Engine's ``mem``).
        memory_bytes: resident memory at ``sampled_at``.
        max_memory_bytes: the highest so far.
        io_bytes: read and written.
        io_wait_seconds: time spent waiting for it.
        sampled_at: when the figures were taken, aware; None of an ended job whose scheduler has
            more to tell.
    """

    cpu_seconds: float | None = None
    memory_byte_seconds: float | None = None
    memory_bytes: float | None = None
    max_memory_bytes: float | None = None
    io_bytes: float | None = None
    io_wait_seconds: float | None = None
    sampled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A scheduler's words about one job, in one answer; times are aware, paths as printed.

    Absent is None: an answer that has no word about a field changes nothing that is known.

    Attributes:
        native_state: the scheduler's raw word (``qw``, ``PENDING``).
        native_reason: its raw words for the reason beside it (``Resources``).
        reason_code: the meaning of these; of a job that ended only where ``failure_kind`` does
            not say all.
        start_estimate: when the scheduler expects to start it; in detailed answers alone.
        stage: the finer point of ``state``, when there is one.
        exit_code: the script's exit status, 0 to 255; None when a signal ended it.
        exit_signal: the signal that ended it.
        array_job_id, array_task_id: the array, and the number in it, of a task; a component of a
            heterogeneous job is a task whose number is its offset.
        submission_key: the mark it carries when it was submitted through this service; a task
            carries its array's.
        is_keyless: whether the answer would have shown the mark, so that it surely has none.
        is_array: True for a whole array or heterogeneous job.
        waiting_tasks: of a whole array, the number of waiting tasks without entries of their own.
    """

    native_id: NativeId
    state: JobState
    native_state: str | None = None
    stage: Stage | None = None
    state_reason: str | None = None
    native_reason: str | None = None
    reason_code: ReasonCode | None = None
    start_estimate: datetime | None = None
    failure_kind: FailureKind | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    name: str | None = None
    owner: str | None = None
    queue: str | None = None
    account: str | None = None
    submit_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    working_directory: str | None = None
    script_file: str | None = None
    args: tuple[str, ...] | None = None
    slots: int | None = None
    hosts: tuple[str, ...] | None = None
    wall_time_limit_seconds: int | None = None
    memory_limit_bytes: int | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    usage: Usage | None = None
    array_job_id: str | None = None
    array_task_id: int | None = None
    depends_on: tuple[str, ...] | None = None
    submission_key: SubmissionKey | None = None
    is_keyless: bool = False
    is_array: bool | None = None
    waiting_tasks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """The progress of a job on its way to the scheduler.

    Attributes:
        began_at: when it was last handed over, or was about to be.
        by: the process that did so.
        is_promised: whether its submitter counts on it, so that it is handed over again when the
            scheduler surely did not take it.
        attempts: how often it was handed over.
        uncertain_since: when the attempt ended without an answer that settles it; None while it
            is under way.
        refusal: what the scheduler said, if it said no.
        absent_since: when the scheduler first had no such job although nothing could submit it any
            more; kept so that a service that is restarted often does not begin to wait anew.
    """

    began_at: datetime
    by: str
    is_promised: bool
    attempts: int = 1
    uncertain_since: datetime | None = None
    refusal: str | None = None
    absent_since: datetime | None = None

    def changed(self, **fields: object) -> Self:
        """Return a copy with these fields replaced."""
        return replace(self, **fields)  # type: ignore[arg-type]


class OwnerName(NamedTuple):
    """The name of whose job it is.

    Attributes:
        is_account: true for an account of the scheduler, false for a user of this service. Equal
            names of both kinds need not be the same person's.
    """

    name: str
    is_account: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job, as this service knows it: our own intent and the scheduler's words, merged.

    Attributes:
        uid: permanent; the scheduler may use ``native_id`` again, never this.
        native_id: None until the scheduler has given one.
        spec: what was submitted; None for a job that did not come through this service.
        seen: the merged observations, newest word first; None before the first.
        state, stage, state_reason: where it is now, as this service holds it to be.
        created_at: when this service first knew of it.
        state_changed_at: when ``state`` or ``stage`` last changed, as far as we saw.
        cancel_requested_at: when this service asked the scheduler to end it.
        removed_at: when a user took it out of the listing.
        confirmed_at: when the scheduler last said anything about it; None while it stands in
            the queue, where each listing of the queue confirms it anew.
        abandoned_at: when this service gave up the search for a vanished job.
        hand_over: how its submission stands; None once the scheduler has it, or surely never
            will.
        revision: how often it was written to the database.
        earlier_start: when the newest of those of its runs that are over began, by the
            scheduler's clock; None when it was never put back, as far as is known.
        parent_uid: the array that it is a task of, if that was submitted through this service.
        submitted_by, submitted_through: who submitted it, and how this service knew that (a word
            of `hpcq.domain.principals.Method`); None for a job that did not come through this
            service, or came through a release that did not ask.
        cancel_requested_by: who asked this service to end it.
        changing: the fields of ``spec`` that the scheduler is being told to change. What it says of
            them counts should nobody be left who hears its answer.
    """

    uid: JobUid
    native_id: NativeId | None
    spec: JobSpec | None
    seen: Observation | None
    state: JobState
    stage: Stage | None = None
    state_reason: str | None = None
    created_at: datetime
    state_changed_at: datetime
    cancel_requested_at: datetime | None = None
    removed_at: datetime | None = None
    confirmed_at: datetime | None = None
    abandoned_at: datetime | None = None
    hand_over: HandOver | None = None
    revision: int = 0
    earlier_start: datetime | None = None
    parent_uid: JobUid | None = None
    submitted_by: str | None = None
    submitted_through: str | None = None
    cancel_requested_by: str | None = None
    changing: tuple[str, ...] = ()

    @property
    def belongs_to(self) -> OwnerName | None:
        """The name of whose job it is: who submitted it here, else its account elsewhere."""
        if self.submitted_here:
            name = self.submitted_by
        else:
            name = None if self.seen is None else self.seen.owner
        return None if name is None else OwnerName(name, is_account=not self.submitted_here)

    @property
    def run_as(self) -> str | None:
        """The account that submitted it here; None for the service's own, and for others' jobs."""
        return None if self.spec is None else self.spec.run_as

    @property
    def key(self) -> SubmissionKey:
        """The mark this job carries in the scheduler if it was submitted by us."""
        return SubmissionKey.for_uid(self.parent_uid or self.uid)

    @property
    def is_array(self) -> bool:
        """True when it stands for all tasks of an array, or components of a heterogeneous job."""
        if self.spec is not None and self.spec.array is not None:
            return True
        seen = self.seen
        if seen is None or seen.array_task_id is not None:
            return False
        return seen.is_array is True or seen.array_job_id == seen.native_id

    @property
    def submitted_here(self) -> bool:
        """True when it was submitted through this service."""
        return self.spec is not None

    @property
    def is_settled(self) -> bool:
        """True when nothing more is asked about it."""
        return self.state.is_final or self.abandoned_at is not None

    @property
    def status(self) -> JobStatus:
        """The base contract's word for where it is."""
        return status_of(
            self.state, self.stage, cancel_requested=self.cancel_requested_at is not None
        )

    @property
    def submit_time(self) -> datetime:
        """The time of submission: the scheduler's word, or ours, never after what came of it."""
        seen = self.seen
        if seen is None:
            return self.created_at
        # Our clock may be ahead of the scheduler's.
        times = (self.created_at, seen.start_time, seen.end_time)
        return seen.submit_time or min(time for time in times if time is not None)

    @property
    def failure_kind(self) -> FailureKind | None:
        """Why it is ``FAILED``; None in every other state."""
        if self.state is not JobState.FAILED:
            return None
        if self.seen is not None and self.seen.failure_kind is not None:
            return self.seen.failure_kind
        if self.native_id is not None:
            return FailureKind.UNKNOWN
        # It never got to the scheduler.
        cancelled = self.cancel_requested_at is not None
        return FailureKind.CANCELLED if cancelled else FailureKind.SCHEDULER_ERROR

    def changed(self, **fields: object) -> Self:
        """Return a copy with these fields replaced."""
        return replace(self, **fields)  # type: ignore[arg-type]
