"""squeue's answers as observations; pure."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey
from hpcq.domain.states import JobState
from hpcq.schedulers.base import Listing, ParseFailure
from hpcq.schedulers.command_line import ParseCache
from hpcq.schedulers.slurm import fields
from hpcq.schedulers.slurm.commands import (
    DETAIL_COLUMNS,
    FIELD,
    FREE_DETAIL_COLUMNS,
    FREE_QUEUE_COLUMNS,
    QUEUE_COLUMNS,
    Marks,
)
from hpcq.schedulers.slurm.outputs import expand_output_path
from hpcq.schedulers.slurm.states import meaning_of, outcome_of, reason_of

__all__ = [
    "find_key",
    "parse_details",
    "parse_job_id",
    "parse_listing",
    "parse_record",
    "raw_ids",
]

_QUEUE_NAMES = tuple(QUEUE_COLUMNS)
_DETAIL_NAMES = tuple(DETAIL_COLUMNS)
# Slurm calls a job that was put back PENDING, as it does one that never ran.
_PUT_BACK = {
    JobState.QUEUED: JobState.REQUEUED,
    JobState.QUEUED_HELD: JobState.REQUEUED_HELD,
}


def parse_listing(
    stdout: bytes, marks: Marks, cache: ParseCache[Observation | ParseFailure] | None = None
) -> Listing:
    """Return the queue.

    Args:
        stdout: what `commands.build_listing` made squeue print: one record per job or array
            task, its columns in the order of ``QUEUE_COLUMNS``.
        marks: those given to it.
        cache: of `parse_record`, from the listing before.

    Raises:
        OutputParseError: the output is cut off.
    """
    cache = cache or ParseCache(partial(parse_record, marks=marks))
    found = cache.read(_records(stdout, marks, "squeue"))
    return Listing(
        observations=tuple(seen for seen in found if isinstance(seen, Observation)),
        unreadable=tuple(bad for bad in found if isinstance(bad, ParseFailure)),
    )


def parse_details(stdout: bytes, marks: Marks) -> Listing:
    """Return what the controller knows of some jobs, ended ones included.

    Args:
        stdout: what `commands.build_details` made squeue print.
        marks: those given to it.

    Raises:
        OutputParseError: the output is cut off.
    """
    observations, unreadable = [], []
    for record in _records(stdout, marks, "squeue"):
        try:
            columns = _columns(record, _DETAIL_NAMES, FREE_DETAIL_COLUMNS, marks)
            observations.append(_observe_details(columns))
        except ValueError as error:
            unreadable.append(_unreadable(record, error))
    return Listing(observations=tuple(observations), unreadable=tuple(unreadable))


def raw_ids(stdout: bytes, marks: Marks) -> dict[str, NativeId]:
    """Return the jobs in `parse_details`' input by the number that sstat calls them."""
    found = {}
    for record in _records(stdout, marks, "squeue"):
        try:
            columns = _columns(record, _DETAIL_NAMES, FREE_DETAIL_COLUMNS, marks)
            found[columns["raw_id"]] = NativeId(columns["id"])
        except ValueError:
            continue
    return found


def find_key(stdout: bytes, key: SubmissionKey, marks: Marks) -> NativeId | None:
    """Return the job that carries the key, by the id that sbatch printed.

    Args:
        stdout: what `commands.build_find_in_queue` made squeue print.
        key: begins the job's comment.
        marks: those given to squeue.

    Raises:
        OutputParseError: the output is cut off, or the key stands in a record that cannot be read.
    """
    for record in _records(stdout, marks, "squeue"):
        native_id, _, comment = fields.decode(record).partition(marks.free)
        if f"{comment} ".startswith(f"{key} "):
            try:
                return NativeId(fields.base_id(native_id))
            except ValueError:
                reason = "the job with our key has no id"
                raise OutputParseError("squeue", reason, record) from None
    return None


def parse_job_id(stdout: bytes) -> NativeId:
    """Return the id in what ``sbatch --parsable`` printed: ``141`` or ``141;cluster``.

    Raises:
        OutputParseError: there is anything else.

    >>> parse_job_id(b"141;cluster")
    '141'
    """
    text = fields.decode(stdout).strip().split(";", 1)[0]
    try:
        if not text.isdigit():
            raise ValueError("no number")
        return NativeId(text)
    except ValueError:
        raise OutputParseError("sbatch", "it did not print a job id", stdout) from None


def _records(stdout: bytes, marks: Marks, command: str) -> Sequence[bytes]:
    *records, rest = stdout.split(marks.end.encode() + b"\n")
    if rest:
        raise OutputParseError(command, "it ends in the middle of a record", rest)
    return records


def _columns(record: bytes, names: Sequence[str], free: int, marks: Marks) -> dict[str, str]:
    plain, *texts = fields.decode(record).split(marks.free)
    values = [*plain.split(FIELD), *texts]
    if len(texts) != free or len(values) != len(names):
        raise ValueError(f"it has {len(values)} columns, not {len(names)}")
    return dict(zip(names, values, strict=True))


def parse_record(record: bytes, marks: Marks) -> Observation | ParseFailure:
    """Return what one record of the queue's listing says."""
    try:
        return _observe(_columns(record, _QUEUE_NAMES, FREE_QUEUE_COLUMNS, marks))
    except ValueError as error:
        return _unreadable(record, error)


def _unreadable(record: bytes, error: ValueError) -> ParseFailure:
    try:
        native_id = NativeId(fields.decode(record.split(FIELD.encode(), 1)[0]))
    except ValueError:
        native_id = None
    return ParseFailure(
        reason=str(error), excerpt=fields.unreadable_excerpt(record), native_id=native_id
    )


def _observe(columns: dict[str, str]) -> Observation:
    native_id = NativeId(columns["id"])
    state = columns["state"]
    meaning = meaning_of(state, columns["reason"])
    restarts = fields.integer(columns["restarts"])
    array, task = fields.array_of(native_id)
    waits = meaning.state.is_queued
    reason = reason_of(columns["reason"]) if waits else None
    words = None if reason is None else reason.words
    hosts = fields.known(columns["hosts"])
    command = fields.known(columns["command"])
    return Observation(
        native_id=native_id,
        state=_PUT_BACK.get(meaning.state, meaning.state) if restarts else meaning.state,
        native_state=state,
        stage=meaning.stage,
        native_reason=columns["reason"] if reason else None,
        state_reason=words if waits else meaning.reason,
        reason_code=(reason and reason.code) or meaning.code,
        name=columns["name"],
        owner=fields.known(columns["owner"]),
        queue=fields.known(columns["queue"]),
        account=fields.known(columns["account"]),
        submit_time=fields.moment(columns["submit"]),
        # Before the start this column is the scheduler's guess, another one all the time.
        start_time=None if waits else fields.moment(columns["start"]),
        working_directory=fields.known(columns["directory"]),
        script_file=_script_of(command),
        slots=fields.integer(columns["slots"]),
        hosts=None if hosts is None else fields.expand_hosts(hosts),
        wall_time_limit_seconds=fields.limit_seconds(columns["limit"]),
        array_job_id=array,
        array_task_id=task,
        depends_on=fields.dependencies(columns["depends"]),
        submission_key=SubmissionKey.find_in(columns["comment"]),
    )


def _script_of(command: str | None) -> str | None:
    """Return the script in a command; the arguments follow unquoted, none can be told apart."""
    script = command and command.split(" ", 1)[0]
    # What was submitted on standard input has no name.
    return script if script and script.startswith("/") and script != "/dev/stdin" else None


def _observe_details(columns: dict[str, str]) -> Observation:
    listed = _observe(columns)
    memory = fields.tres_bytes(fields.tres(columns["tres"]), "mem")
    stdout, stderr = (
        expand_output_path(
            columns[stream],
            listed.native_id,
            columns["raw_id"],
            columns["name"],
            listed.owner,
            listed.working_directory,
        )
        for stream in ("stdout", "stderr")
    )
    changes: dict[str, object] = {
        "memory_limit_bytes": None if memory is None else int(memory),
        "start_estimate": fields.moment(columns["start"]) if listed.state.is_queued else None,
        "stdout_path": stdout,
        # Since 24.11 nothing stands there when both go to one file.
        "stderr_path": stderr if fields.known(columns["stderr"]) else stdout,
    }
    if listed.state.is_final:
        changes |= _ending(listed, columns)
    return replace(listed, **changes)  # type: ignore[arg-type]


def _ending(listed: Observation, columns: dict[str, str]) -> dict[str, object]:
    outcome = outcome_of(
        columns["state"],
        *fields.exit_status(columns["exit"]),
        has_run=listed.hosts is not None,
        waited_for=columns["reason"],
    )
    return {
        "failure_kind": outcome.failure_kind,
        "state_reason": outcome.reason,
        "reason_code": outcome.code,
        "exit_code": outcome.exit_code,
        "exit_signal": outcome.exit_signal,
        "end_time": fields.moment(columns["end"]),
        # A job that never ran is given its end as its start.
        "start_time": listed.start_time if listed.hosts else None,
    }
