"""What one look at the installed programs has found."""

from dataclasses import dataclass

from hpcq.domain.programs import Installation

__all__ = ["AS_LAST", "Reading"]

# Follows a problem that hides nothing.
AS_LAST = " What was last known is listed."


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The programs and, beside them, what could not be read.

    Attributes:
        installations: in the order of the version names.
        problems: a sentence for each thing that was left out, or is as it was last.
    """

    installations: tuple[Installation, ...]
    problems: tuple[str, ...] = ()
