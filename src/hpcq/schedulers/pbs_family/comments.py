"""Meanings of the comments that the schedulers of Torque and PBS put on a waiting job.

Source: the table ``fctt`` of OpenPBS's ``src/scheduler/job_info.cpp``; Torque's pbs_sched descends
from the same, and prints the same for what both know. Maui and Moab write no comments.
"""

import re

from hpcq.domain.states import ReasonCode

__all__ = ["reason_in"]

_MEANINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), code)
    for pattern, code in (
        (r"^Can Never Run|Not enough total nodes", ReasonCode.CANNOT_RUN),
        (r"^job held, too many failed attempts", ReasonCode.HELD_BY_SYSTEM),
        (r"Queue not (?:started|an execution queue)", ReasonCode.QUEUE_CLOSED),
        (
            r"limit (?:has been )?reached|has reached .*limit|would exceed .* limit",
            ReasonCode.LIMIT_REACHED,
        ),
        (
            r"top job|strict sorted order|starving job|a confirmed reservation",
            ReasonCode.WAITING_FOR_PRIORITY,
        ),
        (r"dedicated time|primetime|will cross into", ReasonCode.NOT_BEFORE_TIME),
        (r"Node is in an ineligible state", ReasonCode.NODES_UNAVAILABLE),
        (
            r"Insufficient amount of|Not enough (?:free nodes|of the right type of nodes)"
            r"|No available resources|too few free resources|node is in use",
            ReasonCode.WAITING_FOR_RESOURCES,
        ),
    )
)


def reason_in(comment: str | None) -> ReasonCode | None:
    """Return the meaning of a waiting job's comment; None for one that is not known."""
    if not comment:
        return None
    return next((code for pattern, code in _MEANINGS if pattern.search(comment)), None)
