"""From what ``qstat`` prints to observations: pure functions over bytes."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hpcq.domain.errors import OutputParseError, excerpt
from hpcq.domain.jobs import NativeId
from hpcq.domain.units import from_epoch
from hpcq.schedulers.base import Unreadable
from hpcq.schedulers.pbs.json import Attributes, Member, document, member_attributes
from hpcq.schedulers.pbs.records import Record, record_of
from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.pbs_family.values import parse_job_id

__all__ = ["Answer", "Reader", "nested", "read_text"]

# A comma in a value has a backslash before it (recording qstat-f.long-workdir.LANG-C).
_COMMA = re.compile(r"(?<!\\),")
_HEADING = re.compile(rb"^[ \t]*Job Id: ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one ``qstat`` told of jobs."""

    records: tuple[Record, ...]
    unreadable: tuple[Unreadable, ...]

    def only(self, names: Collection[str]) -> "Answer":
        """Return what it tells of these jobs, the ones that were asked about."""
        wanted = {parse_job_id(name).short for name in names}
        return Answer(
            tuple(r for r in self.records if r.observation.native_id in wanted),
            tuple(bad for bad in self.unreadable if bad.native_id in wanted),
        )

    @property
    def contradicted(self) -> list[NativeId]:
        """The jobs of which it tells more than once."""
        times = Counter(bad.native_id for bad in self.unreadable)
        return [native_id for native_id in times if native_id is not None and times[native_id] > 1]

    def replaced(self, native_id: NativeId, better: "Answer") -> "Answer":
        """Return this answer with what another one tells, or does not tell, of a job."""
        return Answer(
            (
                *(r for r in self.records if r.observation.native_id != native_id),
                *better.records,
            ),
            (*(bad for bad in self.unreadable if bad.native_id != native_id), *better.unreadable),
        )


def read_text(
    output: bytes,
    known: Collection[str] | None,
    owner: str | None,
    sampled: datetime | None,
    *,
    is_single: bool = False,
    command: str = "qstat",
) -> Answer:
    """Return the jobs in the text of ``qstat -f``, for a PBS that prints no JSON.

    Args:
        output: what it printed, with ``TZ=UTC``.
        known: the ids that exist, from an answer that no user can add to; None for any.
        owner: the account whose jobs may carry a key; None for any.
        sampled: when it was asked.
        is_single: whether one job was asked about: then the first heading alone is its own.
        command: the program that printed it, for messages.

    Raises:
        OutputParseError: it is something else.
    """
    if output.strip() and _HEADING.search(output) is None:
        raise OutputParseError(command, "no line begins with 'Job Id: '", output)
    found = parse_text_records(output, known=known, is_single=is_single)
    members = [Member(record.name, record.raw, record.is_whole) for record in found]
    texts = dict(zip(map(id, members), found, strict=True))

    def read(member: Member) -> Record:
        if not member.is_whole:
            raise ValueError("its end is missing")
        attributes = nested(texts[id(member)].attributes)
        return record_of(member.name, attributes, owner, sampled)

    return read_all(members, read)


def nested(flat: Mapping[str, str]) -> Attributes:
    """Return attributes as JSON has them: ``Resource_List.ncpus`` in a group of its own."""
    attributes: Attributes = {}
    for name, value in flat.items():
        group, dot, inner = name.partition(".")
        if name == "Variable_List":
            pairs = (pair.partition("=") for pair in _COMMA.split(value))
            attributes[name] = {v.strip(): text.replace("\\,", ",") for v, _, text in pairs}
        elif dot:
            nested = attributes.setdefault(group, {})
            if isinstance(nested, dict):
                nested.setdefault(inner, value)
        else:
            attributes.setdefault(name, value)
    return attributes


class Reader:
    """Reads ``qstat -f -F json``; a job whose text did not change is not read again.

    Args:
        owner: the service's account. Only its jobs can carry a submission's key: anyone can put
            a key into the environment of a job.
        command: the program that prints it, for messages.
    """

    def __init__(self, owner: str | None, command: str = "qstat") -> None:
        self._owner = owner
        self._command = command
        self._known: dict[str, tuple[bytes, Record]] = {}

    def read(self, output: bytes, *, remember: bool = False) -> Answer:
        """Return the jobs of an answer, in its order.

        Two records under one id are both unreadable: one of them is made up by a user, and
        nobody can say which.

        Args:
            output: what ``qstat`` printed, with ``TZ=UTC``.
            remember: whether it is the listing that comes again and again.

        Raises:
            OutputParseError: it is no such document.
        """
        found = document(self._command, output, "Jobs")
        sampled = from_epoch(found.timestamp)
        known: dict[str, tuple[bytes, Record]] = {}

        def read(member: Member) -> Record:
            seen = self._known.get(member.name)
            if seen is None or seen[0] != member.text:
                record = record_of(member.name, member_attributes(member), self._owner, sampled)
                seen = (member.text, record)
            known[member.name] = seen
            return seen[1]

        answer = read_all(found.members, read)
        if remember:
            self._known = known
        return answer


def read_all(members: Iterable[Member], read: Callable[[Member], Record]) -> Answer:
    """Read each member; one that cannot be read is reported beside the others."""
    named = [(member, _known_id(member.name)) for member in members]
    times = Counter(native_id for _, native_id in named)
    records: list[Record] = []
    unreadable: list[Unreadable] = []
    for member, native_id in named:
        try:
            if native_id is not None and times[native_id] > 1:
                raise ValueError("there is more than one record under its id")
            records.append(read(member))
        except ValueError as error:
            unreadable.append(
                Unreadable(
                    reason=f"{excerpt(member.name, 80)}: {error}",
                    excerpt=excerpt(member.text),
                    native_id=native_id,
                )
            )
    return Answer(tuple(records), tuple(unreadable))


def _known_id(name: str) -> NativeId | None:
    try:
        return parse_job_id(name).short
    except ValueError:
        return None
