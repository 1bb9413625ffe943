"""Records of the accounting, one for each run of a job, and the ends of jobs they tell."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.schedulers.sge.states import (
    INTERMEDIATE_FAILURES,
    NO_FAILURE,
    Used,
    failure_of,
    outcome_of,
    read_limits,
)

__all__ = ["AccountingRecord", "observe"]

# Rescheduled, migrated, or kept in the error state at its own request, to be cleared.
_MAY_RUN_AGAIN = INTERMEDIATE_FAILURES | {30}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountingRecord:
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


def observe(records: Iterable[AccountingRecord]) -> list[Observation]:
    """Return the ends of jobs that these records tell, in their order.

    A job that was started several times has several records: the last run counts. A parallel
    job may have a record for each of its slave tasks too: they are added to the run they belong
    to. A number that was used for several jobs gives several observations, and an array one for
    each of its tasks that was started.

    Args:
        records: in the order of the accounting file.
    """
    by_id: dict[NativeId, list[AccountingRecord]] = {}
    for record in records:
        by_id.setdefault(record.native_id, []).append(record)
    return [_observation(run) for same in by_id.values() for run in _last_runs(same)]


def _last_runs(records: Sequence[AccountingRecord]) -> list[list[AccountingRecord]]:
    """Return for each job among the records of one id its last run, the master's record first."""
    runs: list[list[AccountingRecord]] = []
    for record in records:
        if runs and _is_of_run(record, runs[-1]):
            runs[-1].append(record)
        else:
            runs.append([record])
    last: list[list[AccountingRecord]] = []
    for run in map(_master_first, runs):
        if last and _supersedes(run[0], last[-1][0]):
            last.pop()
        last.append(run)
    return [run for run in last if run[0].failed not in INTERMEDIATE_FAILURES]


def _is_of_run(record: AccountingRecord, run: Sequence[AccountingRecord]) -> bool:
    """Return whether a record belongs to the run of the records before it.

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


def _master_first(run: Sequence[AccountingRecord]) -> list[AccountingRecord]:
    """Put the job's own record first: the one that began first and, of these, ended last."""

    def is_master(record: AccountingRecord) -> tuple[bool, float, float]:
        started = record.started.timestamp() if record.started else 0.0
        ended = record.ended.timestamp() if record.ended else 0.0
        return (not record.is_slave, -started, ended)

    # Of equals it is the last: Grid Engine writes it when all slave tasks are over.
    master = max(reversed(run), key=is_master)
    return [master, *(record for record in run if record is not master)]


def _is_same_job(one: AccountingRecord, other: AccountingRecord) -> bool:
    return (one.owner, one.name, one.account) == (other.owner, other.name, other.account)


def _supersedes(later: AccountingRecord, earlier: AccountingRecord) -> bool:
    """Return whether the later record is another run of the same job, not another job.

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


def _observation(run: Sequence[AccountingRecord]) -> Observation:
    record = run[0]
    ended = max((e.ended for e in run if e.ended is not None), default=None)
    usage = _usage(run, ended)
    limits = read_limits(record.category, record.slots)
    used = Used(
        (ended - record.started).total_seconds() if record.started and ended else 0.0,
        (usage.cpu_seconds if usage else None) or 0.0,
        (usage.max_memory_bytes if usage else None) or 0.0,
    )
    outcome = outcome_of(record.failed, record.exit_status, used, limits)
    ran = record.started is not None
    seen = Observation(
        native_id=record.native_id,
        state=outcome.state,
        native_state=f"failed={record.failed} exit_status={record.exit_status}",
        name=record.name,
        owner=record.owner,
        queue=record.queue if ran else None,
        account=record.project,
        submit_time=record.submitted,
        start_time=record.started,
        end_time=ended,
        slots=record.slots,
        hosts=tuple(dict.fromkeys(e.host for e in run if e.host)) or None,
        wall_time_limit_seconds=int(limits["h_rt"]) if "h_rt" in limits else None,
        memory_limit_bytes=int(limits["h_vmem"]) if "h_vmem" in limits else None,
        usage=usage,
        array_job_id=None if record.task is None else record.number,
        array_task_id=record.task,
        submission_key=SubmissionKey.find_in(record.account),
    )
    return outcome.apply(seen)


def _usage(run: Sequence[AccountingRecord], ended: datetime | None) -> Usage | None:
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
