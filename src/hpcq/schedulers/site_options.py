"""The scheduler's own options in a request: from a list of the site, and none that does harm.

An option is one text: ``--name``, ``--name=value``, or ``-x value``. Its name has to stand in
``SUBMIT_OPTIONS``, letter by letter. Options on which this service relies cannot stand there, nor
can abbreviations of them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hpcq.domain.errors import InvalidSpec

__all__ = ["OptionRules", "SiteOptions", "getopt_letters"]

_LONG_NAME = re.compile(r"--[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRules:
    """Options of a submission command, as far as a site may allow them.

    Attributes:
        command: its name.
        reserved: names that no site may allow, and why.
        flags: names of one hyphen without a value.
        valued: names of one hyphen with a value, which is an argument of its own.
        has_long: whether there are names of two hyphens. The command takes the beginning of one
            for the whole.
        reserved_values: for names of one hyphen, the values that are refused, because a field of
            the request says the same.
    """

    command: str
    reserved: Mapping[str, str]
    flags: frozenset[str] = frozenset()
    valued: frozenset[str] = frozenset()
    has_long: bool = False
    reserved_values: Mapping[str, re.Pattern[str]] = field(default_factory=dict)

    def check_name(self, name: str) -> None:
        """Return if a site may allow an option.

        Raises:
            ValueError: it may not; the message says why.
        """
        for reserved, reason in self.reserved.items():
            if name == reserved or (name.startswith("--") and reserved.startswith(name)):
                raise ValueError(f"SUBMIT_OPTIONS cannot hold {name}: {reason}")
        is_long = self.has_long and _LONG_NAME.fullmatch(name) is not None
        if not is_long and name not in self.flags | self.valued:
            form = "--name" if self.has_long else "-x, and one that the manual of the command has"
            raise ValueError(
                f"SUBMIT_OPTIONS holds {name}, which is no option of {self.command} that can be"
                f" checked: it has to be written {form}"
            )


class SiteOptions:
    """Checker of the options in requests.

    Args:
        allowed: the names that the site allows.
        rules: those of the submission command.

    Raises:
        ValueError: the site cannot allow one of them.

    >>> rules = OptionRules(command="qsub", reserved={}, valued=frozenset({"-p"}))
    >>> SiteOptions(["-p"], rules).words(["-p 100"])
    ('-p', '100')
    """

    def __init__(self, allowed: Sequence[str], rules: OptionRules) -> None:
        for name in allowed:
            rules.check_name(name)
        self._allowed = frozenset(allowed)
        self._rules = rules

    def words(self, options: Sequence[str]) -> tuple[str, ...]:
        """Return the arguments of the command for the options of a request.

        Raises:
            InvalidSpec: one is not allowed, or not well formed.
        """
        return tuple(
            word
            for number, option in enumerate(options)
            for word in self._words(option, f"options[{number}]")
        )

    def _words(self, option: str, wire: str) -> Iterator[str]:
        is_long = option.startswith("--")
        name, is_valued, value = option.partition("=" if is_long else " ")
        if name not in self._allowed:
            raise InvalidSpec(
                f"The option {name[:99]!r} is not among those that this site allows"
                " (SUBMIT_OPTIONS).",
                field=wire,
            )
        if is_long:
            yield option
            return
        if bool(is_valued) != (name in self._rules.valued):
            form = f"{name} VALUE" if name in self._rules.valued else name
            raise InvalidSpec(f"The option has to be written {form!r}.", field=wire)
        if is_valued and (not value.strip() or value.startswith("-")):
            raise InvalidSpec(f"The value of {name} is empty or begins with a hyphen.", field=wire)
        reserved = self._rules.reserved_values.get(name)
        if reserved is not None and reserved.search(value):
            raise InvalidSpec(
                f"{name} asks for what has a field in the request; use that field.", field=wire
            )
        yield name
        if is_valued:
            yield value


def getopt_letters(letters: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the options of ``getopt``'s text: those without a value, and those with one.

    >>> getopt_letters("a:h")
    (frozenset({'-h'}), frozenset({'-a'}))
    """
    found = re.findall(r"([A-Za-z])(:?)", letters)
    flags = frozenset(f"-{letter}" for letter, colon in found if not colon)
    return flags, frozenset(f"-{letter}" for letter, colon in found if colon)
