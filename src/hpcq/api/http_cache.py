"""Headers that tell the age of an answer, and answers that need not be sent whole."""

import re

from hpcq.domain.units import format_time
from hpcq.services.listing.job_entry import Freshness

__all__ = ["SMALLEST_PACKED_BYTES", "accepts_gzip", "age_headers", "is_known"]

# Below this a packed answer saves nothing.
SMALLEST_PACKED_BYTES = 1024
_NOT_ACCEPTED = re.compile(r"q=0(?:\.0{0,3})?")


def age_headers(freshness: Freshness) -> dict[str, str]:
    """Return the headers that tell how old an answer from memory is."""
    headers = {"X-Stale": "true" if freshness.stale else "false", "Cache-Control": "no-cache"}
    if freshness.as_of is not None:
        headers["X-As-Of"] = format_time(freshness.as_of)
    return headers


def is_known(tag: str, if_none_match: str) -> bool:
    """Return whether the caller has this version, by a weak comparison (RFC 9110, 8.8.3.2).

    >>> is_known('"v1"', 'W/"v1", "v2"')
    True
    """
    known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return tag.removeprefix("W/") in known or "*" in known


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a request's ``Accept-Encoding`` lets gzip through (RFC 9110, 12.5.3).

    >>> accepts_gzip("gzip;q=0, *")
    False
    """
    weights = {}
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        weights[coding.strip()] = _NOT_ACCEPTED.fullmatch(parameters.replace(" ", "")) is None
    return weights.get("gzip", weights.get("*", False))
