"""One job of ``qstat -f`` as an observation: pure functions over its attributes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.units import from_epoch
from hpcq.schedulers.pbs.states import hold_of, is_over, outcome_of, state_of
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

__all__ = ["KEY_VARIABLE", "PLACEHOLDER", "Record", "group_of", "record_of", "slots_asked"]

KEY_VARIABLE = "HPCQ_KEY"
"""The variable of a job that holds its key."""

# A comma in a value has a backslash before it (recording qstat-f.long-workdir.LANG-C).
_COMMA = re.compile(r"(?<!\\),")
_CPUS = re.compile(r"(?:^|:)(?:ncpus=|ppn=)([0-9]{1,9})(?![0-9])")
PLACEHOLDER = "^array_index^"
"""PBS puts the number of the task for it in the paths of outputs."""


@dataclass(frozen=True, slots=True)
class Record:
    """One job of an answer.

    Attributes:
        observation: without its usage and the estimate, which change all the time.
        usage: what it has used so far, if it runs or ran.
        start_estimate: when PBS expects to start it (``estimated.start_time``, if the site has it
            computed; pbs_job_attributes(7B)).
        is_over: whether it has ended.
        is_array: whether it is a whole array; its id is then written without the brackets, for a
            `NativeId` never means more than one job.
        select: the chunks that it asks for: ``1:ncpus=4:mem=1gb``.
    """

    observation: Observation
    usage: Usage | None
    is_over: bool
    is_array: bool
    start_estimate: datetime | None = None
    select: str | None = None

    @property
    def complete(self) -> Observation:
        """The observation with its usage and the estimate."""
        return replace(self.observation, usage=self.usage, start_estimate=self.start_estimate)


def record_of(
    name: str, attributes: Mapping[str, str], owner: str | None, sampled: datetime | None
) -> Record:
    """Return one job.

    Args:
        name: its id as PBS writes it: ``36.host``, ``32[].host``, ``32[1].host``.
        attributes: what ``qstat -f`` tells of it, by names as printed (``Resource_List.ncpus``).
        owner: the account whose jobs may carry a key; None for any.
        sampled: when the answer was made.

    Raises:
        ValueError: it has no id, state or times that can be read.
    """
    job = parse_job_id(name)
    told = {name: value for name, value in attributes.items() if value}
    letter = told.get("job_state")
    if letter is None:
        raise ValueError("it has no state")
    over = is_over(letter)
    observation = _base(job.short, letter, told, owner)
    observation = _ended(observation, told) if over else _going_on(observation, letter, told)
    if job.is_array:
        observation = replace(observation, is_array=True)
    elif job.task:
        observation = replace(
            observation, array_job_id=job.array_job_id, array_task_id=job.array_task_id
        )
    has_run = group_of(told, "resources_used") or (over and "Exit_status" in told)
    usage = usage_of(told, sampled) if has_run else None
    waits = observation.state.is_queued
    estimate = parse_local_time(told.get("estimated.start_time")) if waits else None
    select = told.get("Resource_List.select")
    return Record(observation, usage, over, job.is_array, estimate, select)


def group_of(told: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the members of a group: ``{"ncpus": "4"}`` of ``Resource_List.ncpus``."""
    prefix = f"{name}."
    return {n.removeprefix(prefix): told[n] for n in told if n.startswith(prefix)}


def _base(
    native_id: NativeId, letter: str, told: Mapping[str, str], owner: str | None
) -> Observation:
    asked = group_of(told, "Resource_List")
    pairs = (pair.partition("=") for pair in _COMMA.split(told.get("Variable_List", "")))
    variables = {name.strip(): value.replace("\\,", ",") for name, _, value in pairs}
    user = (told.get("Job_Owner") or "").partition("@")[0] or None
    key = _key(told, variables) if owner is None or user == owner else None
    account = told.get("Account_Name")
    return Observation(
        native_id=native_id,
        state=state_of(letter).state,
        native_state=letter,
        native_reason=told.get("comment"),
        name=told.get("Job_Name"),
        owner=user,
        queue=told.get("queue"),
        account=None if SubmissionKey.find_in(account) == account else account,
        submit_time=parse_local_time(told.get("ctime")),
        start_time=parse_local_time(told.get("stime")),
        working_directory=_path(variables.get("PBS_O_WORKDIR")),
        slots=slots_asked(asked) or slots_in(told.get("exec_host")),
        hosts=hosts_in(told.get("exec_host")),
        wall_time_limit_seconds=_whole(read_figure(parse_duration, asked.get("walltime"))),
        memory_limit_bytes=read_figure(parse_pbs_size, asked.get("mem")),
        stdout_path=_path(told.get("Output_Path"), is_ours=key is not None),
        stderr_path=_path(told.get("Error_Path"), is_ours=key is not None),
        depends_on=predecessors(told.get("depend")),
        submission_key=key,
    )


def _going_on(seen: Observation, letter: str, told: Mapping[str, str]) -> Observation:
    has_run = (parse_whole(told.get("run_count")) or 0) > 0
    word = state_of(letter, has_run=has_run)
    hold = None
    if letter == "H":
        kinds = told.get("Hold_Types") or ""
        hold = hold_of(kinds, has_dependency=bool(told.get("depend")))
    waits = word.state.is_queued
    comment = told.get("comment") if waits else None
    return replace(
        seen,
        state=word.state,
        stage=word.stage,
        state_reason=comment or (hold and hold.reason) or word.reason,
        reason_code=(hold and hold.code) or word.code or reason_in(comment),
        start_time=None if waits else seen.start_time,
    )


def _ended(seen: Observation, told: Mapping[str, str]) -> Observation:
    outcome = outcome_of(
        parse_whole(told.get("Exit_status")),
        substate=told.get("substate") or "",
        comment=told.get("comment") or "",
        has_dependency=seen.depends_on is not None,
        began=seen.start_time is not None,
        asked=group_of(told, "Resource_List"),
        used=group_of(told, "resources_used"),
    )
    reason = outcome.reason
    if told.get("Stageout_status") == "0":
        reason = " ".join(filter(None, (reason, "Its output files could not be delivered.")))
    moment = parse_local_time(told.get("obittime"))
    if moment is None:
        moment = from_epoch(parse_whole(told.get("history_timestamp")))
    end_time = moment or parse_local_time(told.get("mtime"))
    return replace(outcome.apply(seen), state_reason=reason, end_time=end_time)


def slots_asked(asked: Mapping[str, str]) -> int | None:
    """Return how many slots were asked for: PBS itself sums them up as ``ncpus``.

    Else they are those of ``select`` (``2:ncpus=16+1:mem=1gb``), or of ``nodes`` (``2:ppn=4``).

    >>> slots_asked({"select": "2:ncpus=16+1:mem=1gb"})
    33
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


def _key(told: Mapping[str, str], variables: Mapping[str, str]) -> SubmissionKey | None:
    """Return the key of a job of ours.

    A job may hand its environment on to another one (``qsub -V``). So a key in a variable counts
    only where the command line of the submission has it too.
    """
    arguments = told.get("Submit_arguments")
    for text in (variables.get(KEY_VARIABLE), told.get("Account_Name")):
        found = SubmissionKey.find_in(text)
        if found is not None and found == text and (arguments is None or found in arguments):
            return found
    return None


def _path(text: str | None, *, is_ours: bool = False) -> str | None:
    """Return the path of ``host:/path``, if it is one that can be opened.

    A caret stands in the placeholder of a whole array, and for bytes that PBS does not print. A
    job of ours whose output PBS is to throw away writes it itself, elsewhere.
    """
    path = path_of(text)
    if path is None or not path.startswith("/") or "^" in path or "\ufffd" in path:
        return None
    return None if is_ours and path == "/dev/null" else path


def _whole(figure: float | None) -> int | None:
    return None if figure is None else int(figure)
