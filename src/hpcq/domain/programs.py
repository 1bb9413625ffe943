"""A program that users can run, and the arguments that it expects."""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = ["Installation", "Parameter", "ParameterType", "Program", "ProgramKey"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


class ParameterType(StrEnum):
    """The type of a program's argument."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"


_IN_WORDS = {
    ParameterType.INTEGER: "a whole number",
    ParameterType.NUMBER: "a number",
    ParameterType.TEXT: "text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """An argument that a program expects.

    Attributes:
        name: ``N_PROC``.
        type: what its value has to be.
        default: taken when no value is given, as the program gets it; None for a value that has
            to be given, or is optional.
        is_slots: whether the number of reserved slots is taken when no value is given.
        is_optional: whether it is left out when no value is given; so are those after it.
        minimum, maximum: the range of a number, both included.
        choices: when not empty, the only values that are allowed.
        description: for people.
    """

    name: str
    type: ParameterType = ParameterType.TEXT
    default: str | None = None
    is_slots: bool = False
    is_optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    description: str | None = None

    def takes(self, value: object) -> bool:
        """Return whether a value, as JSON or TOML gives it, may be given; numbers as text too.

        >>> Parameter(name="N_PROC", type=ParameterType.INTEGER, minimum=1).takes("0")
        False
        """
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return False
        text = str(value)
        if "\0" in text or (self.choices and text not in self.choices):
            return False
        if self.type is ParameterType.TEXT:
            return isinstance(value, str)
        grammar = _INTEGER if self.type is ParameterType.INTEGER else _NUMBER
        return grammar.fullmatch(text) is not None and self._is_in_range(float(text))

    def _is_in_range(self, number: float) -> bool:
        least = -math.inf if self.minimum is None else self.minimum
        most = math.inf if self.maximum is None else self.maximum
        return math.isfinite(number) and least <= number <= most

    def wanted(self) -> str:
        """Return what it takes, in words."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        kind = _IN_WORDS[self.type]
        if self.minimum is not None and self.maximum is not None:
            return f"{kind} from {self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f"{kind}, at least {self.minimum:g}"
        if self.maximum is not None:
            return f"{kind}, at most {self.maximum:g}"
        return kind


class ProgramKey(NamedTuple):
    """The owner of a program's id, whatever else is installed.

    Attributes:
        id_prefix: what its id begins with: ``NW``. The number after it belongs to this program
            among all with the same prefix.
    """

    id_prefix: str
    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One installed version of one program, as it was found.

    Attributes:
        id_prefix: what its id begins with: ``NW``.
        directory: where it is installed.
        is_managed: whether the site looks after it.
        script: what the scheduler runs.
        words: what the script gets before the arguments.
        parameters: the arguments that it expects, in order.
        is_default: whether it is the version to take when none is named; None if unknown.
    """

    id_prefix: str
    name: str
    version: str
    directory: str
    is_managed: bool = True
    script: str
    words: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    is_default: bool | None = None

    @property
    def key(self) -> ProgramKey:
        """Return what its id belongs to."""
        return ProgramKey(self.id_prefix, self.name, self.version)

    @property
    def executable_path(self) -> str:
        """Return the script and its first words, before the arguments, with blanks between."""
        return " ".join((self.script, *self.words))


@dataclass(frozen=True, slots=True)
class Program:
    """An installation and its id, which stays when other versions come and go."""

    program_id: str
    installation: Installation
