"""Directives: lines of a script that speak to the scheduler (``#SBATCH``, ``#$``, ``#PBS``)."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from hpcq.domain.errors import InvalidSpec

__all__ = ["Directive", "read_directives", "refuse_directive"]


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive of a script.

    Attributes:
        line: the number of its line, from 1.
        text: the line, as written.
        words: the options behind the mark, taken apart as a shell takes them apart.
    """

    line: int
    text: str
    words: tuple[str, ...]


def read_directives(script: bytes, prefix: str, *, stops_at_command: bool) -> Iterator[Directive]:
    """Yield the directives of a script, in their order.

    Args:
        script: its content.
        prefix: the mark that a directive begins with: ``#SBATCH``.
        stops_at_command: whether lines behind the first command, which is the first line that is
            neither blank nor a comment, are none.

    Raises:
        InvalidSpec: a directive has a quotation that does not end.

    >>> list(read_directives(b"#PBS -l mem=2gb  # enough", "#PBS", stops_at_command=True))[0].words
    ('-l', 'mem=2gb')
    """
    for number, raw in enumerate(script.split(b"\n"), start=1):
        line = raw.decode("utf-8", "surrogateescape")
        if line.startswith(prefix):
            words = _take_apart(number, line, line[len(prefix) :])
            if words:
                yield Directive(number, line.strip(), words)
        elif stops_at_command and line.strip() and not line.lstrip().startswith("#"):
            return


def refuse_directive(directive: Directive, option: str, reason: str) -> InvalidSpec:
    """Return the error for a directive that cannot be honoured.

    Args:
        directive: where it stands.
        option: the option, as written.
        reason: a sentence that says why, and what to do instead.
    """
    return InvalidSpec(
        f"The script's directive {option!r} (line {directive.line}) cannot be honoured. {reason}",
        field="scriptFile",
    )


def _take_apart(number: int, line: str, options: str) -> tuple[str, ...]:
    reader = shlex.shlex(options, posix=True, punctuation_chars=False)
    reader.whitespace_split = True
    # A blank before it makes the rest of a line a comment.
    reader.commenters = "#"
    try:
        return tuple(reader)
    except ValueError:
        raise InvalidSpec(
            f"The script's line {number} ({line.strip()!r}) has a quotation that does not end.",
            field="scriptFile",
        ) from None
