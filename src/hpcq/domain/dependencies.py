"""Whether a job that another one waits for still stands in its way."""

from enum import Enum

from hpcq.domain.jobs import DependencyCondition, JobRecord
from hpcq.domain.states import JobState

__all__ = ["Standing", "standing"]


class Standing(Enum):
    """How a dependency stands."""

    OPEN = "open"
    FULFILLED = "fulfilled"
    IMPOSSIBLE = "impossible"


_NEEDED = {
    DependencyCondition.SUCCESS: JobState.DONE,
    DependencyCondition.FAILURE: JobState.FAILED,
}


def standing(record: JobRecord, condition: DependencyCondition) -> Standing:
    """Return how a dependency on this job stands; only an end settles it."""
    if not record.state.is_final:
        return Standing.OPEN
    if _NEEDED.get(condition, record.state) is record.state:
        return Standing.FULFILLED
    return Standing.IMPOSSIBLE
