"""Options in the ``#PBS`` lines of a script, as ``qsub`` would read them.

``qsub`` reads the lines before the first command; blanks may stand before the mark, and a line
that ends in a backslash goes on in the next one (OpenPBS, ``qsub.c``: ``get_script``,
``pbs_isexecutable``).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec
from hpcq.schedulers.directives import Directive, refuse_directive

__all__ = [
    "NEVER_INTERACTIVE",
    "Option",
    "job_attributes",
    "joined_streams",
    "read_options",
    "read_resources",
    "read_shell",
    "read_variables",
]

PREFIX = "#PBS"
_NO_COMMAND = re.compile(r":|#!|\s*(?:#|$)")
_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"[^"]*")+""")
_ITEM = re.compile(r"""(?:[^,'"\\]|\\.|'[^']*'|"[^"]*")+""")
_ATTRIBUTE = re.compile(r"(?:^|,)([A-Za-z_]+)=")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TRUE = frozenset({"true", "t", "1", "yes", "y"})
NEVER_INTERACTIVE = "A job that is submitted here is never interactive; remove it."
_NEVER_TRUE = {
    "block": "A submission here never waits for the job's end; remove it.",
    "interactive": NEVER_INTERACTIVE,
}
_QUOTED = re.compile(r"""\\(.)|'([^']*)'|"([^"]*)\"""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a directive.

    Attributes:
        letter: its name: ``l``.
        raw: its value as written, quotation marks included; empty for an option without one.
        directive: where it stands.
    """

    letter: str
    raw: str
    directive: Directive

    @property
    def value(self) -> str:
        """The value without the quotation marks around parts of it."""
        return unquote(self.raw)

    @property
    def written(self) -> str:
        """The option as it is named in a message: ``#PBS -W block=true``."""
        return f"{PREFIX} -{self.letter}" + (f" {self.raw}" if self.raw else "")

    def refused(self, reason: str) -> InvalidSpec:
        """Return the error for an option that cannot be honoured, and why."""
        return refuse_directive(self.directive, self.written, reason)


def read_options(
    script: bytes, letters: str, refused: Mapping[str, str], prefix: str = PREFIX
) -> list[Option]:
    """Return the options of a script's directives, in their order.

    Args:
        script: its content.
        letters: the options that ``qsub`` knows, as for ``getopt``: a colon behind a letter that
            takes a value.
        refused: the letters of options that cannot be honoured, and why.
        prefix: the mark of a directive.

    Raises:
        InvalidSpec: a directive holds something else, a quotation that does not end, or an option
            that cannot be honoured.
    """
    found: list[Option] = []
    for directive in _directives(script, prefix):
        found += _options(directive, letters)
    for option in found:
        if option.letter in refused:
            raise option.refused(refused[option.letter])
    return found


def read_resources(options: Iterable[Option]) -> dict[str, tuple[str, Option]]:
    """Return what ``-l NAME=VALUE,…`` asks for: value and option by name; the last one wins."""
    asked: dict[str, tuple[str, Option]] = {}
    for option in options:
        for item in _ITEM.findall(option.raw) if option.letter == "l" else ():
            name, _, value = item.partition("=")
            asked[unquote(name)] = unquote(value), option
    return asked


def unquote(raw: str) -> str:
    """Return a text without its quotation marks and the backslashes that escape."""
    return _QUOTED.sub(lambda part: part[1] or part[2] or part[3] or "", raw)


def job_attributes(option: Option, *, has_dependencies: bool) -> Iterator[str]:
    """Yield the options for what ``-W NAME=VALUE,NAME=VALUE`` says of the job.

    Args:
        option: the script's; its values may hold commas.
        has_dependencies: whether the request names jobs to wait for, which then win.

    Raises:
        InvalidSpec: it is something else, or cannot be honoured.
    """
    starts = list(_ATTRIBUTE.finditer(option.value))
    if not starts or starts[0].start() != 0:
        raise option.refused("It is not NAME=VALUE.")
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        name = start[1]
        value = option.value[start.end() : None if end is None else end.start()]
        if name in _NEVER_TRUE:
            if value.lower() in _TRUE:
                raise option.refused(_NEVER_TRUE[name])
        elif name != "depend" or not has_dependencies:
            yield from ("-W", f"{name}={value}")


def joined_streams(last: Mapping[str, Option], spec: JobSpec) -> str | None:
    """Return the stream's letter, ``o`` or ``e``, whose file gets both; None for a file each.

    Args:
        last: the script's options by their letters. Its ``-j`` stands unless the request names the
            file that would be joined.
        spec: the request.

    Raises:
        InvalidSpec: the script's ``-j`` cannot be read.
    """
    joined = last["j"].value if "j" in last else "n"
    if joined not in ("oe", "eo", "n"):
        raise last["j"].refused("It is none of oe, eo, n.")
    if joined == "oe" and spec.stderr_path is None:
        return "o"
    if joined == "eo" and spec.stdout_path is None:
        return "e"
    return None


def read_variables(
    options: Iterable[Option], requested: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of ``-v NAME=VALUE,NAME``, but for those of the request, which win.

    Args:
        options: the script's.
        requested: the variables of the request.
        environment: that of the service's commands, which has the value of ``NAME``.

    Raises:
        InvalidSpec: one is no variable, or has no value.
    """
    found: dict[str, str] = {}
    for option in options:
        for item in _ITEM.findall(option.raw) if option.letter == "v" else ():
            name, has_value, value = unquote(item).partition("=")
            name = name.strip()
            if _VARIABLE.fullmatch(name) is None:
                raise option.refused(f"{name!r} is no name of a variable.")
            if has_value:
                found[name] = value
            elif name not in requested:
                if name not in environment:
                    raise option.refused(
                        f"The service knows no value of {name}: give one there, or in the"
                        " request's environment, or in JOB_ENVIRONMENT."
                    )
                found[name] = environment[name]
    return {name: value for name, value in found.items() if name not in requested}


def read_shell(option: Option | None) -> str | None:
    """Return the shell of ``-S PATH[@HOST][,PATH@HOST]``; one for all hosts is meant first.

    Raises:
        InvalidSpec: it is no absolute path.
    """
    if option is None:
        return None
    shells = [part.partition("@") for part in option.value.split(",")]
    path = next((path for path, at, _ in shells if not at), shells[0][0])
    if not path.startswith("/"):
        raise option.refused("It is not an absolute path.")
    return path


def _directives(script: bytes, prefix: str) -> Iterator[Directive]:
    lines = script.decode("utf-8", "surrogateescape").split("\n")
    number = 0
    while number < len(lines):
        first, text = number + 1, lines[number].rstrip("\r")
        if text.lstrip().startswith(prefix):
            while text.endswith("\\") and number + 1 < len(lines):
                number += 1
                text = text[:-1] + " " + lines[number].rstrip("\r").removeprefix(prefix)
            text = text.strip()
            yield Directive(first, text, _words(first, text, text[len(prefix) :]))
        elif _NO_COMMAND.match(text) is None:
            return
        number += 1


def _words(number: int, line: str, text: str) -> tuple[str, ...]:
    words: list[str] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        if text[position] == "#":  # a comment
            break
        word = _WORD.match(text, position)
        if word is None:
            raise InvalidSpec(
                f"The script's line {number} ({line!r}) has a quotation that does not end.",
                field="scriptFile",
            )
        words.append(word[0])
        position = word.end()
    return tuple(words)


def _options(directive: Directive, letters: str) -> Iterator[Option]:
    words = iter(directive.words)
    for word in words:
        if not word.startswith("-") or word in ("-", "--"):
            raise refuse_directive(directive, word, "It is no option of qsub; remove it.")
        rest = word[1:]
        while rest:
            letter, rest = rest[0], rest[1:]
            at = letters.find(letter)
            if at < 0 or letter == ":":
                known = f"This scheduler's qsub has no option -{letter}; remove it."
                raise refuse_directive(directive, word, known)
            if letters[at + 1 : at + 2] != ":":
                yield Option(letter, "", directive)
                continue
            raw = rest or next(words, None)
            if raw is None:
                raise refuse_directive(directive, word, "Its value is missing.")
            yield Option(letter, raw, directive)
            rest = ""
