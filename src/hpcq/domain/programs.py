"""A program that users can run."""

from dataclasses import dataclass
from typing import NamedTuple

from hpcq.domain.parameters import Parameter

__all__ = ["Installation", "Program", "ProgramKey"]


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
        words: what the script is told before the arguments.
        parameters: the arguments that it expects, in order.
        is_default: whether it is the version to take when none is named; None when nobody says.
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
