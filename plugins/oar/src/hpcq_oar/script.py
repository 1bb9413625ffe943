"""The script's own options: its ``#OAR`` lines, as ``oarsub --scanscript`` reads them."""

import re
from dataclasses import dataclass, field

from hpcq.schedulers.directives import Directive, refuse_directive

__all__ = ["ScriptOptions", "read_options"]

# One option a line, its value as it stands (`scan_script` in OAR/Sub.pm).
_LINE = re.compile(r"#OAR\s+(--[a-z0-9-]+|-[A-Za-z])[\s=]*(.*?)\s*")
_LETTERS = {
    "-l": "--resource",
    "-q": "--queue",
    "-p": "--property",
    "-t": "--type",
    "-d": "--directory",
    "-n": "--name",
    "-a": "--anterior",
    "-O": "--stdout",
    "-E": "--stderr",
}
_HANDED_ON = ("--property", "--type", "--anterior", "--checkpoint", "--signal", "--notify")
_GIVES_WAY = ("--queue", "--project", "--name", "--stdout", "--stderr", "--directory", "--hold")
_WALL_TIME = re.compile(r"walltime\s*=\s*([0-9]+)(?::([0-9]+))?(?::([0-9]+))?\s*$")


@dataclass(frozen=True, slots=True)
class ScriptOptions:
    """Options that a script gives itself.

    Attributes:
        values: the last value of each option that gives way to the request, by its long name.
        handed_on: options for ``oarsub``, as they stand.
        wall_time_seconds: the ``walltime`` of ``-l``; the resources there give way to the
            request's slots.
    """

    values: dict[str, str] = field(default_factory=dict)
    handed_on: tuple[str, ...] = ()
    wall_time_seconds: int | None = None


def read_options(script: bytes) -> ScriptOptions:
    """Return the options in a script's ``#OAR`` lines.

    Raises:
        InvalidSpec: one of them cannot be honoured; it is named, with its line.
    """
    values: dict[str, str] = {}
    handed_on: list[str] = []
    wall_time = None
    lines = script.decode("utf-8", "surrogateescape").split("\n")
    # OAR looks at the lines behind the first one, and only where that is a comment.
    for number, line in enumerate(lines[1:] if script.startswith(b"#") else [], start=2):
        if not re.match(r"#OAR\s", line):
            continue
        directive = Directive(number, line.strip(), tuple(line.split()[1:]))
        match = _LINE.fullmatch(line)
        name = "" if match is None else _LETTERS.get(match[1], match[1])
        if match is None or name not in (*_HANDED_ON, *_GIVES_WAY, "--resource"):
            written = directive.words[0] if directive.words else line.strip()
            raise refuse_directive(
                directive, written, "Leave it out, or ask for it in the request."
            )
        if name == "--resource":
            wall_time = _wall_time(match[2]) or wall_time
        elif name in _HANDED_ON:
            handed_on.append(f"{name}={_plain(directive, name, match[2])}")
        else:
            values[name] = match[2]
    return ScriptOptions(values, tuple(handed_on), wall_time)


def _wall_time(resources: str) -> int | None:
    match = _WALL_TIME.search(resources)
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def _plain(directive: Directive, name: str, value: str) -> str:
    if not value or not value.isascii() or not value.isprintable():
        raise refuse_directive(directive, name, "Its value is empty or no plain text.")
    return value
