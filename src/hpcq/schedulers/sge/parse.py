"""``qstat -u '*' -xml``: the whole queue, both of its lists.

A document is cut into its ``job_list`` elements and each is read by itself, without an XML
parser: control characters, broken UTF-8 or a stray ``&`` of one job spoil that job at most.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import unescape

from hpcq.domain.errors import OutputParseError, excerpt
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import JobState, Stage
from hpcq.schedulers.base import Listing, Unreadable
from hpcq.schedulers.sge.states import state_of

__all__ = ["QueueMemo", "mend_less_than", "parse_qstat_xml", "parse_xml_time", "text_of"]

_VOLATILE = re.compile(rb"<JAT_prio>[^<]*</JAT_prio>\s*")
_LEAF = re.compile(rb"<([A-Za-z_]+)[^<>]*>([^<]*)</\1>")
_NUMBER = re.compile(rb"<JB_job_number>\s*([0-9]+)\s*</JB_job_number>")
_OPEN, _CLOSE, _END = b"<job_list", b"</job_list>", b"</job_info>"

_Read = Observation | Unreadable


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
    """Return one observation for each job, and for each array task that is not pending.

    Pending tasks of an array come as a range; they are covered by the observation of the array
    itself (``9``), which is there as long as any of its tasks is. Tasks are ``9[2]``.

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
    observations = [read for read in reads if isinstance(read, Observation)]
    return Listing(
        observations=_with_arrays(observations),
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
        return _observation(native_id, fields)
    except ValueError as error:
        return _unreadable(str(error), element, native_id)


def _unreadable(reason: str, element: bytes, native_id: NativeId | None) -> Unreadable:
    return Unreadable(reason=reason, excerpt=excerpt(element), native_id=native_id)


def _observation(number: NativeId, fields: dict[str, str]) -> Observation:
    word = state_of(fields["state"])
    tasks = fields.get("tasks") or None
    task = int(tasks) if tasks is not None and tasks.isdecimal() else None
    queue, _, host = fields.get("queue_name", "").partition("@")
    return Observation(
        native_id=number if task is None else NativeId(f"{number}[{task}]"),
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
        array_task_id=task,
    )


def _with_arrays(observations: Sequence[Observation]) -> list[Observation]:
    """Put one observation for each array in place of its pending ranges."""
    result = []
    arrays: dict[str, list[Observation]] = {}
    for seen in observations:
        if seen.array_job_id is None:
            result.append(seen)
        else:
            arrays.setdefault(seen.array_job_id, []).append(seen)
            if seen.array_task_id is not None:
                result.append(seen)
    result += [_array(number, parts) for number, parts in arrays.items()]
    return result


# An array is where the furthest of its tasks is.
_FURTHEST = (
    JobState.RUNNING,
    JobState.SUSPENDED,
    JobState.REQUEUED,
    JobState.QUEUED,
    JobState.REQUEUED_HELD,
    JobState.QUEUED_HELD,
    JobState.UNDETERMINED,
)


def _array(number: str, parts: Sequence[Observation]) -> Observation:
    first = min(parts, key=lambda part: (_FURTHEST.index(part.state), part.stage is not None))
    starts = [part.start_time for part in parts if part.start_time is not None]
    submits = [part.submit_time for part in parts if part.submit_time is not None]
    return Observation(
        native_id=NativeId(number),
        state=first.state,
        native_state=first.native_state,
        stage=first.stage,
        state_reason=first.state_reason,
        name=first.name,
        owner=first.owner,
        queue=first.queue,
        submit_time=min(submits, default=None),
        start_time=min(starts, default=None),
        slots=first.slots,
        array_job_id=number,
    )
