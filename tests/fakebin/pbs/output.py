"""How OpenPBS's commands print what they know; pure, the standard library only.

Attributes are pairs of names and values, all text, bytes that are no UTF-8 as surrogates; a value
may be a list of pairs (``Resource_List``).
"""

import re
from typing import Any

Members = list[tuple[str, Any]]

LINE = 78
_NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ALWAYS_TEXT = frozenset({"Job_Name", "Submit_arguments"})
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


def render_json(members: Members) -> str:
    """Return a document of ``-F json``: text.

    Args:
        members: pairs; the values are texts, numbers or lists of pairs.
    """
    return "{\n" + _members(members, 1) + "\n}\n"


def _members(members: Members, depth: int) -> str:
    tabs = "\t" * depth
    return ",\n".join(
        f"{tabs}{_quoted(name)}:\t{_value(name, value, depth)}" for name, value in members
    )


def _value(name: str, value: Any, depth: int) -> str:
    if isinstance(value, list):
        inner = _members(value, depth + 1)
        return "{\n" + (inner + "\n" if inner else "") + "\t" * depth + "}"
    if isinstance(value, int):
        return str(value)
    if _NUMBER.fullmatch(value) and name not in _ALWAYS_TEXT:
        return _number(float(value))
    return _quoted(value)


def _number(figure: float) -> str:
    if figure in (float("inf"), float("-inf")):
        return "null"
    return str(int(figure)) if figure == int(figure) and abs(figure) < 1e15 else repr(figure)


def _quoted(text: str) -> str:
    return (
        '"' + "".join(_ESCAPES.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in text) + '"'
    )


def render_release_json(members: Members) -> str:
    """Return a document as the release of June 2023 writes it.

    It calls itself by the same version as later builds, indents by four blanks, takes every text
    that looks like a number for one, writes a variable that follows an empty one into that one's
    value, and prints a byte that is no printable ASCII as a caret and the byte 64 higher
    (recordings of 23.06.06).
    """
    return "{\n" + _release_members(members, 1) + "\n}\n"


def _release_members(members: Members, depth: int) -> str:
    blanks = "    " * depth
    return ",\n".join(
        f'{blanks}"{name}":{_release_value(name, value, depth)}' for name, value in members
    )


def _release_value(name: str, value: Any, depth: int) -> str:
    if isinstance(value, list):
        pairs = _swallowed(value) if name == "Variable_List" else value
        return "{\n" + _release_members(pairs, depth + 1) + "\n" + "    " * depth + "}"
    text = str(value)
    is_number = _NUMBER.fullmatch(text) and not re.match("-?0[0-9]", text)
    return text if is_number else f'"{_careted(text)}"'


def _swallowed(pairs: Members) -> Members:
    written: Members = []
    for name, value in pairs:
        if written and written[-1][1] == "":
            written[-1] = (written[-1][0], f",{name}={value}")
        else:
            written.append((name, value))
    return written


def _careted(text: str) -> str:
    """Return a text as it stands in a string; carets come last, so they may break it."""
    escaped = "".join(_ESCAPES.get(c, c) if c in '"\\\n\r\t' else c for c in text)
    raw = escaped.encode("utf-8", "surrogateescape")
    written = b"".join(
        bytes([byte]) if 32 <= byte < 127 else b"^" + bytes([(byte + 64) % 256]) for byte in raw
    )
    return written.decode("utf-8", "surrogateescape")


def render_text(heading: str, attributes: Members) -> str:
    """Return a record of ``qstat -f``: text."""
    lines = [heading + "\n"]
    for name, value in attributes:
        if name == "Variable_List":
            lines.append(_wrapped(name, ",".join(f"{k}={v}" for k, v in value)))
        elif isinstance(value, list):
            lines += [_wrapped(f"{name}.{inner}", text) for inner, text in value]
        else:
            lines.append(_wrapped(name, str(value)))
    return "".join(lines) + "\n"


def _wrapped(name: str, value: str) -> str:
    """Cut at commas, which stay on the line before; a longer piece anywhere."""
    line = f"    {name} = "
    out, length = [line], len(line)
    pieces = re.findall(r"[^,]*,|[^,]+", value)
    for number, piece in enumerate(pieces):
        raw = piece.encode("utf-8", "surrogateescape")
        if length + len(raw) < LINE:
            out.append(piece)
            length += len(raw)
            continue
        if number:
            out.append("\n\t")
            length = 8
        for character in piece:
            if length >= LINE + 1:
                out.append("\n\t")
                length = 8
            out.append(character)
            length += len(character.encode("utf-8", "surrogateescape"))
    return "".join(out) + "\n"
