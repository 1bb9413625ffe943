"""The script's own options: its ``#SBATCH`` lines, as ``sbatch`` reads them.

``sbatch`` also reads ``#PBS`` and ``#BSUB`` lines, in the order in which all of them stand; a later
one wins (seen in 22.05).
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import ArrayRange
from hpcq.schedulers.directives import Directive, read_directives, refuse_directive
from hpcq.schedulers.site_options import OptionRules

__all__ = [
    "MEMORY_OPTIONS",
    "OPTION_RULES",
    "ScriptOptions",
    "directive_lines",
    "read_header",
    "read_options",
    "without_options",
]

MEMORY_OPTIONS = ("mem", "mem-per-cpu", "mem-per-gpu")

# The letters of sbatch's options that take a value (opt_string in slurm_opt.c), and the names of
# those that matter here.
_WITH_VALUE = frozenset("aAbBcCdDeFGiJLmMnNopPqStUwx")
_LETTERS = {
    "a": "array",
    "c": "cpus-per-task",
    "e": "error",
    "J": "job-name",
    "M": "clusters",
    "o": "output",
    "Q": "quiet",
    "t": "time",
    "W": "wait",
}
_NAMES_WITH_VALUE = frozenset(
    {
        "array",
        "clusters",
        "comment",
        "cpus-per-task",
        "error",
        "export",
        "export-file",
        "gid",
        "job-name",
        "output",
        "propagate",
        "time",
        "time-min",
        "uid",
        *MEMORY_OPTIONS,
    }
)
# Longer names, of which one of those above is an abbreviation to nobody.
_OTHER_NAMES = frozenset(
    {
        "clusters-constraint",
        "cluster-constraint",
        "cpus-per-gpu",
        "mem-bind",
        "wait-all-nodes",
    }
)
_NAMES = _NAMES_WITH_VALUE | {"quiet", "test-only", "wait"}
# What PBS and LSF call them.
_OTHER_LETTERS: Mapping[str, Mapping[str, str]] = {
    "#PBS": {
        "N": "job-name",
        "o": "output",
        "e": "error",
        "J": "array",
        "t": "array",
        "l": "time",  # A resource list, which may hold a walltime.
    },
    "#BSUB": {"J": "job-name", "o": "output", "e": "error", "W": "time"},
}

_REFUSED = {
    "wait": "A request does not wait for its job's end; leave it out.",
    "test-only": "It would submit nothing; leave it out.",
    "quiet": "It hides the job's id from this service; leave it out.",
    "clusters": "This service sees the jobs of its own cluster only; leave it out.",
    "export-file": "Give the variables as the request's environment.",
    "uid": "A job runs as this service's account.",
    "gid": "A job runs as this service's account.",
}


def _reserved(names: str, reason: str) -> dict[str, str]:
    return {f"--{name}": reason for name in names.split()}


OPTION_RULES = OptionRules(
    command="sbatch",
    has_long=True,
    reserved={
        **_reserved(" ".join(_REFUSED), "no script may hold it either"),
        **_reserved(
            "output error job-name array dependency hold chdir ntasks ntasks-per-node cpus-per-task"
            " nodes workdir",
            "the request has a field for it",
        ),
        **_reserved(
            "comment parsable export get-user-env propagate wrap open-mode ignore-pbs"
            " kill-on-invalid-dep jobid verbose help usage version",
            "the service needs it as it is",
        ),
    },
)


@dataclass(frozen=True, slots=True)
class ScriptOptions:
    """Options that a script gives itself.

    Attributes:
        values: each option's value by its long name, the last one where it stands twice. A job
            of several components (``hetjob``) has those of its first, which runs the script.
        places: the line of each.
        is_het: whether the script asks for several components.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Directive] = field(default_factory=dict)
    is_het: bool = False

    @property
    def is_array(self) -> bool:
        """True for a script that runs once for each of many numbers."""
        return "array" in self.values

    @property
    def task_suffix(self) -> str | None:
        """The addition to the request's paths (`ScriptDirectives.task_suffix`)."""
        return ".%a" if self.is_array else None

    @property
    def asks_time_limit(self) -> bool:
        """True unless the script certainly leaves the wall time limit to the partition."""
        return "time" in self.values or "time-min" in self.values

    @property
    def environment(self) -> dict[str, str]:
        """The variables that ``--export`` gives a value."""
        items = _split_at_commas(self.values.get("export", ""))
        return dict(item.split("=", 1) for item in items if item.find("=") > 0)

    def with_array(self, array: ArrayRange | None) -> "ScriptOptions":
        """Return the options with a request's array, if it has one, in place of the script's."""
        if array is None:
            return self
        limit = "" if array.max_running is None else f"%{array.max_running}"
        return replace(self, values={**self.values, "array": array.text + limit})

    def tasks(self, slots: int) -> int:
        """Return the number of tasks that make up the slots: each has ``--cpus-per-task`` CPUs.

        Raises:
            InvalidSpec: they cannot.
        """
        text = self.values.get("cpus-per-task")
        if text is None:
            return slots
        if not text.isdecimal() or int(text) == 0:
            raise self.refusal("cpus-per-task", "It is no number of CPUs.")
        if slots % int(text):
            raise self.refusal(
                "cpus-per-task",
                f"reservedSlots counts CPUs, and {slots} of them are no whole number of tasks of "
                f"{text} CPUs each. Ask for a multiple of {text}.",
            )
        return slots // int(text)

    def check(self) -> None:
        """Refuse what cannot be honoured.

        Raises:
            InvalidSpec: an option cannot be; it is named, with its line.
        """
        for name, reason in _REFUSED.items():
            if name in self.values:
                raise self.refusal(name, reason)

    def refusal(self, name: str, reason: str) -> InvalidSpec:
        """Return the error for an option that cannot be honoured, and the sentence why."""
        return refuse_directive(self.places[name], f"--{name}", reason)


def read_options(script: bytes) -> ScriptOptions:
    """Return the options in a script's directives.

    Raises:
        InvalidSpec: a quotation in one does not end.

    >>> read_options(b"#SBATCH --array=1-3 -n 2").is_array
    True
    """
    found = [
        (directive, prefix)
        for prefix in ("#SBATCH", *_OTHER_LETTERS)
        for directive in read_directives(script, prefix, stops_at_command=True)
    ]
    values: dict[str, str] = {}
    places: dict[str, Directive] = {}
    is_het = False
    for directive, prefix in sorted(found, key=lambda item: item[0].line):
        is_het = is_het or directive.words in {("hetjob",), ("packjob",)}
        for name, value in _options(directive.words, _OTHER_LETTERS.get(prefix)):
            if not is_het or name in _REFUSED:
                values[name], places[name] = value, directive
    return ScriptOptions(values, places, is_het)


def read_header(script: bytes) -> Iterator[bytes]:
    """Yield the lines of a script that sbatch looks at for directives, without their ends."""
    for line in script.split(b"\n"):
        if line.strip() and not line.lstrip().startswith(b"#"):
            return
        yield line


def directive_lines(script: bytes) -> tuple[str, ...]:
    """Return the lines of a script that sbatch reads as directives."""
    lines = (line.decode("utf-8", "replace") for line in read_header(script))
    return tuple(line for line in lines if line.startswith(("#SBATCH", *_OTHER_LETTERS)))


def without_options(script: bytes, names: Sequence[str]) -> bytes:
    """Return the script without these options in its ``#SBATCH`` lines; line by line the same."""
    lines = script.split(b"\n")
    for directive in read_directives(script, "#SBATCH", stops_at_command=True):
        kept = _without(directive.words, names)
        if kept != list(directive.words):
            text = f"#SBATCH {shlex.join(kept)}" if kept else "#"
            lines[directive.line - 1] = text.encode("utf-8", "surrogateescape")
    return b"\n".join(lines)


def _options(words: Sequence[str], letters: Mapping[str, str] | None) -> Iterator[tuple[str, str]]:
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and letters is None:
            given, has_value, value = word[2:].partition("=")
            name = _full_name(given)
            if name in _NAMES_WITH_VALUE and not has_value:
                value = rest.pop(0) if rest else ""
            if name is not None:
                yield name, value
        elif word.startswith("-") and len(word) > 1:
            yield from _short(word[1:], rest, _LETTERS if letters is None else letters)


def _short(cluster: str, rest: list[str], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Read letters that stand together: ``-HJname``; the value may be the next word."""
    for place, letter in enumerate(cluster, start=1):
        takes_value = letter in _WITH_VALUE or (names is not _LETTERS and letter in names)
        if takes_value:
            value = cluster[place:] or (rest.pop(0) if rest else "")
            if letter in names:
                yield names[letter], value
            return
        if letter in names:
            yield names[letter], ""


def _full_name(given: str) -> str | None:
    """Return the option that a name or an abbreviation of it stands for, if it matters here."""
    if given in _NAMES or given in _OTHER_NAMES:
        return given if given in _NAMES else None
    meant = [name for name in _NAMES | _OTHER_NAMES if name.startswith(given)]
    return meant[0] if len(meant) == 1 and len(given) > 2 and meant[0] in _NAMES else None


def _without(words: Sequence[str], names: Sequence[str]) -> list[str]:
    kept: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        given, has_value, _ = word.removeprefix("--").partition("=")
        if word.startswith("--") and _full_name(given) in names:
            if not has_value and rest:
                rest.pop(0)
            continue
        kept.append(word)
    return kept


def _split_at_commas(text: str) -> Iterator[str]:
    """Split a list as Slurm does: commas between quotes belong to a value."""
    reader = shlex.shlex(text, posix=True)
    reader.whitespace, reader.whitespace_split, reader.commenters = ",", True, ""
    try:
        yield from reader
    except ValueError:
        yield from text.split(",")
