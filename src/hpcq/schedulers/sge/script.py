"""The script's own options for ``qsub``: lines that begin with ``#$``, anywhere in it (qsub(1)).

Seen on 8.1.9: what the command says replaces what the script says, one ``-l`` resource, ``-v``
variable and ``-ac`` variable at a time; job ids after ``-hold_jid`` come together from both.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hpcq.domain.jobs import ArrayRange
from hpcq.schedulers.directives import Directive, read_directives, refuse_directive
from hpcq.schedulers.site_options import OptionRules

__all__ = ["CONTEXT_VARIABLE", "OPTION_RULES", "ScriptOptions", "directive_lines", "read_options"]

CONTEXT_VARIABLE = "hpcq_key"
"""The context variable that holds a job's mark, and that ``qstat -j`` shows."""

# How many words follow an option; those that are not here are qsub's to refuse.
_WITHOUT_VALUE = frozenset(
    ["-V", "-clear", "-cwd", "-h", "-hard", "-help", "-notify", "-soft", "-terse", "-verify"]
)
_WITH_TWO = frozenset({"-pe"})

_REFUSED = {
    "-verify": "It has the job shown, and not submitted.",
    "-help": "It has the options shown, and the job not submitted.",
    "-sync": "It has the command wait for the end of the job; read the job's state instead.",
    "-b": "The script is no binary.",
    "-A": "By the account string the job is found again; a project is asked for with -P.",
    "-dc": "By a context variable the job is found again.",
    "-sc": "By a context variable the job is found again; set others with -ac.",
    "-@": "Options in another file are not read; write them into the script.",
    "-C": "Directives are read behind '#$'.",
    "-w": "It has the job checked, and not submitted.",
}
_ALLOWED_VALUES = {
    "-sync": ("n", "no"),
    "-b": ("n", "no"),
    "-w": ("e", "w", "n"),
    "-C": ("#$",),
}


OPTION_RULES = OptionRules(
    command="qsub",
    flags=frozenset({"-notify"}),
    valued=frozenset(["-a", "-c", "-ckpt", "-dl", "-js", "-l", "-masterq", "-now", "-r", "-R"]),
    reserved={
        **_REFUSED,
        **dict.fromkeys(
            [
                "-N",
                "-o",
                "-e",
                "-j",
                "-i",
                "-S",
                "-V",
                "-v",
                "-ac",
                "-wd",
                "-cwd",
                "-pe",
                "-h",
                "-hold_jid",
                "-hold_jid_ad",
                "-t",
                "-tc",
                "-terse",
                "-clear",
                "-soft",
                "-hard",
                "-P",
                "-p",
                "-q",
                "-ar",
                "-m",
                "-M",
            ],
            "the service needs it as it is, or the request has a field for it",
        ),
    },
    reserved_values={"-l": re.compile(r"(?:^|,)(?:h_rt|h_vmem)\b")},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptOptions:
    """The ``qsub`` options of a script; None, or False, for options that it does not set.

    Attributes:
        stdout, stderr: paths in Grid Engine's own writing, see `hpcq.schedulers.sge.outputs`.
        joins: whether the standard error goes to the standard output's file.
        is_array: whether it asks for an array.
        parallel_environment: the name of one.
        interpreter: what runs it, where it has no `#!` line, as written behind `-S`.
        takes_environment: whether it asks for the environment of ``qsub`` itself.
    """

    name: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    joins: bool = False
    is_array: bool = False
    parallel_environment: str | None = None
    interpreter: str | None = None
    takes_environment: bool = False

    @property
    def task_suffix(self) -> str | None:
        """The addition to the request's paths (`ScriptDirectives.task_suffix`)."""
        return ".%a" if self.is_array else None

    def with_array(self, array: ArrayRange | None) -> "ScriptOptions":
        """Return the options with a request's array, if it has one."""
        return self if array is None else replace(self, is_array=True)


def read_options(script: bytes) -> ScriptOptions:
    """Return what a script asks for.

    Raises:
        InvalidSpec: a directive cannot be honoured; it is named, with its line.
    """
    found: dict[str, str] = {}
    for directive in read_directives(script, "#$", stops_at_command=False):
        for option, value in _options(directive):
            written = f"{option} {value}".strip()
            if option in _REFUSED and value not in _ALLOWED_VALUES.get(option, ()):
                raise refuse_directive(directive, written, _REFUSED[option])
            if option == "-ac" and value.partition("=")[0] == CONTEXT_VARIABLE:
                raise refuse_directive(directive, written, _REFUSED["-dc"])
            found[option] = value
    return ScriptOptions(
        name=found.get("-N"),
        stdout=found.get("-o"),
        stderr=found.get("-e"),
        joins=found.get("-j", "n") in ("y", "yes"),
        is_array="-t" in found,
        parallel_environment=found["-pe"].split()[0] if found.get("-pe") else None,
        interpreter=found.get("-S"),
        takes_environment="-V" in found,
    )


def directive_lines(script: bytes) -> tuple[str, ...]:
    """Return the lines of a script that ``qsub`` reads as directives."""
    return tuple(d.text for d in read_directives(script, "#$", stops_at_command=False))


def _options(directive: Directive) -> Iterator[tuple[str, str]]:
    """Yield the options of one line with their values."""
    words = list(directive.words)
    while words:
        option = words.pop(0)
        count = 0 if option in _WITHOUT_VALUE else 2 if option in _WITH_TWO else 1
        yield option, " ".join(words[:count])
        del words[:count]
