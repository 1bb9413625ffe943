"""sacct's answers as observations; pure."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey
from hpcq.domain.states import FailureKind
from hpcq.schedulers.base import Listing, ParseFailure
from hpcq.schedulers.slurm import fields
from hpcq.schedulers.slurm.commands import FIND_COLUMNS, HISTORY_COLUMNS
from hpcq.schedulers.slurm.states import NEVER_SATISFIED, STATES, meaning_of, outcome_of
from hpcq.schedulers.slurm.usage import final_usage

__all__ = ["AccountedJobs", "find_key", "parse_history", "recognise_memory_kill"]

_SIGKILL = 9
_REQUEUE_GAP = timedelta(seconds=5)
_KEY_OPTION = re.compile(r"(?:^|\s)--comment[= ](\S+)")
_YEAR_MINUTES = "525600"
"""Limit of a job that asked for none, and that backfill starts."""


@dataclass(slots=True)
class _Run:
    """One run of a job: its allocation's row and the rows of its steps."""

    row: Mapping[str, str]
    steps: list[Mapping[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AccountedJobs:
    """Answer of accounting about some jobs.

    Attributes:
        listing: those that are over.
        unfinished: the jobs and tasks that are not over, and the whole that they belong to.
        known: all ids that there are records of, as sbatch printed them.
    """

    listing: Listing = field(default_factory=Listing)
    unfinished: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()


def parse_history(stdout: bytes, delimiter: str, wanted: Collection[NativeId]) -> AccountedJobs:
    """Return the accounting records of these jobs.

    Args:
        stdout: what `commands.build_history` made sacct print: a row for each run of a job, then
            rows for its steps; every field ends with the delimiter.
        delimiter: the one given to it.
        wanted: the ids that were asked for. A row for several tasks of an array that never ran
            (``12_[1-4%2]``) is told for each of these, or for all where the array was asked for.

    Runs that are not over, and those that were broken off and put back into the queue, are left
    out. So is a name that sacct makes up (``allocation``) while the record is incomplete. A state
    in no table, such as one that was cut off (``CANCELLED+``), is reported as unreadable.

    Raises:
        OutputParseError: the output is cut off.
    """
    observations: list[Observation] = []
    unreadable = []
    unfinished: set[str] = set()
    known: set[str] = set()
    for run in _current(_runs(_rows(stdout, delimiter, HISTORY_COLUMNS))):
        base = fields.base_id(run.row["JobID"])
        known.add(base)
        try:
            ids = _ids(run.row["JobID"], wanted)
            seen = [_observe(native_id, run) for native_id in ids]
            observations += [one for one in seen if one is not None]
            if not meaning_of(run.row["State"].partition(" by ")[0]).state.is_final:
                unfinished |= {base, *ids}
        except ValueError as error:
            excerpt = fields.unreadable_excerpt(" ".join(run.row.values()).encode())
            unreadable.append(ParseFailure(reason=str(error), excerpt=excerpt))
    listing = Listing(observations=tuple(observations), unreadable=tuple(unreadable))
    return AccountedJobs(listing, frozenset(unfinished), frozenset(known))


def find_key(stdout: bytes, delimiter: str, key: SubmissionKey) -> NativeId | None:
    """Return the job that carries the key, by the id that sbatch printed; the newest of several.

    Args:
        stdout: what `commands.build_find_in_accounting` made sacct print.
        delimiter: the one given to it.
        key: stands in the line that submitted the job or, where that is not kept, in its comment.

    Raises:
        OutputParseError: the output is cut off, or the job has no id.
    """
    rows = [row for row in _rows(stdout, delimiter, FIND_COLUMNS) if _key_of(row) == key]
    if not rows:
        return None
    try:
        return NativeId(fields.base_id(rows[-1]["JobID"]))
    except ValueError:
        raise OutputParseError("sacct", "the job with our key has no id", stdout[-400:]) from None


def _rows(stdout: bytes, delimiter: str, names: Sequence[str]) -> list[dict[str, str]]:
    *tokens, rest = fields.decode(stdout).split(delimiter)
    if rest.strip("\n") or len(tokens) % len(names):
        raise OutputParseError("sacct", "it ends in the middle of a record", stdout[-400:])
    rows = []
    for start in range(0, len(tokens), len(names)):
        row = dict(zip(names, tokens[start : start + len(names)], strict=True))
        # The newline that ended the record before.
        row[names[0]] = row[names[0]].lstrip("\n")
        rows.append(row)
    return rows


def _runs(rows: Sequence[Mapping[str, str]]) -> list[_Run]:
    runs: list[_Run] = []
    for row in rows:
        job, _, step = row["JobID"].partition(".")
        if not step:
            runs.append(_Run(row))
        elif runs and runs[-1].row["JobID"] == job:
            runs[-1].steps.append(row)
    return runs


def _current(runs: Sequence[_Run]) -> list[_Run]:
    """Leave out the runs after which Slurm put the same job back into the queue.

    The next run of it is another row, submitted the moment the last one ended.
    """
    submitted: dict[tuple[str, str], list[datetime]] = {}
    for run in runs:
        moment = fields.moment(run.row["Submit"])
        if moment is not None:
            submitted.setdefault((run.row["JobID"], run.row["User"]), []).append(moment)
    return [
        run
        for run in runs
        if not any(
            _follows(run, other) for other in submitted.get((run.row["JobID"], run.row["User"]), ())
        )
    ]


def _follows(run: _Run, submitted: datetime) -> bool:
    end = fields.moment(run.row["End"])
    own = fields.moment(run.row["Submit"])
    if end is None or own is None or submitted == own:
        return False
    return timedelta(0) <= submitted - end <= _REQUEUE_GAP


def _ids(text: str, wanted: Collection[NativeId]) -> list[NativeId]:
    """Return the jobs of a row.

    It may stand for tasks that never ran one by one (``12_[1-4%2]``) and, since 24.11, for all
    components of a heterogeneous job.
    """
    array, bracket, tasks = text.partition("_[")
    if not bracket:
        components = [i for i in wanted if i.startswith(f"{text}+")]
        return [NativeId(text), *components]
    numbers = fields.expand_hosts(f"[{tasks.split('%')[0].rstrip(']')}]")
    if array in wanted:
        return [NativeId(f"{array}_{number}") for number in numbers]
    tasks_of_row = {f"{array}_{number}" for number in numbers}
    return [i for i in wanted if i in tasks_of_row]


def _observe(native_id: NativeId, run: _Run) -> Observation | None:
    row = run.row
    word, _, by = row["State"].partition(" by ")
    meaning = meaning_of(word)
    if word not in STATES:
        raise ValueError(meaning.reason)
    if not meaning.state.is_final:
        return None
    hosts = fields.known(row["NodeList"])
    # sacct has one word for a dependency that may yet be met and for one that never will be.
    waited_for = NEVER_SATISFIED if row["Reason"] == "Dependency" else row["Reason"]
    outcome = outcome_of(
        word, *_exit(run), has_run=hosts is not None, by=by or None, waited_for=waited_for
    )
    array, task = fields.array_of(native_id)
    seen = Observation(
        native_id=native_id,
        state=meaning.state,
        native_state=row["State"],
        state_reason=outcome.reason,
        reason_code=outcome.code,
        failure_kind=outcome.failure_kind,
        exit_code=outcome.exit_code,
        exit_signal=outcome.exit_signal,
        # A job that never ran is given its end as its start.
        start_time=fields.moment(row["Start"]) if hosts else None,
        end_time=fields.moment(row["End"]),
        hosts=None if hosts is None else fields.expand_hosts(hosts),
        usage=final_usage(run.row, run.steps) if hosts else None,
        array_job_id=array,
        array_task_id=task,
        submission_key=_key_of(row),
    )
    # At first the rest is missing or made up: owner root, name allocation (seen in 23.11).
    is_complete = row["Partition"] != ""
    return recognise_memory_kill(_complete(seen, row) if is_complete else seen)


def recognise_memory_kill(seen: Observation) -> Observation:
    """Return the end of a job, with its memory as the reason if that ended it.

    Without cgroups (``JobAcctGatherParams=OverMemoryKill``) Slurm says ``FAILED`` and ``0:9`` of
    such a job, as of any that was killed; its greatest sampled memory tells (seen in 22.05).
    """
    peak = None if seen.usage is None else seen.usage.max_memory_bytes
    if (
        seen.failure_kind is FailureKind.SIGNAL
        and seen.exit_signal == _SIGKILL
        and peak is not None
        and seen.memory_limit_bytes is not None
        and peak > seen.memory_limit_bytes
    ):
        return replace(
            seen,
            failure_kind=FailureKind.OUT_OF_MEMORY,
            state_reason="It used more memory than its limit.",
        )
    return seen


def _complete(seen: Observation, row: Mapping[str, str]) -> Observation:
    memory = fields.tres_bytes(fields.tres(row["ReqTRES"]), "mem")
    return replace(
        seen,
        name=row["JobName"],
        owner=fields.known(row["User"]),
        queue=fields.known(row["Partition"]),
        account=fields.known(row["Account"]),
        submit_time=fields.moment(row["Submit"]),
        working_directory=fields.known(row["WorkDir"]),
        slots=fields.integer(row["ReqCPUS"]) or None,
        wall_time_limit_seconds=_minutes(row["TimelimitRaw"]),
        memory_limit_bytes=None if memory is None else int(memory),
        # Sites may leave comments out; how a job was submitted is always there.
        is_keyless=seen.submission_key is None and row["SubmitLine"] != "",
    )


def _exit(run: _Run) -> tuple[int, int]:
    """Return a run's exit code and signal.

    Until 25.05 codes from 128 on are shown less 128, so that a failure with 0:0 exited with 128.
    """
    code, signal = fields.exit_status(run.row["ExitCode"])
    batch = next((step for step in run.steps if step["JobID"].endswith(".batch")), None)
    if batch is None or signal or run.row["State"] == "COMPLETED":
        return code, signal
    batch_code, batch_signal = fields.exit_status(batch["ExitCode"])
    if not (code or batch_code or batch_signal) and run.row["State"] == batch["State"] == "FAILED":
        return 128, 0
    return code, batch_signal


def _minutes(text: str) -> int | None:
    minutes = None if text == _YEAR_MINUTES else fields.integer(text)
    return None if minutes is None else 60 * minutes


def _key_of(row: Mapping[str, str]) -> SubmissionKey | None:
    """Return the key that a job was submitted with.

    The line that submitted it stays as it was; its comment may be changed, and is kept only where
    the site says so (AccountingStoreFlags). The script's arguments stand behind ``--``.
    """
    option = _KEY_OPTION.search(row["SubmitLine"].split(" -- ", 1)[0])
    in_line = None if option is None else SubmissionKey.find_in(option[1])
    return in_line or SubmissionKey.find_in(row["Comment"])
