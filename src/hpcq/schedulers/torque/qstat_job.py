"""Observations made from a job's attributes, however they were printed; pure."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from hpcq.domain.jobs import Observation, SubmissionKey
from hpcq.domain.states import JobState, ReasonCode
from hpcq.schedulers.meanings import Outcome, StateMeaning
from hpcq.schedulers.pbs_family.comments import reason_in
from hpcq.schedulers.pbs_family.values import (
    hosts_in,
    parse_duration,
    parse_job_id,
    parse_local_time,
    parse_pbs_size,
    parse_whole,
    path_of,
    predecessors,
    read_figure,
    slots_in,
    usage_of,
)
from hpcq.schedulers.torque.states import outcome_of, state_of

__all__ = [
    "KEY_VARIABLE",
    "memory_limit_of",
    "observe",
    "slots_of",
    "wall_time_limit_of",
]

KEY_VARIABLE = "HPCQ_KEY"

_BEFORE = r"(?:^|(?<!\\)(?:\\\\)*,)"
_KEY = re.compile(f"{_BEFORE}{KEY_VARIABLE}=")
_DIRECTORY = re.compile(f"{_BEFORE}PBS_O_WORKDIR=")
_VALUE = re.compile(r"(?:[^,\\]|\\.?)*", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_PPN = re.compile(r":ppn=([0-9]{1,9})(?![0-9])")
_COUNT = re.compile(r"([0-9]{1,9})(?:[:#,]|$)")
_NOT_FILLED_IN = re.compile(r"\$\{?(?:PBS_|HOME|USER|TMPDIR)|\^[a-z_]+\^")
_DELETED_FOR = "Job deleted as result of dependency"
_HAS_RUN = ("R", "E", "S", "C")
# Releases before 2.4 have no start_time.
_TRACES_OF_A_RUN = frozenset(
    {
        "start_time",
        "session_id",
        "exec_host",
        *(f"resources_used.{what}" for what in ("cput", "mem", "walltime")),
    }
)

Attributes = Mapping[str, str]


def observe(attributes: Attributes, account: str | None, now: datetime) -> Observation:
    """Return what a record of ``qstat`` says.

    Args:
        attributes: as printed, ``Resource_List.walltime``; the id is ``Job_Id``.
        account: whose jobs may carry a key of ours: anyone can put any variable on his own job,
            but nobody can choose its owner. None: everyone's.
        now: when it was printed.

    Raises:
        ValueError: it has no id or no state.
    """
    job_id = parse_job_id(attributes.get("Job_Id", ""))
    letter = attributes.get("job_state", "")
    if not letter:
        raise ValueError("it has no state")
    has_run = letter in _HAS_RUN and not _TRACES_OF_A_RUN.isdisjoint(attributes)
    ended = letter == "C"
    status = parse_whole(attributes.get("exit_status"))
    variables = attributes.get("Variable_List", "")
    owner = attributes.get("Job_Owner", "").partition("@")[0] or None
    key = _key_of(attributes, variables) if account is None or owner == account else None
    outcome = outcome_of(status, started=has_run, wrapped=key is not None) if ended else None
    word = _meaning_of(attributes, letter, outcome)
    finished = (
        parse_local_time(attributes.get("comp_time") or attributes.get("mtime")) if ended else None
    )
    # Each job of an array has its own; that of the array itself is none.
    stdout_path, stderr_path = (None, None) if job_id.is_array else _outputs_of(attributes)
    return Observation(
        native_id=job_id.short,
        state=word.state,
        native_state=letter,
        stage=word.stage,
        native_reason=attributes.get("comment", "").strip() or None,
        state_reason=word.reason,
        reason_code=word.code,
        failure_kind=None if outcome is None else outcome.failure_kind,
        exit_code=None if outcome is None else outcome.exit_code,
        exit_signal=None if outcome is None else outcome.exit_signal,
        name=attributes.get("Job_Name") or None,
        owner=owner,
        queue=attributes.get("queue") or None,
        account=attributes.get("Account_Name") or None,
        submit_time=parse_local_time(attributes.get("ctime") or attributes.get("qtime")),
        start_time=parse_local_time(attributes.get("start_time")) if has_run else None,
        end_time=finished,
        working_directory=(
            attributes.get("init_work_dir") or _variable(variables, _DIRECTORY) or None
        ),
        slots=slots_of(attributes),
        hosts=hosts_in(attributes.get("exec_host")) if letter in _HAS_RUN else None,
        wall_time_limit_seconds=wall_time_limit_of(attributes),
        memory_limit_bytes=memory_limit_of(attributes),
        stdout_path=stdout_path,
        stderr_path=stderr_path,
        usage=usage_of(attributes, finished or now) if has_run else None,
        array_job_id=job_id.array_job_id,
        array_task_id=job_id.array_task_id,
        depends_on=predecessors(attributes.get("depend")),
        submission_key=key,
    )


def slots_of(attributes: Attributes) -> int | None:
    """Return how many slots were asked for: by ``nodes``, else ``procs``, else ``ncpus``.

    ``nodes`` is ``2:ppn=4``, ``vm:ppn=2``, ``1:ppn=2+1:big:ppn=1#shared``, or a number of hosts.
    On a Cray ``mppwidth`` says it. Of a job that asked for none it is what it got.

    >>> slots_of({"Resource_List.nodes": "2:ppn=4"})
    8
    """
    width = parse_whole(attributes.get("Resource_List.mppwidth"))
    nodes = attributes.get("Resource_List.nodes")
    if width:
        return width
    if nodes:
        return sum(map(_slots_of_part, nodes.split("+"))) or None
    asked = attributes.get("Resource_List.procs") or attributes.get("Resource_List.ncpus")
    return parse_whole(asked) or slots_in(attributes.get("exec_host"))


def wall_time_limit_of(attributes: Attributes) -> int | None:
    """Return the longest that it may run, in seconds."""
    seconds = read_figure(parse_duration, attributes.get("Resource_List.walltime"))
    return None if seconds is None else int(seconds)


def memory_limit_of(attributes: Attributes) -> int | None:
    """Return the most memory that it may have, in bytes."""
    return read_figure(parse_pbs_size, attributes.get("Resource_List.mem"))


def _key_of(attributes: Attributes, variables: str) -> SubmissionKey | None:
    """Return the key with which a job was submitted.

    A job that submits another one with ``qsub -V`` hands all its variables on: a key counts where
    the command line of the submission itself has it, too.
    """
    key = SubmissionKey.find_in(_variable(variables, _KEY))
    command_line = attributes.get("submit_args")
    if key is None or command_line is None or f"{KEY_VARIABLE}={key}" in command_line:
        return key
    return None


def _variable(text: str, begin: re.Pattern[str]) -> str | None:
    r"""Return a variable in a ``Variable_List``: commas and others stand behind ``\``."""
    found: str | None = None
    for match in begin.finditer(text):
        value = _VALUE.match(text, match.end())
        found = _ESCAPE.sub(r"\1", value[0]) if value is not None else ""
    return found


def _meaning_of(attributes: Attributes, letter: str, outcome: Outcome | None) -> StateMeaning:
    if outcome is not None:
        comment = attributes.get("comment", "")
        is_told = comment.startswith(_DELETED_FOR)
        if is_told:
            code = ReasonCode.DEPENDENCY_NEVER_SATISFIED
            return StateMeaning(outcome.state, reason=comment, code=code)
        return StateMeaning(outcome.state, reason=outcome.reason, code=outcome.code)
    word = state_of(
        letter,
        attributes.get("Hold_Types", ""),
        attributes.get("depend", ""),
        parse_whole(attributes.get("start_count")) or 0,
    )
    if word.reason is None and word.state in (JobState.QUEUED, JobState.REQUEUED):
        comment = attributes.get("comment", "").strip()
        return replace(word, reason=comment or None, code=reason_in(comment))
    return word


def _slots_of_part(part: str) -> int:
    count, each = _COUNT.match(part), _PPN.search(part)
    return (int(count[1]) if count else 1) * (int(each[1]) if each else 1)


def _outputs_of(attributes: Attributes) -> tuple[str | None, str | None]:
    stdout = _path(attributes.get("Output_Path"))
    stderr = _path(attributes.get("Error_Path"))
    match attributes.get("Join_Path"):
        case "oe":
            return stdout, stdout
        case "eo":
            return stderr, stderr
        case _:
            return stdout, stderr


def _path(text: str | None) -> str | None:
    """Return the path of ``host:/path``; None for one that is thrown away, or not filled in."""
    path = path_of(text) or ""
    if path == "/dev/null" or not path.startswith("/") or _NOT_FILLED_IN.search(path):
        return None
    return path
