"""The output of Torque's commands; pure, the standard library only."""

import html
from collections.abc import Iterable, Sequence

LINE = 78


def render_text(heading: bytes, attributes: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a record of ``qstat -f``: bytes.

    Args:
        heading: its first line.
        attributes: pairs of names and values, both bytes.
    """
    lines = [heading + b"\n"]
    for name, value in attributes:
        lines.append(_attribute(name, value))
    return b"".join(lines) + b"\n"


def _attribute(name: bytes, value: bytes) -> bytes:
    """Cut at commas, one of which is lost where several follow each other; else anywhere."""
    start = b"    " + name + b" = "
    out, length = [start], len(start)
    for number, piece in enumerate(p for p in value.split(b",") if p):
        if number:
            out.append(b",")
            length += 1
        if length + len(piece) < LINE:
            out.append(piece)
            length += len(piece)
            continue
        if number:
            out.append(b"\n\t")
            length = 8 if 8 + len(piece) < LINE else 9
        for at in range(len(piece)):
            out.append(piece[at : at + 1])
            length += 1
            if length >= LINE:
                out.append(b"\n\t")
                length = 8
    if value.endswith(b","):
        out.append(b",")
    return b"".join(out) + b"\n"


def render_xml(jobs: Iterable[Sequence[tuple[str, str]]]) -> str:
    """Return a document of ``qstat -x``: text, bytes that are no UTF-8 as surrogates.

    Args:
        jobs: for each its attributes, pairs of names and values; the first is ``Job_Id``.
    """
    body = "".join(f"<Job>{_elements(attributes)}</Job>" for attributes in jobs)
    return f'<?xml version="1.0"?>\n<Data>{body}</Data>\n'


def _elements(attributes: Sequence[tuple[str, str]]) -> str:
    out: list[str] = []
    group = ""
    for name, value in attributes:
        outer, _, inner = name.partition(".")
        if group and (not inner or outer != group):
            out.append(f"</{group}>")
            group = ""
        if inner and not group:
            group = outer
            out.append(f"<{group}>")
        leaf = inner or outer
        out.append(f"<{leaf}>{escaped(value)}</{leaf}>")
    return "".join(out) + (f"</{group}>" if group else "")


def escaped(value: str) -> str:
    """Return a value with references for what Torque writes as such."""
    return html.escape(value, quote=True).replace("&#x27;", "&apos;")
