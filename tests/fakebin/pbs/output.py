"""The output of OpenPBS's commands; pure, the standard library only.

Attributes are pairs of names and values, all text, bytes that are no UTF-8 as surrogates; a value
may be a list of pairs (``Resource_List``).
"""

import re
from typing import Any

Members = list[tuple[str, Any]]

LINE = 78
# The server has put a backslash before these itself.
_ESCAPED_ALREADY = ",\"'"


def render_dsv(
    heading: str, attributes: Members, delimiter: str = "|", *, release: bool = False
) -> str:
    """Return a record of ``-F dsv``: text.

    Args:
        heading: ``Job Id: 36.pbshead``.
        attributes: pairs; the values are texts or lists of pairs.
        delimiter: what ``-D`` says.
        release: whether bytes that are no ASCII are printed as the release of June 2023 does, each
            as a caret and the byte 64 higher; the byte 0xCA thus becomes a newline.
    """
    fields = [heading]
    for name, value in attributes:
        if name == "Variable_List":
            pairs = (f"{k}={v}".replace(",", "\\,") for k, v in value)
            text = value if isinstance(value, str) else ",".join(pairs)
            fields.append(f"{name}={_delimited(text, delimiter, release)}")
        elif isinstance(value, list):
            fields += [f"{name}.{k}={_delimited(str(v), delimiter, release)}" for k, v in value]
        else:
            fields.append(f"{name}={_delimited(str(value), delimiter, release)}")
    return delimiter.join(fields) + "\n"


def _delimited(text: str, delimiter: str, release: bool) -> str:
    escaped = re.sub(rf"\\(?![{_ESCAPED_ALREADY}])|{re.escape(delimiter)}", r"\\\g<0>", text)
    escaped = escaped.replace("\n", "\\n").replace("\f", "\\f")
    raw = escaped.encode("utf-8", "surrogateescape")
    last = 127 if release else 256
    written = b"".join(
        bytes([byte]) if 32 <= byte < last or byte == 9 else b"^" + bytes([(byte + 64) % 256])
        for byte in raw
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
