"""What one look at the installed programs has found."""

from dataclasses import dataclass

from hpcq.domain.programs import Installation

__all__ = ["Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The programs and, beside them, what could not be read.

    Attributes:
        installations: in the order of the version names.
        problems: a sentence for each thing that was left out.
    """

    installations: tuple[Installation, ...]
    problems: tuple[str, ...] = ()
