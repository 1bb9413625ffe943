"""What the accounting says of one run of one job, and what follows from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.states import JobState
from hpcq.schedulers.sge.ends import Used, end_of, read_limits
from hpcq.schedulers.sge.states import INTERMEDIATE_FAILURES, NO_FAILURE, failure_of

__all__ = ["Entry", "observe"]

# Rescheduled, migrated, or kept in the error state at its own request, to be cleared.
_MAY_RUN_AGAIN = INTERMEDIATE_FAILURES | {30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One accounting record (accounting(5)): one run of a job, an array task or a slave task.

    Attributes:
        number, task: the job's number; the array task, or None.
        is_slave: a slave task of a parallel job, with a record of its own.
        submitted, started, ended: None where the record has 0 (it never started).
        category: the request in short: ``-l h_rt=600,h_vmem=1G -pe orte 2``.
    """

    number: str
    task: int | None
    is_slave: bool = False
    queue: str | None
    host: str | None
    owner: str | None
    name: str | None
    account: str | None
    project: str | None
    submitted: datetime | None
    started: datetime | None
    ended: datetime | None
    failed: int
    exit_status: int
    slots: int
    cpu_seconds: float
    memory_byte_seconds: float
    io_bytes: float
    io_wait_seconds: float
    max_memory_bytes: float
    category: str = ""

    @property
    def native_id(self) -> NativeId:
        """The job's or the array task's id."""
        return NativeId(self.number if self.task is None else f"{self.number}[{self.task}]")


def observe(entries: Iterable[Entry]) -> list[Observation]:
    """Return the ends of jobs that these records tell, in their order.

    A job that was started several times has several records: the last run counts. A parallel
    job may have a record for each of its slave tasks too: they are added to the run they belong
    to. A number that was used for several jobs gives several observations, and an array one for
    each of its tasks that was started.

    Args:
        entries: in the order of the accounting file.
    """
    by_id: dict[NativeId, list[Entry]] = {}
    for entry in entries:
        by_id.setdefault(entry.native_id, []).append(entry)
    return [_observation(run) for records in by_id.values() for run in _last_runs(records)]


def _last_runs(records: Sequence[Entry]) -> list[list[Entry]]:
    """Return for each job among the records of one id its last run, the master's record first."""
    runs: list[list[Entry]] = []
    for record in records:
        if runs and _is_of_run(record, runs[-1]):
            runs[-1].append(record)
        else:
            runs.append([record])
    last: list[list[Entry]] = []
    for run in map(_master_first, runs):
        if last and _supersedes(run[0], last[-1][0]):
            last.pop()
        last.append(run)
    return [run for run in last if run[0].failed not in INTERMEDIATE_FAILURES]


def _is_of_run(record: Entry, run: Sequence[Entry]) -> bool:
    """Whether a record belongs to the run that the records before it tell of.

    Slave tasks have records of their own where the parallel environment has
    ``accounting_summary FALSE``. They overlap in time with the job's own record, and come
    before it or after it; ``qacct`` does not say which is which (recording ``qacct_slaves``).
    """
    if all(other.is_slave for other in run) or record.is_slave:
        return True
    if not _is_same_job(record, run[0]) or run[-1].failed in INTERMEDIATE_FAILURES:
        return False
    if record.started is None or record.ended is None:
        return False
    return any(
        other.started is not None
        and other.ended is not None
        and (
            record.started == other.started
            or (record.started < other.ended and other.started < record.ended)
        )
        for other in run
    )


def _master_first(run: Sequence[Entry]) -> list[Entry]:
    """Put the job's own record first: the one that began first and, of these, ended last."""

    def is_master(record: Entry) -> tuple[bool, float, float]:
        started = record.started.timestamp() if record.started else 0.0
        ended = record.ended.timestamp() if record.ended else 0.0
        return (not record.is_slave, -started, ended)

    # Of equals it is the last: Grid Engine writes it when all slave tasks are over.
    master = max(reversed(run), key=is_master)
    return [master, *(record for record in run if record is not master)]


def _is_same_job(one: Entry, other: Entry) -> bool:
    return (one.owner, one.name, one.account) == (other.owner, other.name, other.account)


def _supersedes(later: Entry, earlier: Entry) -> bool:
    """Whether the later record is another run of the same job, not another job with its number.

    The submission time does not tell: 8.1.9 writes 0 for a rescheduled run and changes it when
    the job is queued again (recordings ``qacct_rerun``, ``qacct_exit99``).
    """
    if not _is_same_job(later, earlier):
        return False
    if SubmissionKey.find_in(later.account) is not None:
        return True
    if later.submitted == earlier.submitted or earlier.failed in _MAY_RUN_AGAIN:
        return True
    return earlier.failed != NO_FAILURE and not failure_of(earlier.failed).ran


def _observation(run: Sequence[Entry]) -> Observation:
    entry = run[0]
    ended = max((e.ended for e in run if e.ended is not None), default=None)
    usage = _usage(run, ended)
    limits = read_limits(entry.category, entry.slots)
    used = Used(
        (ended - entry.started).total_seconds() if entry.started and ended else 0.0,
        (usage.cpu_seconds if usage else None) or 0.0,
        (usage.max_memory_bytes if usage else None) or 0.0,
    )
    ending = end_of(entry.failed, entry.exit_status, used, limits)
    ran = entry.started is not None
    return Observation(
        native_id=entry.native_id,
        state=JobState.DONE if ending.kind is None else JobState.FAILED,
        native_state=f"failed={entry.failed} exit_status={entry.exit_status}",
        state_reason=ending.reason,
        failure_kind=ending.kind,
        exit_code=ending.code,
        exit_signal=ending.signal,
        name=entry.name,
        owner=entry.owner,
        queue=entry.queue if ran else None,
        account=entry.project,
        submit_time=entry.submitted,
        start_time=entry.started,
        end_time=ended,
        slots=entry.slots,
        hosts=tuple(dict.fromkeys(e.host for e in run if e.host)) or None,
        wall_time_limit_seconds=int(limits["h_rt"]) if "h_rt" in limits else None,
        memory_limit_bytes=int(limits["h_vmem"]) if "h_vmem" in limits else None,
        usage=usage,
        array_job_id=None if entry.task is None else entry.number,
        array_task_id=entry.task,
        submission_key=SubmissionKey.find_in(entry.account),
    )


def _usage(run: Sequence[Entry], ended: datetime | None) -> Usage | None:
    if run[0].started is None:
        return None
    peak = sum(e.max_memory_bytes for e in run)
    # A job that ends before the first sample has zeros there: nothing was measured.
    sampled = peak > 0
    return Usage(
        cpu_seconds=sum(e.cpu_seconds for e in run),
        memory_byte_seconds=sum(e.memory_byte_seconds for e in run) if sampled else None,
        max_memory_bytes=peak if sampled else None,
        io_bytes=sum(e.io_bytes for e in run) if sampled else None,
        io_wait_seconds=sum(e.io_wait_seconds for e in run) if sampled else None,
        sampled_at=ended,
    )
