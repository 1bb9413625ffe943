"""Comments of the schedulers of Torque and PBS on waiting jobs."""

import pytest

from hpcq.domain.states import ReasonCode
from hpcq.schedulers.pbs_family.comments import reason_in


@pytest.mark.parametrize(
    ("comment", "code"),
    [
        # Recorded: Torque 6.1.3, OpenPBS 23.06.06.
        (
            "Not Running: Not enough of the right type of nodes are available",
            ReasonCode.WAITING_FOR_RESOURCES,
        ),
        ("Not Running: Not enough free nodes available", ReasonCode.WAITING_FOR_RESOURCES),
        ("Not Running: Queue not started.", ReasonCode.QUEUE_CLOSED),
        ("Not Running - PBS Error: Unknown node-attribute ", None),
        # Of the source.
        (
            "Not Running: Job would conflict with reservation or top job",
            ReasonCode.WAITING_FOR_PRIORITY,
        ),
        ("Not Running: Queue workq job limit has been reached.", ReasonCode.LIMIT_REACHED),
        ("Not Running: User has reached server running job limit.", ReasonCode.LIMIT_REACHED),
        (
            "Not Running: would exceed user ana's limit on resource ncpus in complex",
            ReasonCode.LIMIT_REACHED,
        ),
        (
            "Not Running: Job would cross dedicated time boundary",
            ReasonCode.NOT_BEFORE_TIME,
        ),
        ("Can Never Run: Not enough total nodes available", ReasonCode.CANNOT_RUN),
        ("job held, too many failed attempts to run", ReasonCode.HELD_BY_SYSTEM),
        ("Something new", None),
        ("", None),
        (None, None),
    ],
)
def test_comment_reason_code(comment: str | None, code: ReasonCode | None) -> None:
    assert reason_in(comment) is code
