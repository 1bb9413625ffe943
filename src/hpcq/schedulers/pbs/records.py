"""One job of ``qstat -f`` as an observation: pure functions over its attributes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.units import from_epoch
from hpcq.schedulers.pbs.json import Attributes
from hpcq.schedulers.pbs.states import end_of, is_over, state_of
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
)

__all__ = ["KEY_VARIABLE", "PLACEHOLDER", "Record", "record_of", "slots_asked"]

KEY_VARIABLE = "HPCQ_KEY"
"""The variable of a job that holds its key."""

_NUMBER = re.compile(r"-?[0-9.]+(?:[eE][+-]?[0-9]+)?|null")
_NAMED = re.compile(r"-N[ ]*(\S+)")
_CPUS = re.compile(r"(?:^|:)(?:ncpus=|ppn=)([0-9]{1,9})(?![0-9])")
_SWALLOWED_DIRECTORY = re.compile(r"(?:^|,)PBS_O_WORKDIR=(/.*?)(?=,[A-Za-z_]\w*=|$)", re.DOTALL)
_KEY_CHARACTERS = 37
PLACEHOLDER = "^array_index^"
"""PBS puts the number of the task for it in the paths of outputs."""
_HOLDS = {
    "u": "held by its owner",
    "o": "held by an operator",
    "s": "held by PBS",
    "p": "held because its owner's password was refused",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One job of an answer.

    Attributes:
        observation: without its usage, which changes all the time.
        usage: what it has used so far, if it runs or ran.
        is_over: whether it has ended.
        is_array: whether it is a whole array; its id is then written without the brackets, for a
            `NativeId` never means more than one job.
    """

    observation: Observation
    usage: Usage | None
    is_over: bool
    is_array: bool

    @property
    def complete(self) -> Observation:
        """The observation with its usage."""
        return replace(self.observation, usage=self.usage)


def record_of(
    name: str, attributes: Attributes, owner: str | None, sampled: datetime | None
) -> Record:
    """Return one job.

    Args:
        name: its id as PBS writes it: ``36.host``, ``32[].host``, ``32[1].host``.
        attributes: what ``qstat -f`` tells of it, groups nested.
        owner: the account whose jobs may carry a key; None for any.
        sampled: when the answer was made.

    Raises:
        ValueError: it has no id, state or times that can be read.
    """
    job = parse_job_id(name)
    letter = _word(attributes, "job_state")
    if letter is None:
        raise ValueError("it has no state")
    over = is_over(letter)
    observation = _base(job.short, letter, attributes, owner)
    observation = (
        _ended(observation, attributes) if over else _going_on(observation, letter, attributes)
    )
    if job.is_array:
        observation = replace(observation, is_array=True)
    elif job.task:
        observation = replace(observation, array_job_id=job.number, array_task_id=int(job.task))
    used = _group(attributes, "resources_used")
    ran = "Exit_status" in attributes
    usage = _usage(used, sampled) if used or (over and ran) else None
    return Record(observation, usage, over, job.is_array)


def _base(
    native_id: NativeId, letter: str, attributes: Attributes, owner: str | None
) -> Observation:
    asked = _group(attributes, "Resource_List")
    variables = _group(attributes, "Variable_List")
    user = (_word(attributes, "Job_Owner") or "").partition("@")[0] or None
    key = _key(attributes, variables) if owner is None or user == owner else None
    account = _word(attributes, "Account_Name")
    return Observation(
        native_id=native_id,
        state=state_of(letter).state,
        native_state=letter,
        name=_job_name(attributes),
        owner=user,
        queue=_word(attributes, "queue"),
        account=None if SubmissionKey.find_in(account) == account else account,
        submit_time=parse_local_time(_word(attributes, "ctime")),
        start_time=parse_local_time(_word(attributes, "stime")),
        working_directory=_directory(variables),
        slots=slots_asked(asked) or slots_in(_word(attributes, "exec_host")),
        hosts=hosts_in(_word(attributes, "exec_host")),
        wall_time_limit_seconds=_whole(read_figure(parse_duration, asked.get("walltime"))),
        memory_limit_bytes=read_figure(parse_pbs_size, asked.get("mem")),
        stdout_path=_path(_word(attributes, "Output_Path"), is_ours=key is not None),
        stderr_path=_path(_word(attributes, "Error_Path"), is_ours=key is not None),
        depends_on=predecessors(_word(attributes, "depend")),
        submission_key=key,
    )


def _going_on(seen: Observation, letter: str, attributes: Attributes) -> Observation:
    has_run = (parse_whole(_word(attributes, "run_count")) or 0) > 0
    word = state_of(letter, has_run=has_run)
    comment = _word(attributes, "comment")
    reason = word.reason
    if word.state.is_queued:
        reason = comment or _hold(attributes, letter) or word.reason
    waits = word.state.is_queued
    return replace(
        seen,
        state=word.state,
        stage=word.stage,
        state_reason=reason,
        start_time=None if waits else seen.start_time,
    )


def _hold(attributes: Attributes, letter: str) -> str | None:
    if letter != "H":
        return None
    if _word(attributes, "depend"):
        return "waits for the jobs it depends on"
    kinds = _word(attributes, "Hold_Types") or ""
    return next((words for kind, words in _HOLDS.items() if kind in kinds), None)


def _ended(seen: Observation, attributes: Attributes) -> Observation:
    end = end_of(
        parse_whole(_word(attributes, "Exit_status")),
        substate=_word(attributes, "substate") or "",
        comment=_word(attributes, "comment") or "",
        has_dependency=seen.depends_on is not None,
        began=seen.start_time is not None,
        asked=_group(attributes, "Resource_List"),
        used=_group(attributes, "resources_used"),
    )
    reason = end.reason
    if _word(attributes, "Stageout_status") == "0":
        lost = "its output files could not be delivered"
        reason = lost if reason is None else f"{reason}; {lost}"
    moment = parse_local_time(_word(attributes, "obittime"))
    if moment is None:
        moment = from_epoch(parse_whole(_word(attributes, "history_timestamp")))
    return replace(
        seen,
        state=end.state,
        state_reason=reason,
        failure_kind=end.kind,
        exit_code=end.exit_code,
        exit_signal=end.exit_signal,
        end_time=moment or parse_local_time(_word(attributes, "mtime")),
    )


def slots_asked(asked: Mapping[str, str]) -> int | None:
    """Return how many slots were asked for: PBS itself sums them up as ``ncpus``.

    Else they are those of ``select`` (``2:ncpus=16+1:mem=1gb``), or of ``nodes`` (``2:ppn=4``).
    """
    chunks = asked.get("select") or asked.get("nodes")
    total = parse_whole(asked.get("ncpus"))
    if total is not None or not chunks:
        return total
    return sum(map(_slots_of_chunk, chunks.split("+"))) or None


def _slots_of_chunk(chunk: str) -> int:
    count, _, rest = chunk.partition(":")
    each = _CPUS.search(rest if count.isdecimal() else chunk)
    return (parse_whole(count) or 1) * (int(each[1]) if each else 1)


def _usage(used: Mapping[str, str], sampled: datetime | None) -> Usage:
    return Usage(
        cpu_seconds=read_figure(parse_duration, used.get("cput")),
        max_memory_bytes=read_figure(parse_pbs_size, used.get("mem")),
        sampled_at=sampled,
    )


def _job_name(attributes: Attributes) -> str | None:
    """Return the job's name, undoing what PBS makes of one that looks like a number.

    ``1e5`` is printed as ``100000``, ``007`` as ``7``, ``1e999`` as ``null``; the paths of its
    outputs and the arguments of its submission have the name as it was given.
    """
    name = _word(attributes, "Job_Name")
    if name is None or _NUMBER.fullmatch(name) is None:
        return name
    for candidate in _names_elsewhere(attributes):
        if _NUMBER.fullmatch(candidate) and (name == "null" or _figure(candidate) == _figure(name)):
            return candidate
    return name


def _names_elsewhere(attributes: Attributes) -> Iterable[str]:
    given = _NAMED.search(_word(attributes, "Submit_arguments") or "")
    if given is not None:
        yield given[1]
    for which, letter in (("Output_Path", "o"), ("Error_Path", "e")):
        file = (_word(attributes, which) or "").rpartition("/")[2]
        yield re.sub(rf"\.{letter}[0-9]+(?:\.\S*)?$", "", file)


def _key(attributes: Attributes, variables: Mapping[str, str]) -> SubmissionKey | None:
    """Return the key of a job of ours.

    A job may hand its environment on to another one (``qsub -V``). So a key in a variable counts
    only where the command line of the submission has it too.
    """
    arguments = _word(attributes, "Submit_arguments")
    texts = [variables.get(KEY_VARIABLE), _word(attributes, "Account_Name")]
    # The writer of 23.06 puts a variable that follows an empty one into that one's value.
    inside = (text.partition(f"{KEY_VARIABLE}=")[2] for text in variables.values())
    texts += [text[:_KEY_CHARACTERS] for text in inside if text]
    for text in texts:
        found = SubmissionKey.find_in(text)
        if found is not None and found == text and (arguments is None or found in arguments):
            return found
    return None


def _directory(variables: Mapping[str, str]) -> str | None:
    directory = variables.get("PBS_O_WORKDIR")
    if directory is None:
        # As above.
        swallowed = _SWALLOWED_DIRECTORY.search(
            variables.get("PBS_O_INTERACTIVE_ENCRYPT_METHOD", "")
        )
        directory = None if swallowed is None else swallowed[1]
    return directory if directory is not None and _can_be_opened(directory) else None


def _path(text: str | None, *, is_ours: bool) -> str | None:
    """Return the path of ``host:/path``.

    A job of ours whose output PBS is to throw away writes it itself, elsewhere.
    """
    told = path_of(text)
    if told is None or not _can_be_opened(told):
        return None
    return None if is_ours and told == "/dev/null" else told


def _can_be_opened(path: str) -> bool:
    """Whether a path is absolute, and is what was given to PBS.

    A caret stands in the placeholder of a whole array, and for bytes that PBS does not print.
    """
    return path.startswith("/") and "^" not in path and "\ufffd" not in path


def _word(attributes: Attributes, name: str) -> str | None:
    value = attributes.get(name)
    return value if isinstance(value, str) and value else None


def _group(attributes: Attributes, name: str) -> dict[str, str]:
    value = attributes.get(name)
    return value if isinstance(value, dict) else {}


def _figure(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _whole(figure: float | None) -> int | None:
    return None if figure is None else int(figure)
