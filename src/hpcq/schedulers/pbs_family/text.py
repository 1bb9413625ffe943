r"""The text of ``qstat -f``, ``qstat -Q -f`` and their like: records of wrapped attributes.

A record begins with a heading in the first column (``Job Id: 45.vm``), has attributes behind four
blanks (``    job_state = R``) and ends with an empty line. Lines are cut at 78 bytes, in the
middle of characters, and go on behind a TAB: bytes are joined before anything is decoded.

Values are not escaped but for ``Variable_List``, where a backslash stands before each newline
(recording ``qstat-f.oddenv``), and where older releases have none. So a line may have been
invented by whoever submitted the job. What is believed:

- A heading, after an empty line or at the beginning, whose id is among the ids that the caller
  knows from a listing that nobody can forge, when he has one.
- An attribute whose line does not follow a backslash that escapes the newline, and whose name has
  not been there before in the record: servers print a job's state, owner and times before its
  variables.

Everything else belongs to the value before it. An id with two headings is returned twice; its
records contradict each other, and the caller believes none.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

__all__ = ["TextRecord", "parse_text_records"]

_ATTRIBUTE = re.compile(rb"^ {4}([A-Za-z_][A-Za-z0-9_.-]*) = ?(.*)$", re.DOTALL)
_TAB = b"\t"


@dataclass(frozen=True, slots=True)
class TextRecord:
    """One record.

    Attributes:
        name: what its heading names.
        attributes: decoded; undecodable bytes are replaced. Names are as printed
            (``Resource_List.walltime``).
        is_whole: whether an empty line, or the next heading, ended it; the last record of an
            answer that was cut off has none.
    """

    name: str
    attributes: Mapping[str, str]
    is_whole: bool


def parse_text_records(
    output: bytes, heading: bytes = b"Job Id: ", known: Collection[str] | None = None
) -> list[TextRecord]:
    """Return the records of an answer, in its order.

    Args:
        output: what the command printed; lines before the first heading are passed over.
        heading: how records begin.
        known: the names that records may have; None when they are not known otherwise.
    """
    records: list[TextRecord] = []
    name: str | None = None
    attributes: dict[bytes, list[bytes]] = {}
    value: list[bytes] = []
    before = b""

    def finish(*, is_whole: bool) -> None:
        if name is not None:
            texts = {_text(key): _text(b"".join(parts)) for key, parts in attributes.items()}
            records.append(TextRecord(name, texts, is_whole))

    for line in output.split(b"\n"):
        escaped = _ends_with_escape(before)
        named = line[len(heading) :].decode("utf-8", "replace").strip()
        attribute = None if escaped else _ATTRIBUTE.match(line)
        if (
            line.startswith(heading)
            and not escaped
            and (not before or name is None)
            and (known is None or named in known)
        ):
            finish(is_whole=True)
            name, attributes, value = named, {}, []
        elif line.startswith(_TAB):
            value.append(line[1:])
        elif attribute is not None and attribute[1] not in attributes:
            value = attributes[attribute[1]] = [attribute[2]]
        elif line:
            value.append(b"\n" + line)
        before = line
    finish(is_whole=output.endswith(b"\n\n"))
    return records


def _ends_with_escape(line: bytes) -> bool:
    return (len(line) - len(line.rstrip(b"\\"))) % 2 == 1


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").strip()
