"""``qstat -x`` and ``qstat -f``: every job that can be read, and each that cannot for itself.

The service reads ``qstat -x``. Torque writes ``<``, ``>``, ``&`` and quotes in every value as
references, so no value can close an element, and jobs are cut apart as bytes before anything is
decoded: a byte that is not UTF-8, or a control character, which would make the whole document
unreadable to an XML parser, is replaced in its own value. Times are epoch seconds. In the text of
``qstat -f`` a user's variables can hold whole records, see `hpcq.schedulers.pbs_family.text`.
"""

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from hpcq.domain.errors import OutputParseError, excerpt
from hpcq.domain.jobs import NativeId, Observation
from hpcq.schedulers.base import Listing, Unreadable
from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.pbs_family.values import parse_job_id
from hpcq.schedulers.torque.attributes import observe, short_id

__all__ = ["parse_qstat_text", "parse_qstat_xml", "xml_attributes"]

_OPEN, _CLOSE, _END = b"<Job>", b"</Job>", b"</Data>"
_TOKEN = re.compile(rb"<(/?)([A-Za-z_][A-Za-z0-9_.-]*)[ ]*(/?)>([^<]*)")
_ID = re.compile(rb"<Job_Id>([^<]*)</Job_Id>")


def parse_qstat_xml(
    output: bytes, account: str | None = None, now: datetime | None = None
) -> Listing:
    """Return one observation for each job of ``qstat -x``.

    Several documents may follow each other, one for each id that was asked for. No document at
    all is an empty queue in releases before 4 (torque issue 357).

    Args:
        output: what the command printed.
        account: see `observe`.
        now: when it ran; the current time by default.

    Raises:
        OutputParseError: it is no listing, or it breaks off: jobs missing from half a listing
            would look as if they had ended.
    """
    if not output.strip():
        return Listing()
    start = output.find(b"<Data>")
    if start < 0:
        raise OutputParseError("qstat", "there is no Data element in it", output)
    if not output.rstrip().endswith(_END):
        raise OutputParseError("qstat", "the document is cut off", output[-400:])
    elements = output[start:].split(_OPEN)[1:]
    return _listing(
        ((_id_in(element), partial(_job, element), element) for element in elements),
        account,
        now,
    )


def parse_qstat_text(
    output: bytes, account: str | None = None, now: datetime | None = None
) -> Listing:
    """Return one observation for each job of ``qstat -f``, printed with ``TZ=UTC``.

    Raises:
        OutputParseError: it is no listing, or its last job is cut off.
    """
    records = parse_text_records(output)
    if output.strip() and not records:
        raise OutputParseError("qstat", "there is no job in it", output)
    if records and not records[-1].is_whole:
        raise OutputParseError("qstat", "its last job is cut off", output[-400:])
    return _listing(
        (
            (
                record.name,
                partial(dict, record.attributes, Job_Id=record.name),
                record.name.encode(),
            )
            for record in records
        ),
        account,
        now,
    )


def xml_attributes(element: bytes) -> dict[str, str]:
    """Return the values in an element's content, by the names of the elements around them.

    ``<Resource_List><mem>1gb</mem></Resource_List>`` is ``Resource_List.mem``.

    Raises:
        ValueError: elements do not close as they opened, or one comes twice.
    """
    attributes: dict[str, str] = {}
    path: list[str] = []
    is_leaf = False
    text = b""
    for closing, raw_name, alone, following in _TOKEN.findall(element):
        name = raw_name.decode("ascii")
        if not closing:
            path.append(name)
            is_leaf, text = True, b"" if alone else following
        if closing or alone:
            if not path or path[-1] != name:
                raise ValueError(f"the element {name!r} is closed, but was not open")
            where = ".".join(path)
            if is_leaf:
                if where in attributes:
                    raise ValueError(f"{where!r} is there twice")
                attributes[where] = html.unescape(text.decode("utf-8", "replace"))
            path.pop()
            is_leaf = False
    if path:
        raise ValueError(f"the element {path[-1]!r} is not closed")
    return attributes


def _job(element: bytes) -> Mapping[str, str]:
    content, is_closed, _ = element.partition(_CLOSE)
    if not is_closed:
        raise ValueError("its element is not closed")
    return xml_attributes(content)


def _id_in(element: bytes) -> str:
    match = _ID.search(element)
    return match[1].decode("utf-8", "replace") if match else ""


_Source = tuple[str, Callable[[], Mapping[str, str]], bytes]


def _listing(sources: Iterable[_Source], account: str | None, now: datetime | None) -> Listing:
    at = now or datetime.now(UTC)
    listed = list(sources)
    counts = Counter(name for name, _, _ in listed)
    observations: list[Observation] = []
    unreadable: list[Unreadable] = []
    for name, attributes, raw in listed:
        try:
            if name and counts[name] > 1:
                raise ValueError("two records have this id, and only one can be true")
            observations.append(observe(attributes(), account, at))
        except ValueError as error:
            unreadable.append(
                Unreadable(reason=str(error), excerpt=excerpt(raw), native_id=_native_id(name))
            )
    return Listing(observations=_with_arrays(observations), unreadable=unreadable)


def _native_id(name: str) -> NativeId | None:
    try:
        return short_id(parse_job_id(name), None)
    except ValueError:
        return None


def _with_arrays(observations: Sequence[Observation]) -> list[Observation]:
    """Add one observation for each array that is told by its jobs alone (``qstat -t``)."""
    told = {seen.native_id for seen in observations}
    arrays: dict[str, list[Observation]] = {}
    for seen in observations:
        if seen.array_job_id is not None and seen.array_job_id not in told:
            arrays.setdefault(seen.array_job_id, []).append(seen)
    return [*observations, *(_array(number, parts) for number, parts in arrays.items())]


def _array(number: str, parts: Sequence[Observation]) -> Observation:
    """Return an array: it is where the first of its jobs is that has not ended well.

    One that still has jobs to come has not ended.
    """
    ahead = [part for part in parts if not part.state.is_final]
    failed = [part for part in parts if part.failure_kind is not None]
    first = (ahead or failed or list(parts))[0]
    starts = [part.start_time for part in parts if part.start_time is not None]
    ends = [part.end_time for part in parts if part.end_time is not None]
    return Observation(
        native_id=NativeId(number),
        state=first.state,
        native_state=first.native_state,
        stage=first.stage,
        state_reason=first.state_reason,
        failure_kind=first.failure_kind,
        exit_code=first.exit_code,
        exit_signal=first.exit_signal,
        name=(first.name or "").rpartition("-")[0] or first.name,
        owner=first.owner,
        queue=first.queue,
        account=first.account,
        submit_time=first.submit_time,
        start_time=min(starts, default=None),
        end_time=None if ahead else max(ends, default=None),
        working_directory=first.working_directory,
        slots=first.slots,
        usage=None if ahead else first.usage,
        array_job_id=number,
        submission_key=first.submission_key,
    )
