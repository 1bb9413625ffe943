"""``qstat -u '*' -xml``: the whole queue, both of its lists.

A document is cut into its ``job_list`` elements and each is read by itself, without an XML
parser: control characters, broken UTF-8 or a stray ``&`` of one job spoil that job at most.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from hpcq.domain.arrays import is_whole_array, summarize_array, tasks_by_array
from hpcq.domain.errors import OutputParseError, excerpt
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import Stage
from hpcq.schedulers.base import Listing, ParseFailure
from hpcq.schedulers.command_line import ParseCache
from hpcq.schedulers.sge.qstat_xml import mend_less_than, parse_xml_time, text_of
from hpcq.schedulers.sge.states import state_of

__all__ = ["parse_element", "parse_qstat_xml", "with_arrays"]

_VOLATILE = re.compile(rb"<JAT_prio>[^<]*</JAT_prio>\s*")
_LEAF = re.compile(rb"<([A-Za-z_]+)[^<>]*>([^<]*)</\1>")
_NUMBER = re.compile(rb"<JB_job_number>\s*([0-9]+)\s*</JB_job_number>")
_OPEN, _CLOSE, _END = b"<job_list", b"</job_list>", b"</job_info>"

_TASKS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")
_TASKS_TOLD_APART = 1000
"""As many tasks of an array that wait together are jobs of their own; others are a range."""

_Parsed = tuple[Observation, ...] | ParseFailure


def parse_qstat_xml(output: bytes, cache: ParseCache[_Parsed] | None = None) -> Listing:
    """Return one observation for each job, each array (``9``) and each task of it (``9[2]``).

    Pending tasks of an array come as a range. In one of more than a thousand they are not told
    apart; the array itself is there as long as any of its tasks is.

    Args:
        output: what ``qstat -u '*' -xml`` printed with ``TZ=UTC``.
        cache: of `parse_element`, from the listing before. Priorities, which the scheduler changes
            at every run, are left out of its comparison.

    Raises:
        OutputParseError: it is no listing, or it breaks off: jobs missing from half a listing
            would look as if they had ended.
    """
    start = output.find(b"<job_info")
    if start < 0:
        raise OutputParseError("qstat", "there is no job_info element in it", output)
    document = mend_less_than(_VOLATILE.sub(b"", output[start:].rstrip()))
    if not document.endswith(_END):
        raise OutputParseError("qstat", "the document is cut off", document[-400:])
    parsed = (cache or ParseCache(parse_element)).read(document.split(_OPEN)[1:])
    observations = [seen for jobs in parsed if isinstance(jobs, tuple) for seen in jobs]
    return Listing(
        observations=with_arrays(observations),
        unreadable=[bad for bad in parsed if isinstance(bad, ParseFailure)],
    )


def parse_element(element: bytes) -> _Parsed:
    """Return the jobs and array tasks of one ``job_list`` element."""
    number = _NUMBER.search(element)
    native_id = NativeId(number[1].decode()) if number and len(number[1]) <= 18 else None
    if _CLOSE not in element:
        return _unreadable("its element is not closed", element, native_id)
    if native_id is None:
        return _unreadable("it has no job number", element, None)
    fields = {name.decode(): text_of(value) for name, value in _LEAF.findall(element)}
    if not fields.get("state"):
        return _unreadable("it has no state", element, native_id)
    try:
        return _observations(native_id, fields)
    except ValueError as error:
        return _unreadable(str(error), element, native_id)


def _unreadable(reason: str, element: bytes, native_id: NativeId | None) -> ParseFailure:
    return ParseFailure(reason=reason, excerpt=excerpt(element), native_id=native_id)


def _observations(number: NativeId, fields: dict[str, str]) -> tuple[Observation, ...]:
    word = state_of(fields["state"])
    tasks = fields.get("tasks") or None
    queue, _, host = fields.get("queue_name", "").partition("@")
    seen = Observation(
        native_id=number,
        state=word.state,
        native_state=fields["state"],
        stage=word.stage,
        state_reason=word.reason,
        reason_code=word.code,
        name=fields.get("full_job_name") or fields.get("JB_name") or None,
        owner=fields.get("JB_owner") or None,
        queue=queue or None,
        hosts=(host,) if host else None,
        submit_time=parse_xml_time(fields.get("JB_submission_time")),
        # While it is on its way to the host this is the time of dispatch; it may never start.
        start_time=None
        if word.stage is Stage.DISPATCHING
        else parse_xml_time(fields.get("JAT_start_time")),
        slots=int(fields["slots"]) if fields.get("slots") else None,
    )
    if tasks is None:
        return (seen,)
    told_apart = _told_apart(tasks)
    if told_apart is None:
        return (replace(seen, is_array=True, waiting_tasks=_count(tasks)),)
    return tuple(
        replace(
            seen,
            native_id=NativeId(f"{number}[{task}]"),
            array_job_id=number,
            array_task_id=task,
        )
        for task in told_apart
    )


def _told_apart(tasks: str) -> list[int] | None:
    """Return the numbers in ``3-6:1,9``; None when they are too many, or cut off (``1,2,...``)."""
    ranges = _ranges(tasks)
    if ranges is None or sum(map(len, ranges)) > _TASKS_TOLD_APART:
        return None
    return [number for some in ranges for number in some]


def _count(tasks: str) -> int | None:
    """Return how many tasks a text names; None when it is cut off."""
    ranges = _ranges(tasks)
    return None if ranges is None else sum(map(len, ranges))


def _ranges(tasks: str) -> list[range] | None:
    matches = [_TASKS.fullmatch(part) for part in tasks.split(",")]
    found = [match for match in matches if match is not None]
    if len(found) < len(matches):
        return None
    return [range(int(m[1]), int(m[2] or m[1]) + 1, int(m[3] or 1) or 1) for m in found]


def with_arrays(observations: Sequence[Observation]) -> list[Observation]:
    """Put one observation for each array beside its tasks, in place of a range of them."""
    result = [seen for seen in observations if not is_whole_array(seen)]
    arrays = tasks_by_array(result)
    for seen in observations:
        if is_whole_array(seen):
            arrays.setdefault(seen.native_id, []).append(seen)
    for number, parts in arrays.items():
        is_alone = len(parts) == 1 and is_whole_array(parts[0])
        result.append(parts[0] if is_alone else summarize_array(number, parts))
    return result
