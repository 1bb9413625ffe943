r"""The text of ``qstat -f``, ``qstat -Q -f``, ``pbsnodes``: records of wrapped attributes.

A record begins with a heading in the first column (``Job Id: 45.vm``), has attributes behind four
blanks (``    job_state = R``) and ends with an empty line. Lines are cut at 78 bytes, in the
middle of characters, and go on behind a TAB: bytes are joined before anything is decoded. Where an
answer came through other hands, it is indented as a whole, has the line ends of DOS, or blanks in
place of the TABs; the first heading and the first attribute of a record show how.

Values are not escaped but for ``Variable_List``, where a backslash stands before each newline
(recording ``qstat-f.oddenv``), and where older releases have none. So a line may have been
invented by the user who submitted the job. The parser believes only this:

- A heading, after an empty line or at the beginning, whose id is among the ids that the caller
  knows from a listing that nobody can forge, when he has one.
- An attribute whose line does not follow a backslash that escapes the newline, and whose name has
  not been there before in the record: servers print a job's state, owner and times before its
  variables.

Everything else belongs to the value before it. An id with two headings is returned twice; its
records contradict each other, and the caller believes none. In the answer about a single job there
is but one heading, the first.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hpcq.schedulers.pbs_family.values import restored

__all__ = ["TextRecord", "parse_text_records"]

_ATTRIBUTE = re.compile(rb"([ \t]*)([A-Za-z_][A-Za-z0-9_.-]*) = ?(.*)", re.DOTALL)
_LAST_NAME = re.compile(rb"^[ \t]*([A-Za-z_][A-Za-z0-9_.-]*) = ", re.MULTILINE)
_BLANKS = b" \t"


@dataclass(frozen=True, slots=True)
class TextRecord:
    """One record.

    Attributes:
        name: what its heading names.
        raw: its lines, without the heading.
        is_whole: whether it has an end; the last record of an answer that was cut off has none.
    """

    name: str
    raw: bytes
    is_whole: bool

    @property
    def attributes(self) -> Mapping[str, str]:
        """The record's attributes, read anew at each call; undecodable bytes are replaced.

        Names are as printed (``Resource_List.walltime``).
        """
        attributes: dict[bytes, list[bytes]] = {}
        value: list[bytes] = []
        indentation: bytes | None = None
        before = b""
        for line in self.raw.split(b"\n"):
            line = line.removesuffix(b"\r")
            attribute = _ATTRIBUTE.match(line)
            if indentation is None and attribute is not None:
                indentation = attribute[1]
            if (
                attribute is not None
                and attribute[1] == indentation
                and attribute[2] not in attributes
                and not _ends_with_escape(before)
            ):
                value = attributes[attribute[2]] = [attribute[3]]
            elif line.startswith(b"\t"):
                value.append(line[1:] if indentation != b"\t" else line[2:])
            elif _is_deeper(line, indentation or b""):
                value.append(line.lstrip(_BLANKS))
            elif line:
                value.append(b"\n" + line)
            before = line
        return {_text(key): _text(b"".join(parts)) for key, parts in attributes.items()}


def parse_text_records(
    output: bytes,
    heading: bytes = b"Job Id: ",
    known: Collection[str] | None = None,
    *,
    is_single: bool = False,
) -> list[TextRecord]:
    """Return the records of an answer, in its order.

    Args:
        output: what the command printed; lines before the first heading are passed over.
        heading: how records begin; empty where a name stands alone (``pbsnodes``).
        known: the names that records may have; None when they are not known otherwise.
        is_single: whether one job was asked about.
    """
    output = output.replace(b"\0", "\ufffd".encode())
    name = rb"([^\r\n]*)" if heading else rb"([^\s=]+)[ \t]*"
    pattern = re.compile(rb"^([ \t]*)" + re.escape(heading) + name + rb"\r?$", re.MULTILINE)
    wanted = None if known is None else frozenset(known)
    found: list[tuple[str, re.Match[bytes]]] = []
    for match in pattern.finditer(output):
        if found and (is_single or match[1] != found[0][1][1] or not _follows_gap(output, match)):
            continue
        named = match[2].decode("utf-8", "replace").strip()
        if wanted is None or named in wanted:
            found.append((named, match))
    starts = [match.start() for _, match in found[1:]]
    records = [
        TextRecord(named, output[match.end() + 1 : end], is_whole=True)
        for (named, match), end in zip(found, [*starts, len(output)], strict=False)
    ]
    if records and not _has_end(records):
        records[-1] = TextRecord(records[-1].name, records[-1].raw, is_whole=False)
    return records


def _follows_gap(output: bytes, match: re.Match[bytes]) -> bool:
    """Return whether the line before a heading is empty."""
    end = match.start() - 1
    return not output[output.rfind(b"\n", 0, max(end, 0)) + 1 : max(end, 0)].strip()


def _has_end(records: list[TextRecord]) -> bool:
    """Return whether the last record ends: with an empty line, or with an attribute that is last.

    Whoever keeps an answer often loses the newlines at its end.
    """
    last, others = records[-1].raw, [record.raw for record in records[:-1]]
    if last.endswith((b"\n\n", b"\n\r\n")) or not others:
        return True
    line = last[last.rfind(b"\n") + 1 :]
    name = _last_name(last)
    finals = {_last_name(raw) for raw in others if b" " + name + b" = " in raw}
    if last.endswith(b"\n"):
        return finals <= {name}
    return finals == {name} and (line.startswith(b"\t") or _LAST_NAME.match(line) is not None)


def _last_name(raw: bytes) -> bytes:
    names = _LAST_NAME.findall(raw)
    return names[-1] if names else b""


def _ends_with_escape(line: bytes) -> bool:
    return line.endswith(b"\\") and (len(line) - len(line.rstrip(b"\\"))) % 2 == 1


def _is_deeper(line: bytes, indentation: bytes) -> bool:
    margin = line[: len(line) - len(line.lstrip(_BLANKS))]
    return len(margin) > len(indentation) or (b"\t" in margin and b"\t" not in indentation)


def _text(raw: bytes) -> str:
    return restored(raw).decode("utf-8", "replace").strip()
