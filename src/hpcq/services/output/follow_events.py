"""Events of a followed output, in the order in which its reader gets them."""

from dataclasses import dataclass

from hpcq.domain.jobs import JobRecord

__all__ = ["Ended", "Piece", "Restarted", "Waiting"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the output, and the offset at which they begin."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Restarted:
    """The file was cut, or another one has its name: what follows begins at its beginning."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A while without anything new."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is over, and its output was read to the end.

    Attributes:
        record: the job, as it ended.
        missing: why there is no output; None if there was.
    """

    record: JobRecord
    missing: str | None
