"""``qstat -j IDS -xml``: what the queue knows of some jobs beyond the listing."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree

from hpcq.domain.errors import OutputParseError, SchedulerUnavailable, excerpt
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.states import JobState, ReasonCode
from hpcq.domain.units import GIBIBYTE, from_epoch
from hpcq.schedulers.base import Listing, ParseFailure
from hpcq.schedulers.sge.names import job_number
from hpcq.schedulers.sge.outputs import PATH_VARIABLE
from hpcq.schedulers.sge.qstat_xml import (
    Remarks,
    job_elements,
    parse_job,
    parse_remarks,
    text_of,
    texts_of,
    without_environment,
)
from hpcq.schedulers.sge.states import reason_in

__all__ = ["find_key", "parse_qstat_details", "parse_requests"]

_COMMUNICATION_ERROR = re.compile(rb"<com+unication_error\b.*?<AN_text>(.*?)</AN_text>", re.DOTALL)
_REASON_CHARACTERS = 500

# JAT_status (sge_jobL.h): a task that is not idle stands on a host.
_ON_A_HOST = 128 | 256 | 512


def parse_qstat_details(
    output: bytes,
    wanted: Sequence[NativeId],
    listed: Mapping[NativeId, Observation],
    now: datetime | None = None,
) -> Listing:
    """Return one observation for each wanted job or array task that the queue still knows.

    Args:
        output: what ``qstat -j ID,ID -xml`` printed.
        wanted: the ids asked for; the usage of a whole array is the sum of its tasks'.
        listed: what the last listing said: these documents do not tell a job's state.
        now: when the command ran, for the usage; the current time by default.

    Raises:
        SchedulerUnavailable: the document says that the qmaster does not answer (exit status 0).
        OutputParseError: it is no such document.
    """
    failure = _COMMUNICATION_ERROR.search(output)
    if failure is not None:
        message = text_of(failure[1])
        raise SchedulerUnavailable(
            f"The Grid Engine qmaster does not answer: {message}", scheduler_message=message
        )
    document = without_environment(output)
    if b"<unknown_jobs" in document and b"<JB_job_number>" not in document:
        return Listing()
    if b"<djob_info" not in document and b"<JB_job_number>" not in document:
        raise OutputParseError("qstat -j", "there is no job in it", document)
    remarks = parse_remarks(document)
    moment = now or datetime.now(UTC)
    by_number: dict[str, list[NativeId]] = {}
    for native_id in wanted:
        by_number.setdefault(job_number(native_id), []).append(native_id)
    observations: list[Observation] = []
    unreadable: list[ParseFailure] = []
    for chunk in job_elements(document):
        try:
            job = parse_job(chunk)
            number = (job.findtext("JB_job_number") or "").strip()
            observations += [
                _observation(job, native_id, listed.get(native_id), remarks, moment)
                for native_id in by_number.get(number, ())
                if native_id in listed
                or "[" not in native_id
                or _tasks(job, _task_number(native_id))
            ]
        except (ElementTree.ParseError, ValueError) as error:
            unreadable.append(ParseFailure(reason=str(error), excerpt=excerpt(chunk)))
    return Listing(observations=observations, unreadable=unreadable)


def parse_requests(output: bytes) -> dict[str, str]:
    """Return the hard resource requests (``-l``) of the one job that was asked about, as given.

    Args:
        output: what ``qstat -j ID -xml`` printed.

    Raises:
        OutputParseError: the job is not in it, or cannot be read.
    """
    try:
        (job,) = map(parse_job, job_elements(without_environment(output)))
    except (ElementTree.ParseError, ValueError) as error:
        # The answer holds secrets.
        raise OutputParseError("qstat -j", str(error), b"") from error
    requests = job.iterfind("JB_hard_resource_list/*")
    return {r.findtext("CE_name") or "": r.findtext("CE_stringval") or "" for r in requests}


def find_key(output: bytes, key: SubmissionKey, owner: str | None = None) -> NativeId | None:
    """Return the number of the job that carries the key; None when it surely is none of these.

    Args:
        output: what ``qstat -j ID,ID -xml`` printed.
        key: what is looked for. It may also stand where a user wrote it, in an argument of
            another job for one.
        owner: the account whose job it is; None for any.

    Raises:
        OutputParseError: it stands in something that was not understood.
    """
    if key.encode() not in output:
        return None
    document = without_environment(output)
    understood = 0
    for chunk in job_elements(document):
        if key.encode() not in chunk:
            continue
        try:
            job = parse_job(chunk)
        except ElementTree.ParseError as error:
            raise OutputParseError("qstat -j", str(error), chunk) from error
        if _key(job) == key and owner in (None, _text(job, "JB_owner")):
            return NativeId((job.findtext("JB_job_number") or "").strip())
        understood += chunk.count(key.encode())
    if document.count(key.encode()) > understood:
        reason = "it names the job that is looked for, in a place that is not known"
        raise OutputParseError("qstat -j", reason, document)
    return None


def _task_number(native_id: NativeId) -> int | None:
    _, _, task = native_id.partition("[")
    return int(task[:-1]) if task else None


def _tasks(job: ElementTree.Element, wanted: int | None) -> list[ElementTree.Element]:
    """Return the array task with this number, or all: a job that is no array has one."""
    tasks = job.iterfind("JB_ja_tasks/*")
    return [t for t in tasks if wanted in (None, _int(t.findtext("JAT_task_number")))]


def _observation(
    job: ElementTree.Element,
    native_id: NativeId,
    listed: Observation | None,
    remarks: Remarks,
    now: datetime,
) -> Observation:
    wanted = _task_number(native_id)
    tasks = _tasks(job, wanted)
    base = _state(native_id, tasks, listed)
    stdout = _output_path(job, "JB_stdout_path_list", "o", native_id)
    joins = _text(job, "JB_merge_stderr") == "true"
    # Submitted through a wrapper: the arguments stand in the script, the queue knows none.
    was_piped = _text(job, "JB_script_file") == "STDIN"
    depends_on = tuple(
        number.text.strip()
        for number in job.iterfind("JB_jid_predecessor_list//JRE_job_number")
        if number.text and number.text.strip() != "0"
    )
    return replace(
        _explained(native_id, base, tasks, remarks, waits_for_jobs=bool(depends_on)),
        name=_text(job, "JB_job_name") or base.name,
        owner=_text(job, "JB_owner") or base.owner,
        account=_text(job, "JB_project"),
        submit_time=from_epoch(_seconds(job.findtext("JB_submission_time"))),
        start_time=_start_time(tasks) or base.start_time,
        working_directory=_text(job, "JB_cwd"),
        script_file=None if was_piped else _text(job, "JB_script_file"),
        args=None
        if was_piped
        else tuple(arg.findtext("ST_name") or "" for arg in job.iterfind("JB_job_args/*")),
        slots=base.slots or _int(job.findtext("JB_pe_range/ranges/RN_min")) or 1,
        wall_time_limit_seconds=_request(job, "h_rt"),
        memory_limit_bytes=_memory_limit(job, base.slots),
        stdout_path=stdout,
        stderr_path=stdout if joins else _output_path(job, "JB_stderr_path_list", "e", native_id),
        usage=_usage(tasks, now),
        array_job_id=None if wanted is None else job_number(native_id),
        array_task_id=wanted,
        is_array=(wanted is None and _is_array(job)) or None,
        depends_on=depends_on or None,
        submission_key=_key(job),
    )


def _state(
    native_id: NativeId, tasks: Sequence[ElementTree.Element], listed: Observation | None
) -> Observation:
    """Return the listing's word, unless the job has been started or put back since."""
    on_a_host = any((_int(t.findtext("JAT_status")) or 0) & _ON_A_HOST for t in tasks)
    if listed is not None and listed.state.is_queued != on_a_host:
        return listed
    state = JobState.RUNNING if on_a_host else JobState.QUEUED
    return Observation(native_id=native_id, state=state)


def _explained(
    native_id: NativeId,
    base: Observation,
    tasks: Sequence[ElementTree.Element],
    remarks: Remarks,
    *,
    waits_for_jobs: bool,
) -> Observation:
    """Return the job with why it waits; these documents do not tell who holds one."""
    errors = "; ".join(text for task in tasks for text in texts_of(task, ".//QIM_message"))
    if errors:
        told = " ".join(filter(None, (base.state_reason, f"Grid Engine says: {errors}")))
        return replace(
            base,
            state_reason=told[:_REASON_CHARACTERS],
            native_reason=errors[:_REASON_CHARACTERS],
        )
    of_job = remarks.of_jobs.get(job_number(native_id), ())
    said = "; ".join(dict.fromkeys(of_job or remarks.of_all))
    if not base.state.is_queued or not said:
        return base
    code = reason_in((*of_job, *remarks.of_all))
    if base.state.is_held:
        code = ReasonCode.WAITING_FOR_DEPENDENCY if waits_for_jobs else None
    return replace(
        base,
        state_reason=f"It waits: {said}."[:_REASON_CHARACTERS],
        native_reason=said[:_REASON_CHARACTERS],
        reason_code=base.reason_code or code,
    )


def _usage(tasks: Sequence[ElementTree.Element], now: datetime) -> Usage | None:
    """Return the tasks' usage, summed over them and over their slave tasks.

    ``mem`` is in GB x seconds and ``io`` in GB (2**30 bytes), ``vmem`` and ``maxvmem`` in bytes.
    """
    total: dict[str, float] = {}
    for task in tasks:
        for holder in (*task.iter("JAT_scaled_usage_list"), *task.iter("PET_scaled_usage")):
            for item in holder:
                name, value = item.findtext("UA_name"), item.findtext("UA_value")
                if name and value:
                    total[name] = total.get(name, 0.0) + float(value)
    if not total:
        return None
    return Usage(
        cpu_seconds=total.get("cpu"),
        memory_byte_seconds=_scaled(total.get("mem"), GIBIBYTE),
        memory_bytes=total.get("vmem"),
        max_memory_bytes=total.get("maxvmem"),
        io_bytes=_scaled(total.get("io"), GIBIBYTE),
        io_wait_seconds=total.get("iow"),
        sampled_at=now,
    )


def _is_array(job: ElementTree.Element) -> bool:
    # JB_type 128: array (sge_jobL.h); older releases print JB_is_array.
    return bool((_int(job.findtext("JB_type")) or 0) & 128) or (
        (job.findtext("JB_is_array") or "").strip() in ("true", "1")
    )


def _start_time(tasks: Sequence[ElementTree.Element]) -> datetime | None:
    starts = (from_epoch(_seconds(task.findtext("JAT_start_time"))) for task in tasks)
    return min((start for start in starts if start is not None), default=None)


def _request(job: ElementTree.Element, name: str) -> int | None:
    for request in job.iterfind("JB_hard_resource_list/*"):
        if request.findtext("CE_name") == name:
            value = float(request.findtext("CE_doubleval") or "inf")
            # INFINITY is printed as the largest double or as a 32-bit maximum.
            return int(value) if 0 < value < 2**60 and value != 2**32 - 1 else None
    return None


def _memory_limit(job: ElementTree.Element, slots: int | None) -> int | None:
    """Return the whole job's limit: ``h_vmem`` is per slot."""
    per_slot = _request(job, "h_vmem")
    count = slots or _int(job.findtext("JB_pe_range/ranges/RN_min")) or 1
    return None if per_slot is None else per_slot * count


def _output_path(
    job: ElementTree.Element, holder: str, letter: str, native_id: NativeId
) -> str | None:
    """Return the path of a stream, if it is known before the job has run."""
    directory, name = _text(job, "JB_cwd"), _text(job, "JB_job_name")
    task = _task_number(native_id)
    if directory is None or name is None or (_is_array(job) and task is None):
        return None
    path = job.findtext(f"{holder}/*/PN_path")
    if path is None or path.endswith("/"):
        number = job_number(native_id)
        path = (path or "") + f"{name}.{letter}{number}" + (f".{task}" if task else "")
    known = {"$": "$", "JOB_ID": job_number(native_id), "JOB_NAME": name, "TASK_ID": str(task or 0)}
    if any(found[1] not in known for found in PATH_VARIABLE.finditer(path)):
        return None
    path = PATH_VARIABLE.sub(lambda found: known[found[1]], path)
    return os.path.join(directory, path.removeprefix("./"))


def _key(job: ElementTree.Element) -> SubmissionKey | None:
    context = " ".join(texts_of(job, "JB_context//VA_value"))
    return SubmissionKey.find_in(context) or SubmissionKey.find_in(_text(job, "JB_account"))


def _text(element: ElementTree.Element, path: str) -> str | None:
    return element.findtext(path) or None


def _int(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


def _seconds(text: str | None) -> float | None:
    """Return epoch seconds; newer releases print milliseconds or microseconds."""
    value = _int(text)
    if value is None:
        return None
    while value > 10**11:
        value //= 1000
    return float(value)


def _scaled(value: float | None, factor: int) -> float | None:
    return None if value is None else value * factor
