"""From a job's attributes, however they were printed, to an observation; pure."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.states import JobState
from hpcq.domain.units import from_epoch
from hpcq.schedulers.pbs_family.values import (
    JobId,
    parse_duration,
    parse_job_id,
    parse_local_time,
    parse_pbs_size,
)
from hpcq.schedulers.torque.states import Ending, Word, ending_of, state_of

__all__ = [
    "KEY_VARIABLE",
    "hosts_of",
    "memory_limit_of",
    "observe",
    "short_id",
    "slots_of",
    "usage_of",
    "wall_time_limit_of",
]

KEY_VARIABLE = "HPCQ_KEY"

_VARIABLE = re.compile(r"((?:[^,\\]|\\.)*)(?:,|$)", re.DOTALL)
_PPN = re.compile(r":ppn=([0-9]{1,9})(?::|$)")
_COUNT = re.compile(r"([0-9]{1,9})(?::|$)")
_AFTER = re.compile(r"after\w*:([^,]*)")
_HAS_RUN = ("R", "E", "S", "C")

Attributes = Mapping[str, str]
_T = TypeVar("_T")


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
    has_run = letter in _HAS_RUN and "start_time" in attributes
    ended = letter == "C"
    ending = ending_of(_whole(attributes.get("exit_status")), started=has_run) if ended else None
    word = _word(attributes, letter, ending)
    number = short_id(job_id, attributes.get("server"))
    variables = variables_of(attributes.get("Variable_List", ""))
    owner = attributes.get("Job_Owner", "").partition("@")[0] or None
    finished = _moment(attributes.get("comp_time") or attributes.get("mtime")) if ended else None
    is_trusted = account is None or owner == account
    return Observation(
        native_id=number,
        state=word.state,
        native_state=letter,
        stage=word.stage,
        state_reason=word.reason,
        failure_kind=None if ending is None else ending.kind,
        exit_code=None if ending is None else ending.code,
        exit_signal=None if ending is None else ending.signal,
        name=attributes.get("Job_Name") or None,
        owner=owner,
        queue=attributes.get("queue") or None,
        account=attributes.get("Account_Name") or None,
        submit_time=_moment(attributes.get("ctime") or attributes.get("qtime")),
        start_time=_moment(attributes.get("start_time")) if has_run else None,
        end_time=finished,
        working_directory=(
            attributes.get("init_work_dir") or variables.get("PBS_O_WORKDIR") or None
        ),
        slots=slots_of(attributes),
        hosts=hosts_of(attributes.get("exec_host")) if letter in _HAS_RUN else None,
        wall_time_limit_seconds=wall_time_limit_of(attributes),
        memory_limit_bytes=memory_limit_of(attributes),
        stdout_path=_path(attributes.get("Output_Path")),
        stderr_path=_path(attributes.get("Error_Path")),
        usage=usage_of(attributes, finished or now) if has_run else None,
        array_job_id=None if job_id.task is None else job_id.number,
        array_task_id=int(job_id.task) if job_id.task else None,
        depends_on=_depends_on(attributes.get("depend")),
        submission_key=SubmissionKey.find_in(variables.get(KEY_VARIABLE)) if is_trusted else None,
    )


def short_id(job_id: JobId, server: str | None) -> NativeId:
    """Return an id as commands take it: without the server, unless it is another one's."""
    home = job_id.server
    if home and server and not (_is_part(home, server) or _is_part(server, home)):
        return NativeId(f"{job_id.short}.{home}")
    return job_id.short


def slots_of(attributes: Attributes) -> int | None:
    """Return how many slots were asked for: by ``nodes``, else ``procs``, else ``ncpus``.

    ``nodes`` is ``2:ppn=4``, ``vm:ppn=2``, ``1:ppn=2+1:big:ppn=1``, or a number of hosts.
    """
    nodes = attributes.get("Resource_List.nodes")
    if nodes:
        return sum(map(_slots_of_part, nodes.split("+"))) or None
    return _whole(attributes.get("Resource_List.procs") or attributes.get("Resource_List.ncpus"))


def wall_time_limit_of(attributes: Attributes) -> int | None:
    """Return the longest that it may run, in seconds."""
    return _whole(_read(parse_duration, attributes.get("Resource_List.walltime")))


def memory_limit_of(attributes: Attributes) -> int | None:
    """Return the most memory that it may have, in bytes."""
    return _read(parse_pbs_size, attributes.get("Resource_List.mem"))


def hosts_of(exec_host: str | None) -> tuple[str, ...] | None:
    """Return the hosts in ``a/0-1+b/0,4``, each once."""
    parts = (exec_host or "").split("+")
    return tuple(dict.fromkeys(part.partition("/")[0] for part in parts if part)) or None


def usage_of(attributes: Attributes, at: datetime | None) -> Usage:
    """Return what was used; ``mem`` is the most resident memory so far."""
    return Usage(
        cpu_seconds=_read(parse_duration, attributes.get("resources_used.cput")),
        max_memory_bytes=_read(parse_pbs_size, attributes.get("resources_used.mem")),
        sampled_at=at,
    )


def variables_of(text: str) -> dict[str, str]:
    r"""Return the variables in a ``Variable_List``: commas and others stand behind ``\``."""
    entries = (re.sub(r"\\(.)", r"\1", m[1], flags=re.DOTALL) for m in _VARIABLE.finditer(text))
    pairs = (entry.partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}


def _word(attributes: Attributes, letter: str, ending: Ending | None) -> Word:
    if ending is not None:
        state = JobState.DONE if ending.kind is None else JobState.FAILED
        return Word(state, None, ending.reason)
    word = state_of(
        letter,
        attributes.get("Hold_Types", ""),
        attributes.get("depend", ""),
        _whole(attributes.get("start_count")) or 0,
    )
    if word.reason is None and word.state in (JobState.QUEUED, JobState.REQUEUED):
        return Word(word.state, word.stage, attributes.get("comment", "").strip() or None)
    return word


def _slots_of_part(part: str) -> int:
    count, each = _COUNT.match(part), _PPN.search(part)
    return (int(count[1]) if count else 1) * (int(each[1]) if each else 1)


def _is_part(short: str, long: str) -> bool:
    return long == short or long.startswith(short + ".")


def _path(text: str | None) -> str | None:
    """Return the path of ``host:/path``; None for one that is thrown away."""
    path = (text or "").partition(":")[2] or (text or "")
    return None if path in ("", "/dev/null") else path


def _depends_on(text: str | None) -> tuple[str, ...] | None:
    ids = [
        str(parsed.short)
        for group in _AFTER.findall(text or "")
        for parsed in (_read(parse_job_id, one.partition("@")[0]) for one in group.split(":"))
        if parsed is not None
    ]
    return tuple(ids) or None


def _moment(text: str | None) -> datetime | None:
    """Return a time: seconds (``qstat -x``), or words (``qstat -f``)."""
    seconds = _whole(text)
    return parse_local_time(text) if seconds is None else from_epoch(seconds)


def _whole(value: str | float | None) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError:
        return None


def _read(reader: Callable[[str], _T], text: str | None) -> _T | None:
    try:
        return None if text is None else reader(text)
    except ValueError:
        return None
