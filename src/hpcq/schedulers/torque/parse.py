"""The jobs in what ``qstat -x`` prints: each that can be read, and each that cannot for itself.

Torque writes ``<``, ``>``, ``&`` and quotes in every value as
references, so no value can close an element, and jobs are cut apart as bytes before anything is
decoded: a byte that is not UTF-8, or a control character, which would make the whole document
unreadable to an XML parser, is replaced in its own value. Times are epoch seconds.
"""

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from hpcq.domain.arrays import summarize_array, tasks_by_array
from hpcq.domain.errors import OutputParseError, excerpt
from hpcq.domain.jobs import NativeId, Observation
from hpcq.schedulers.base import Listing, ParseFailure
from hpcq.schedulers.pbs_family.values import printable, read_job_id
from hpcq.schedulers.torque.qstat_job import observe

__all__ = [
    "Reader",
    "array_of",
    "parse_qstat_xml",
    "wholes",
    "xml_attributes",
]

_OPEN, _CLOSE, _END = b"<Job>", b"</Job>", b"</Data>"
_EMPTY = re.compile(rb"<Data[ \t]*/>\s*\Z")
# A leaf with its value; else an element that opens, or is empty; else one that closes.
_TOKEN = re.compile(
    rb"<([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(?:>([^<]*)(</\1[ \t]*>)?|(/)>)"
    rb"|</([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*>"
)
_UNKNOWN_MARKUP = re.compile(rb"<(?!/?Data[ \t/>]|\?xml)[A-Za-z/?!]")
_ID = re.compile(rb"<Job_Id>([^<]*)</Job_Id>")


def parse_qstat_xml(
    output: bytes, account: str | None = None, now: datetime | None = None
) -> Listing:
    """Return one observation for each job of ``qstat -x``; see `Reader.read`."""
    return Reader(account).read(output, now)


class Reader:
    """Reads ``qstat -x``; a job whose record did not change is not read again.

    Args:
        account: see `observe`.
        program: what printed it, as messages name it.

    Attributes:
        not_understood: the records that could not be read, of the listing that comes again and
            again.
    """

    def __init__(self, account: str | None = None, program: str = "qstat") -> None:
        self._account = account
        self._program = program
        self._known: dict[bytes, Observation] = {}
        self.not_understood: Sequence[bytes] = ()

    def read(
        self, output: bytes, now: datetime | None = None, *, remember: bool = False
    ) -> Listing:
        """Return one observation for each job.

        Several documents may follow each other, one for each id that was asked for. No document
        at all is an empty queue in releases before 4 (torque issue 357).

        Args:
            output: what the command printed.
            now: when it ran; the current time by default.
            remember: whether it is the listing that comes again and again.

        Raises:
            OutputParseError: it is no listing, or it breaks off: jobs missing from half a listing
                would look as if they had ended.
        """
        at = now or datetime.now(UTC)
        known: dict[bytes, Observation] = {}

        def read(element: bytes) -> Observation:
            seen = self._known.get(element)
            if seen is None:
                seen = observe(_job(element), self._account, at)
            elif seen.usage is not None and not seen.state.is_final:
                seen = replace(seen, usage=replace(seen.usage, sampled_at=at))
            known[element] = seen
            return seen

        elements = _elements(output, self._program)
        listing = _listing((_id_in(one), partial(read, one), one) for one in elements)
        if remember:
            self._known = known
            self.not_understood = [one for one in elements if one not in known]
        return listing


def _elements(output: bytes, program: str) -> list[bytes]:
    """Return what follows each ``<Job>``, up to the next one."""
    output = output.replace(b"\0", "\ufffd".encode())
    if not output.strip() or _EMPTY.search(output):
        return []
    start = output.find(b"<Data>")
    before, *elements = output[max(start, 0) :].split(_OPEN)
    if start < 0 and not elements:
        raise OutputParseError(program, "there is no Data element in it", output)
    # What stands between the jobs may be jobs, in a form that is not known.
    between = (element.partition(_CLOSE) for element in elements)
    if any(map(_UNKNOWN_MARKUP.search, (before, *(rest for _, closed, rest in between if closed)))):
        raise OutputParseError(program, "it holds elements that are not known", output)
    end = _END if start >= 0 else _CLOSE
    if end not in (elements[-1] if elements else output):
        raise OutputParseError(program, "the document is cut off", output[-400:])
    return elements


def xml_attributes(element: bytes) -> dict[str, str]:
    """Return the values in an element's content, by the names of the elements around them.

    ``<Resource_List><mem>1gb</mem></Resource_List>`` is ``Resource_List.mem``.

    Raises:
        ValueError: elements do not close as they opened, or one comes twice.
    """
    attributes: dict[str, str] = {}
    path: list[str] = []
    for opened, value, is_leaf, is_alone, closed in _TOKEN.findall(element):
        name = (opened or closed).decode("ascii")
        if is_leaf or is_alone:
            where = ".".join((*path, name))
            if where in attributes:
                raise ValueError(f"{where!r} is there twice")
            text = value.decode("utf-8", "replace")
            attributes[where] = printable(html.unescape(text)) if "&" in text else text
        elif opened:
            path.append(name)
        elif not path or path.pop() != name:
            raise ValueError(f"the element {name!r} is closed, but was not open")
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


_Source = tuple[str, Callable[[], Observation], bytes]


def _listing(sources: Iterable[_Source]) -> Listing:
    listed = list(sources)
    ids = _native_ids([name for name, _, _ in listed])
    counts = Counter(ids)
    observations: list[Observation] = []
    unreadable: list[ParseFailure] = []
    for native_id, (_, read, raw) in zip(ids, listed, strict=True):
        try:
            if native_id is not None and counts[native_id] > 1:
                raise ValueError("two records have this id, and only one can be true")
            seen = read()
            if native_id is not None and native_id != seen.native_id:
                seen = replace(seen, native_id=native_id)
            observations.append(seen)
        except ValueError as error:
            unreadable.append(
                ParseFailure(reason=str(error), excerpt=excerpt(raw), native_id=native_id)
            )
    return Listing(observations=_with_arrays(observations), unreadable=unreadable)


def _native_ids(names: Sequence[str]) -> list[NativeId | None]:
    """Return the ids as commands take them: without the server.

    A number that several servers gave is followed by the server, but for that of most jobs. What
    a job's attributes say of its server does not tell: a site may have its ids end otherwise
    (``job_suffix_alias``).
    """
    ids = list(map(read_job_id, names))
    numbers = Counter((job.short, job.server) for job in set(ids) if job is not None)
    shared = Counter(short for short, _ in numbers)
    most = Counter(job.server for job in ids if job is not None).most_common(1)
    return [
        None
        if job is None
        else job.short
        if shared[job.short] == 1 or job.server == most[0][0]
        else NativeId(f"{job.short}.{job.server}")
        for job in ids
    ]


def _with_arrays(observations: Sequence[Observation]) -> list[Observation]:
    """Add one observation for each array that is told by its jobs alone (``qstat -t``)."""
    told = {seen.native_id for seen in observations}
    return [*observations, *(one for one in wholes(observations) if one.native_id not in told)]


def wholes(tasks: Iterable[Observation]) -> list[Observation]:
    """Return the arrays whose jobs these are; a job of no array adds nothing."""
    return [array_of(number, ours) for number, ours in tasks_by_array(tasks).items()]


def array_of(number: NativeId, tasks: Sequence[Observation]) -> Observation:
    """Return the array of these tasks; Torque adds an index to its name."""
    seen = summarize_array(number, tasks)
    name, dash, index = (seen.name or "").rpartition("-")
    key = next((task.submission_key for task in tasks if task.submission_key is not None), None)
    return replace(seen, name=name if dash and index.isdecimal() else seen.name, submission_key=key)
