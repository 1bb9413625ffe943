"""What the accounting says of one run of one job, and what follows from it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.states import FailureKind, JobState
from hpcq.domain.units import parse_clock
from hpcq.schedulers.sge.states import (
    INTERMEDIATE_FAILURES,
    NO_FAILURE,
    failure_of,
    signal_of,
)

__all__ = ["Entry", "memory_specifier", "observe"]

_SIGKILL, _SIGXCPU = 9, 24
# Rescheduled, migrated, or kept in the error state at its own request, to be cleared.
_MAY_RUN_AGAIN = INTERMEDIATE_FAILURES | {30}
_NEARLY = 0.9  # the kernel and the daemon measure differently, and the last sample may be late

_MEMORY = re.compile(r"([0-9.]+)([kKmMgGtT]?)")
# sge_types(5): small letters are decimal multiples, capital ones binary.
_MULTIPLIERS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_MULTIPLIERS |= {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


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

    A job that was started several times has several records: the last one counts. Records of
    slave tasks are added to the run they belong to. A number that was used for several jobs gives
    several observations; a whole array (``9``) gets one of its own besides those of its tasks.

    Args:
        entries: in the order of the accounting file.
    """
    by_id: dict[NativeId, list[Entry]] = {}
    for entry in entries:
        by_id.setdefault(entry.native_id, []).append(entry)
    observations = []
    arrays: dict[str, list[Observation]] = {}
    for records in by_id.values():
        for run in _last_runs(records):
            seen = _observation(run)
            observations.append(seen)
            if seen.array_job_id is not None:
                arrays.setdefault(seen.array_job_id, []).append(seen)
    return observations + [_whole_array(number, tasks) for number, tasks in arrays.items()]


def _last_runs(records: Sequence[Entry]) -> list[list[Entry]]:
    """Return for each job among the records of one id its last run: the slaves, then itself."""
    runs: list[list[Entry]] = []
    slaves: list[Entry] = []
    for record in records:
        if record.is_slave:
            slaves.append(record)
            continue
        if runs and _supersedes(record, runs[-1][-1]):
            runs.pop()
        runs.append([*slaves, record])
        slaves = []
    if runs and slaves:
        runs[-1] = [*slaves, *runs[-1]]
    return [run for run in runs if run[-1].failed not in INTERMEDIATE_FAILURES]


def _supersedes(later: Entry, earlier: Entry) -> bool:
    """Whether the later record is another run of the same job, not another job with its number.

    The submission time does not tell: 8.1.9 writes 0 for a rescheduled run and changes it when
    the job is queued again (recordings ``qacct_rerun``, ``qacct_exit99``).
    """
    if (later.owner, later.name, later.account) != (earlier.owner, earlier.name, earlier.account):
        return False
    if SubmissionKey.find_in(later.account) is not None:
        return True
    if later.submitted == earlier.submitted or earlier.failed in _MAY_RUN_AGAIN:
        return True
    return earlier.failed != NO_FAILURE and not failure_of(earlier.failed).ran


def _observation(run: Sequence[Entry]) -> Observation:
    entry = run[-1]
    usage = _usage(run)
    ending = _ending(entry, usage)
    limits = _limits(entry.category)
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
        end_time=entry.ended,
        slots=entry.slots,
        hosts=tuple(dict.fromkeys(e.host for e in reversed(run) if e.host)) or None,
        wall_time_limit_seconds=int(limits["h_rt"]) if "h_rt" in limits else None,
        memory_limit_bytes=int(limits["h_vmem"] * entry.slots) if "h_vmem" in limits else None,
        usage=usage,
        array_job_id=None if entry.task is None else entry.number,
        array_task_id=entry.task,
        submission_key=SubmissionKey.find_in(entry.account),
    )


@dataclass(frozen=True, slots=True)
class _Ending:
    kind: FailureKind | None = None
    code: int | None = None
    signal: int | None = None
    reason: str | None = None


def _ending(entry: Entry, usage: Usage | None) -> _Ending:
    """Say how a run ended.

    ``failed`` and ``exit_status`` are two things (sge_status(5)): a job that never started has
    ``failed`` 28 and exit status 0; a signal has ``failed`` 100 and 128 + n; a script that itself
    ends with 137 has ``failed`` 0.
    """
    if entry.failed == NO_FAILURE:
        if entry.exit_status == 0:
            return _Ending(code=0)
        return _Ending(
            FailureKind.NON_ZERO_EXIT,
            entry.exit_status,
            reason=f"ended with exit status {entry.exit_status}",
        )
    failure = failure_of(entry.failed)
    words = f"{failure.words} (Grid Engine's failed={entry.failed})"
    if not failure.ran:
        return _Ending(failure.kind, reason=words)
    signal = signal_of(entry.exit_status)
    if signal is None:
        code = entry.exit_status
        kind = failure.kind
        if kind is FailureKind.SIGNAL:
            kind = FailureKind.NON_ZERO_EXIT if code else FailureKind.UNKNOWN
        return _Ending(kind, code, reason=words)
    exceeded, why = _exceeded(entry, usage, signal)
    return _Ending(
        exceeded or failure.kind, signal=signal, reason=why or f"{words}: signal {signal}"
    )


def _exceeded(
    entry: Entry, usage: Usage | None, signal: int
) -> tuple[FailureKind | None, str | None]:
    """Say which limit a job that a signal ended had reached, if any."""
    limits = _limits(entry.category)
    if signal == _SIGXCPU:
        return FailureKind.TIME_LIMIT, "ended because it exceeded its CPU time limit"
    if signal != _SIGKILL:
        return None, None
    elapsed = (
        (entry.ended - entry.started).total_seconds() if entry.started and entry.ended else 0.0
    )
    peak = (usage.max_memory_bytes if usage else None) or 0.0
    cpu = (usage.cpu_seconds if usage else None) or 0.0
    if elapsed >= limits.get("h_rt", float("inf")):
        return FailureKind.TIME_LIMIT, f"ended at its wall time limit of {limits['h_rt']:g} s"
    if peak >= _NEARLY * limits.get("h_vmem", float("inf")) * entry.slots:
        return FailureKind.OUT_OF_MEMORY, "ended because it exceeded its memory limit (h_vmem)"
    if cpu >= _NEARLY * limits.get("h_cpu", float("inf")) * entry.slots:
        return FailureKind.TIME_LIMIT, f"ended at its CPU time limit of {limits['h_cpu']:g} s"
    return None, None


def _usage(run: Sequence[Entry]) -> Usage | None:
    entry = run[-1]
    if entry.started is None:
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
        sampled_at=entry.ended,
    )


def _limits(category: str) -> dict[str, float]:
    """Return the limits in a category: ``-l h_rt=600,h_vmem=1G`` (seconds; bytes per slot)."""
    match = re.search(r"(?:^|\s)-l\s+(\S+)", category)
    limits = {}
    for request in match[1].split(",") if match else ():
        name, _, value = request.partition("=")
        try:
            if name in ("h_rt", "h_cpu"):
                limits[name] = parse_clock(value)
            elif name == "h_vmem":
                limits[name] = memory_specifier(value)
        except ValueError:
            continue  # INFINITY
    return limits


def memory_specifier(text: str) -> float:
    """Return bytes: ``1G`` is 2**30, ``1g`` is 10**9 (sge_types(5)).

    Raises:
        ValueError: the text is no memory specifier.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a memory specifier: {text!r}")
    return float(match[1]) * _MULTIPLIERS[match[2]]


def _whole_array(number: str, tasks: Sequence[Observation]) -> Observation:
    """Return how an array ended: as the first of its tasks that failed, if one did."""
    failed = [task for task in tasks if task.state is JobState.FAILED]
    told = failed[0] if failed else tasks[0]
    starts = [task.start_time for task in tasks if task.start_time is not None]
    ends = [task.end_time for task in tasks if task.end_time is not None]
    reason = f"{len(failed)} of {len(tasks)} tasks failed; the first: {told.state_reason}"
    return Observation(
        native_id=NativeId(number),
        state=told.state,
        native_state=told.native_state,
        state_reason=reason if failed else None,
        failure_kind=told.failure_kind,
        exit_code=told.exit_code,
        exit_signal=told.exit_signal,
        name=told.name,
        owner=told.owner,
        queue=told.queue,
        account=told.account,
        submit_time=told.submit_time,
        start_time=min(starts, default=None),
        end_time=max(ends, default=None),
        slots=told.slots,
        usage=_summed([task.usage for task in tasks if task.usage is not None]),
        array_job_id=number,
        submission_key=told.submission_key,
    )


def _summed(usages: Sequence[Usage]) -> Usage | None:
    """Return what the tasks used together; the peak is that of the largest."""
    if not usages:
        return None
    return Usage(
        cpu_seconds=_sum(usage.cpu_seconds for usage in usages),
        memory_byte_seconds=_sum(usage.memory_byte_seconds for usage in usages),
        max_memory_bytes=max(
            (u.max_memory_bytes for u in usages if u.max_memory_bytes), default=None
        ),
        io_bytes=_sum(usage.io_bytes for usage in usages),
        io_wait_seconds=_sum(usage.io_wait_seconds for usage in usages),
        sampled_at=max((u.sampled_at for u in usages if u.sampled_at), default=None),
    )


def _sum(figures: Iterable[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None
