"""``qstat -u '*' -xml``: the whole queue, both of its lists.

A document is cut into its ``job_list`` elements and each is read by itself, without an XML
parser: control characters, broken UTF-8 or a stray ``&`` of one job spoil that job at most.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape

from hpcq.domain.arrays import is_whole, whole
from hpcq.domain.errors import OutputParseError, excerpt
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import Stage
from hpcq.schedulers.base import Listing, Unreadable
from hpcq.schedulers.sge.states import state_of

__all__ = [
    "QueueMemo",
    "mend_less_than",
    "parse_qstat_xml",
    "parse_xml_time",
    "text_of",
    "with_arrays",
]

_VOLATILE = re.compile(rb"<JAT_prio>[^<]*</JAT_prio>\s*")
_LEAF = re.compile(rb"<([A-Za-z_]+)[^<>]*>([^<]*)</\1>")
_NUMBER = re.compile(rb"<JB_job_number>\s*([0-9]+)\s*</JB_job_number>")
_OPEN, _CLOSE, _END = b"<job_list", b"</job_list>", b"</job_info>"

_TASKS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")
_TASKS_TOLD_APART = 1000
"""As many tasks of an array that wait together are jobs of their own; others are a range."""

_Read = tuple[Observation, ...] | Unreadable


class QueueMemo:
    """What each ``job_list`` element of the last listing was read as.

    With many thousands of jobs nearly every element is the same from one poll to the next; those
    are looked up instead of read, and give the very same objects. Priorities, which the
    scheduler changes at every run, are left out of the comparison.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, _Read] = {}

    def read(self, elements: Iterable[bytes]) -> list[_Read]:
        """Return what each element says; forget those that are not among them."""
        known = self._known
        current: dict[bytes, _Read] = {}
        result = []
        for element in elements:
            read = known.get(element)
            if read is None:
                read = _read_element(element)
            current[element] = read
            result.append(read)
        self._known = current
        return result


def parse_qstat_xml(output: bytes, memo: QueueMemo | None = None) -> Listing:
    """Return one observation for each job, each array (``9``) and each task of it (``9[2]``).

    Pending tasks of an array come as a range. In one of more than a thousand they are not told
    apart; the array itself is there as long as any of its tasks is.

    Args:
        output: what ``qstat -u '*' -xml`` printed with ``TZ=UTC``.
        memo: remembered from the listing before; it is brought up to date.

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
    reads = (memo or QueueMemo()).read(document.split(_OPEN)[1:])
    observations = [seen for read in reads if isinstance(read, tuple) for seen in read]
    return Listing(
        observations=with_arrays(observations),
        unreadable=[read for read in reads if isinstance(read, Unreadable)],
    )


def parse_xml_time(text: str | None) -> datetime | None:
    """Return a time of ``qstat -xml`` (``2024-01-10T10:00:00``, UTC by ``TZ``), or None."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if moment.year > 1970 else None


def mend_less_than(document: bytes) -> bytes:
    """Put ``&lt;`` where 8.1.9 writes ``%lt;`` for a less-than sign (recording qstat_xml_mixed).

    The same four characters in a name of a job cannot be told apart, and are rarer.
    """
    return document.replace(b"%lt;", b"&lt;")


def text_of(raw: bytes) -> str:
    """Return an element's content: references resolved, undecodable bytes replaced."""
    return unescape(raw.decode("utf-8", "replace")).strip()


def _read_element(element: bytes) -> _Read:
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


def _unreadable(reason: str, element: bytes, native_id: NativeId | None) -> Unreadable:
    return Unreadable(reason=reason, excerpt=excerpt(element), native_id=native_id)


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
        array_job_id=None if tasks is None else number,
    )
    if tasks is None:
        return (seen,)
    told_apart = _told_apart(tasks)
    if told_apart is None:
        return (seen,)
    return tuple(
        replace(seen, native_id=NativeId(f"{number}[{task}]"), array_task_id=task)
        for task in told_apart
    )


def _told_apart(tasks: str) -> list[int] | None:
    """Return the numbers in ``3-6:1,9``; None when they are too many, or cut off (``1,2,...``)."""
    numbers: list[int] = []
    for part in tasks.split(","):
        match = _TASKS.fullmatch(part)
        if match is None:
            return None
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1) or 1
        some = range(first, last + 1, step)
        if len(numbers) + len(some) > _TASKS_TOLD_APART:
            return None
        numbers += some
    return numbers


def with_arrays(observations: Sequence[Observation]) -> list[Observation]:
    """Put one observation for each array beside its tasks, in place of a range of them."""
    result = []
    arrays: dict[str, list[Observation]] = {}
    for seen in observations:
        if seen.array_job_id is None:
            result.append(seen)
        else:
            arrays.setdefault(seen.array_job_id, []).append(seen)
            if seen.array_task_id is not None:
                result.append(seen)
    for number, parts in arrays.items():
        alone = parts[0] if len(parts) == 1 and is_whole(parts[0]) else None
        result.append(alone or replace(whole(NativeId(number), parts), array_job_id=number))
    return result
