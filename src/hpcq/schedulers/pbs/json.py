"""A reader of PBS's JSON that loses at most the one job whose text is broken.

``qstat -f -F json`` prints what users put into their environments, and not always as JSON: raw
control bytes, bytes that are no UTF-8, backslashes that escape nothing, numbers with leading
zeros, keys that occur twice (seen on 23.06; openpbs 1255, 2541, 2677). Its writers put every
member on a line of its own and escape newlines inside values, so the layout, which no user can
write, says where a job begins and ends: the indentation of the first job is that of all. A document
without that layout is divided by counting braces outside strings.

Values come as the text that stands in the document, because PBS guesses their types: the job name
``1e5`` is printed as a number, ``true`` as a word.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from hpcq.domain.errors import OutputParseError
from hpcq.schedulers.pbs_family.values import printable, restored

__all__ = ["Attributes", "Member", "document", "member_attributes"]

Attributes = dict[str, "str | dict[str, str]"]
"""What one job, queue or node has: texts, and groups of texts (``Resource_List``)."""

_HEAD = re.compile(rb"^([ \t]*)\{", re.MULTILINE)
_TIMESTAMP = re.compile(rb'"timestamp"[ \t]*:[ \t]*([0-9]{1,15})')
# What an answer about no jobs has is no object.
_OTHER_SECTION = re.compile(rb'"([^"\\\n]*)"[ \t]*:[ \t\r\n]*[{\[]')
_BETWEEN = re.compile(rb",?\s*")
_EMPTY = re.compile(rb"\{[ \t]*\}")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACES = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_KEY = re.compile(rb'[ \t\r\n,]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_LINE = re.compile(r'^([ \t]+)"((?:[^"\\]|\\.)*)"[ \t]*:[ \t]*(.*)$', re.DOTALL)
_CLOSING = re.compile(r"[ \t]*\},?[ \t\r]*")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
_STRAY_ESCAPE = re.compile(r'\\(?!["\\/bfnrt]|u[0-9A-Fa-f]{4})')
_LEADING_ZEROS = re.compile(r'("[ \t]*:[ \t]*-?)0+(?=[0-9])')
# PBS prints a name like 1e999 as null; elsewhere that is what an archive writes for nothing.
_NEVER_NULL = frozenset({"Job_Name"})


@dataclass(frozen=True, slots=True)
class Member:
    """One job, queue or node as it stands in the document.

    Attributes:
        name: its key, ``36.pbshead``.
        text: its object, braces included.
        is_whole: whether the object has an end.
    """

    name: str
    text: bytes
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Document:
    """One answer.

    Attributes:
        members: in the order of the document; a name may occur twice.
        timestamp: when it was made, in seconds since 1970.
    """

    members: tuple[Member, ...]
    timestamp: int | None


def document(command: str, output: bytes, section: str) -> Document:
    """Divide an answer into its members.

    Args:
        command: who printed it, for messages.
        output: ``{"timestamp": …, "Jobs": {ID: {…}, …}}``; without the section there are none.
        section: ``Jobs``, ``Queue`` or ``nodes``. It may occur more than once.

    Raises:
        OutputParseError: it is no such document, or its end is missing: what should follow
            exists and is not known.
    """
    output = output.replace(b"\0", "\ufffd".encode())
    head = _HEAD.search(output)
    if head is None:
        raise OutputParseError(command, "it is not a JSON object", output)
    output = output[head.start() :].rstrip()
    stamp = _TIMESTAMP.search(output, 0, 400)
    if not output.endswith(b"}"):
        raise OutputParseError(command, "its end is missing", output[-400:])
    members = _by_layout(output, section) if output.endswith(b"\n" + head[1] + b"}") else None
    if members is None:
        members = _by_braces(command, output, section)
        unknown = _OTHER_SECTION.search(output) if not members else None
        if unknown is not None and unknown[1].decode("ascii", "replace") != section:
            raise OutputParseError(command, f"it has no {section!r}", output)
    return Document(tuple(members), None if stamp is None else int(stamp[1]))


def _by_layout(output: bytes, section: str) -> list[Member] | None:
    """Divide by indentation; None when the document has no line for the section."""
    name = re.escape(section.encode())
    heads = list(re.finditer(rb'^([ \t]*)"' + name + rb'"[ \t]*:[ \t]*\{[ \t]*\r?$', output, re.M))
    # Deeper lines that look the same are nested: the section is the outermost.
    outermost = min((len(head[1]) for head in heads), default=0)
    heads = [head for head in heads if len(head[1]) == outermost]
    members: list[Member] = []
    for head in heads:
        first = re.compile(rb'\s*?\n([ \t]*)("|\})').match(output, head.end())
        if first is None or (len(first[1]) <= outermost and first[2] == b'"'):
            return None
        end = re.compile(rb"^" + head[1] + rb"\}", re.M).search(output, head.end())
        body = output[head.end() : end.start() if end else len(output)]
        members += _lines(body, first[1])
    return members if heads else None


def _lines(body: bytes, indentation: bytes) -> Iterator[Member]:
    start = re.compile(rb"^" + indentation + rb'"((?:[^"\\\n]|\\.)*)"[ \t]*:[ \t]*', re.M)
    close = re.compile(rb"^" + indentation + rb"\}", re.M)
    starts = list(start.finditer(body))
    before = body[: starts[0].start()] if starts else body
    if before.strip():
        yield Member("", before, is_whole=False)
    ends = [match.start() for match in starts[1:]]
    for match, until in zip(starts, [*ends, len(body)], strict=False):
        text = body[match.end() : until]
        end = _EMPTY.match(text) or close.search(text)
        if end is None or _BETWEEN.fullmatch(text, end.end()) is None:
            yield Member(_name(match[1]), text, is_whole=False)
        else:
            yield Member(_name(match[1]), text[: end.end()])


def _by_braces(command: str, output: bytes, section: str) -> list[Member]:
    """Divide by braces outside strings, at any layout."""
    members: list[Member] = []
    for key, start, end in _entries(output, output.index(b"{") + 1):
        if key == section and output[start : start + 1] == b"{":
            for name, first, last in _entries(output, start + 1):
                text = output[first:last]
                members.append(Member(name, text, text[:1] == b"{" and text[-1:] == b"}"))
        if end >= len(output):
            raise OutputParseError(command, "its braces do not match", output[-400:])
    return members


def _entries(output: bytes, position: int) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and end of each member of the object that begins before ``position``."""
    while (key := _KEY.match(output, position)) is not None:
        position = _end_of_value(output, key.end())
        yield _name(key[1]), key.end(), position


def _end_of_value(output: bytes, start: int) -> int:
    first = output[start : start + 1]
    if first == b'"':
        string = _STRING.match(output, start)
        return len(output) if string is None else string.end()
    if first not in (b"{", b"["):
        plain = re.compile(rb"[^,}\]]*").match(output, start)
        return start if plain is None else plain.end()
    depth = 0
    for token in _BRACES.finditer(output, start):
        if token[0] in (b"{", b"["):
            depth += 1
        elif token[0] in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return token.end()
    return len(output)


def member_attributes(member: Member) -> Attributes:
    """Return what one member says, every value as text.

    Strict JSON is tried first. What is none, or says something twice, is read line by line: each
    attribute is on a line of its own, and of two with one name the first counts.

    Raises:
        ValueError: it cannot be read.
    """
    if not member.is_whole:
        raise ValueError("its end is missing")
    text = restored(member.text).decode("utf-8", "replace")
    attributes = _strict(text)
    if attributes is None and "\n" in text:
        attributes = _by_line(text)
    if attributes is None:
        attributes = _strict(_LEADING_ZEROS.sub(r"\1", _STRAY_ESCAPE.sub(r"\\\\", text)))
    if attributes is None:
        raise ValueError("it is not JSON")
    return attributes


class _SaidTwice(ValueError):
    """An object has two members with one name."""


def _strict(text: str) -> Attributes | None:
    try:
        loaded = json.loads(
            text, strict=False, parse_int=str, parse_float=str, object_pairs_hook=_object
        )
        found = {
            name: _value(value)
            for name, value in loaded.items()
            if value is not None or name in _NEVER_NULL
        }
    except (ValueError, RecursionError):
        return None
    # Only an escape can bring what no store takes.
    return _printable(found) if "\\u" in text else found


def _printable(found: Attributes) -> Attributes:
    return {
        printable(name): (
            printable(value)
            if isinstance(value, str)
            else {printable(inner): printable(text) for inner, text in value.items()}
        )
        for name, value in found.items()
    }


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _SaidTwice
    return found


def _value(value: object) -> "str | dict[str, str]":
    if isinstance(value, dict):
        return {name: _text(inner) for name, inner in value.items()}
    return _text(value)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else json.dumps(value, ensure_ascii=False)


def _by_line(text: str) -> Attributes | None:
    lines = text.split("\n")[1:]
    depths = {len(match[1]) for line in lines if (match := _LINE.match(line))}
    if not depths:
        return None
    depth = min(depths)
    attributes: Attributes = {}
    group: dict[str, str] | None = None
    for line in _joined(lines[:-1], depth):
        match = _LINE.match(line)
        if match is None:
            group = None if line.strip().startswith("}") else group
            continue
        name, value = _unescaped(match[2]), match[3].strip()
        if len(match[1]) > depth:
            if group is not None:
                group.setdefault(name, _scalar(value))
        elif value == "{":
            group = {}
            attributes.setdefault(name, group)
        elif value.rstrip(", ") != "null" or name in _NEVER_NULL:
            group = None
            attributes.setdefault(name, {} if value.rstrip(",") == "{}" else _scalar(value))
    return attributes


def _joined(lines: list[str], depth: int) -> Iterator[str]:
    """Yield whole lines: one that begins no attribute belongs to the value before it."""
    held: list[str] = []
    for line in lines:
        starts = _LINE.match(line) is not None and len(line) - len(line.lstrip()) >= depth
        if starts or _CLOSING.fullmatch(line):
            if held:
                yield "\n".join(held)
            held = [line]
        elif held:
            held.append(line)
    if held:
        yield "\n".join(held)


def _scalar(value: str) -> str:
    value = value.removesuffix(",").rstrip()
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        return _unescaped(value[1:-1])
    return value


def _unescaped(text: str) -> str:
    return printable(_ESCAPE.sub(_character, text)) if "\\" in text else text


def _character(match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) == 5:
        return chr(int(escape[1:], 16))
    return _ESCAPED.get(escape, match[0])


def _name(raw: bytes) -> str:
    return _unescaped(raw.decode("utf-8", "replace"))
