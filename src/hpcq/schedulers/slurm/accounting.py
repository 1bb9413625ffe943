"""sacct's and sstat's answers as observations and usage; pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.units import parse_clock
from hpcq.schedulers.base import Listing, Unreadable
from hpcq.schedulers.slurm import fields
from hpcq.schedulers.slurm.hostlist import expand_hosts
from hpcq.schedulers.slurm.outcome import outcome_of, recognise_memory_kill
from hpcq.schedulers.slurm.queries import HISTORY_COLUMNS, USAGE_COLUMNS
from hpcq.schedulers.slurm.states import STATES, meaning_of

__all__ = ["parse_history", "parse_submissions", "parse_usage"]

_REQUEUE_GAP = timedelta(seconds=5)
_FIND_COLUMNS = ("JobID", "Submit", "Comment", "SubmitLine")


@dataclass(slots=True)
class _Run:
    """One run of a job: its allocation's row and the rows of its steps."""

    row: Mapping[str, str]
    steps: list[Mapping[str, str]] = field(default_factory=list)


def parse_history(stdout: bytes, delimiter: str, wanted: Collection[NativeId]) -> Listing:
    """Return the final states that accounting has.

    Args:
        stdout: what `queries.build_history` made sacct print: a row for each run of a job, then
            rows for its steps; every field ends with the delimiter.
        delimiter: the one given to it.
        wanted: the ids that were asked for. A row for several tasks of an array that never ran
            (``12_[1-4%2]``) is told for each of these.

    Runs that are not over, and those that were broken off and put back into the queue, are left
    out. So is a name that sacct makes up (``allocation``) while the record is incomplete. A state
    in no table, such as one that was cut off (``CANCELLED+``), is reported as unreadable.

    Raises:
        OutputParseError: the output is cut off.
    """
    observations, unreadable = [], []
    for run in _current(_runs(_rows(stdout, delimiter, HISTORY_COLUMNS))):
        try:
            for native_id in _ids(run.row["JobID"], wanted):
                observation = _observe(native_id, run)
                if observation is not None:
                    observations.append(observation)
        except ValueError as error:
            excerpt = fields.unreadable_excerpt(" ".join(run.row.values()).encode())
            unreadable.append(Unreadable(reason=str(error), excerpt=excerpt))
    return Listing(observations=tuple(observations), unreadable=tuple(unreadable))


def parse_submissions(stdout: bytes, delimiter: str) -> Iterator[tuple[NativeId, SubmissionKey]]:
    """Yield the jobs that carry a submission key, newest last.

    Args:
        stdout: what `queries.build_find_in_accounting` made sacct print.
        delimiter: the one given to it.

    Where the site does not store comments, the key stands in the line that submitted the job.

    Raises:
        OutputParseError: the output is cut off.
    """
    for row in _rows(stdout, delimiter, _FIND_COLUMNS):
        key = SubmissionKey.find_in(row["Comment"]) or _key_in_line(row["SubmitLine"])
        if key is not None:
            try:
                yield NativeId(row["JobID"]), key
            except ValueError:
                continue


def parse_usage(stdout: bytes, ids: Mapping[str, NativeId], now: datetime) -> dict[NativeId, Usage]:
    """Return what running jobs use.

    Args:
        stdout: what `queries.build_usage` made sstat print, one line per step.
        ids: each job by the number sstat calls it.
        now: when it was asked.

    In sstat's answer TRESUsageInTot is the memory at the last sample, MaxRSS the most that one
    task ever had (seen in 22.05; in sacct's both are the most).
    """
    steps: dict[str, list[Mapping[str, str]]] = {}
    for line in fields.decode(stdout).splitlines():
        values = line.split("|")
        if len(values) == len(USAGE_COLUMNS):
            row = dict(zip(USAGE_COLUMNS, values, strict=True))
            steps.setdefault(row["JobID"].split(".", 1)[0], []).append(row)
    return {ids[raw]: _running_usage(rows, now) for raw, rows in steps.items() if raw in ids}


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
    array, bracket, tasks = text.partition("_[")
    if not bracket:
        return [NativeId(text)]
    numbers = set(expand_hosts(f"[{tasks.split('%')[0].rstrip(']')}]"))
    return [i for i in wanted if i.startswith(f"{array}_") and i.split("_")[1] in numbers]


def _observe(native_id: NativeId, run: _Run) -> Observation | None:
    row = run.row
    word, _, by = row["State"].partition(" by ")
    meaning = meaning_of(word)
    if word not in STATES:
        raise ValueError(meaning.reason)
    if not meaning.state.is_final:
        return None
    code, signal = _exit(row["ExitCode"])
    if not signal and word != "COMPLETED":
        signal = next((_exit(s["ExitCode"])[1] for s in run.steps if _is_batch(s)), 0)
    memory = fields.tres_bytes(fields.tres(row["ReqTRES"]), "mem")
    usage = _final_usage(run)
    outcome = outcome_of(word, code, signal, by=by or None)
    hosts = fields.known(row["NodeList"])
    array, task = fields.array_of(native_id)
    complete = row["Partition"] != ""
    key = SubmissionKey.find_in(row["Comment"]) or _key_in_line(row["SubmitLine"])
    seen = Observation(
        native_id=native_id,
        state=meaning.state,
        native_state=row["State"],
        state_reason=outcome.reason,
        failure_kind=outcome.failure_kind,
        exit_code=outcome.exit_code if hosts else None,
        exit_signal=outcome.exit_signal,
        name=row["JobName"] if complete else None,
        owner=fields.known(row["User"]),
        queue=fields.known(row["Partition"]),
        account=fields.known(row["Account"]),
        submit_time=fields.moment(row["Submit"]),
        # A job that never ran is given its end as its start.
        start_time=fields.moment(row["Start"]) if hosts else None,
        end_time=fields.moment(row["End"]),
        working_directory=fields.known(row["WorkDir"]),
        slots=fields.integer(row["ReqCPUS"]) or None,
        hosts=None if hosts is None else expand_hosts(hosts),
        wall_time_limit_seconds=_minutes(row["TimelimitRaw"]),
        memory_limit_bytes=None if memory is None else int(memory),
        usage=usage if hosts else None,
        array_job_id=array,
        array_task_id=task,
        submission_key=key,
        # Sites may leave comments out; how a job was submitted is always there.
        is_keyless=key is None and row["SubmitLine"] != "",
    )
    return recognise_memory_kill(seen)


def _exit(text: str) -> tuple[int, int]:
    code, _, signal = text.partition(":")
    return fields.integer(code) or 0, fields.integer(signal) or 0


def _is_batch(row: Mapping[str, str]) -> bool:
    return row["JobID"].endswith(".batch")


def _minutes(text: str) -> int | None:
    minutes = fields.integer(text)
    return None if minutes is None else 60 * minutes


def _key_in_line(line: str) -> SubmissionKey | None:
    before, _, after = line.partition(" --comment=")
    return SubmissionKey.find_in(after.split(" ", 1)[0]) if before == "sbatch --parsable" else None


def _final_usage(run: _Run) -> Usage:
    """Sum the steps; their memory peaks may lie at different times, so the highest one counts."""
    measured = [step for step in run.steps if step["TRESUsageInTot"]]
    return Usage(
        cpu_seconds=_clock(run.row["TotalCPU"]) if run.steps else None,
        max_memory_bytes=_highest(measured, "TRESUsageInTot", "mem"),
        io_bytes=_io(measured),
        sampled_at=fields.moment(run.row["End"]),
    )


def _running_usage(steps: Sequence[Mapping[str, str]], now: datetime) -> Usage:
    totals = [fields.tres(step["TRESUsageInTot"]) for step in steps]
    memory = [m for m in (fields.tres_bytes(total, "mem") for total in totals) if m is not None]
    clocks = [_clock(total["cpu"]) for total in totals if "cpu" in total]
    cpu = [c for c in clocks if c is not None]
    peaks = [fields.tres_bytes({"rss": step["MaxRSS"]}, "rss") for step in steps]
    return Usage(
        cpu_seconds=sum(cpu) if cpu else None,
        memory_bytes=sum(memory) if memory else None,
        max_memory_bytes=max((p for p in peaks if p is not None), default=None),
        io_bytes=_io(steps),
        sampled_at=now,
    )


def _highest(steps: Sequence[Mapping[str, str]], column: str, name: str) -> float | None:
    sizes = (fields.tres_bytes(fields.tres(step[column]), name) for step in steps)
    return max((size for size in sizes if size is not None), default=None)


def _io(steps: Sequence[Mapping[str, str]]) -> float | None:
    columns = ("TRESUsageInTot", "TRESUsageOutTot")
    sizes = [fields.tres_bytes(fields.tres(s[c]), "fs/disk") for s in steps for c in columns]
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def _clock(text: str) -> float | None:
    try:
        return parse_clock(text)
    except ValueError:
        return None
