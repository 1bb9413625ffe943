"""Answers that need not be sent whole: what the caller has already, and what it can unpack."""

import re

__all__ = ["SMALLEST_PACKED_BYTES", "accepts_gzip", "is_known"]

# Below this a packed answer saves nothing.
SMALLEST_PACKED_BYTES = 1024
_NOT_ACCEPTED = re.compile(r"q=0(?:\.0{0,3})?")


def is_known(tag: str, if_none_match: str) -> bool:
    """Return whether the caller has this version, by a weak comparison (RFC 9110, 8.8.3.2)."""
    known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return tag.removeprefix("W/") in known or "*" in known


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a request's ``Accept-Encoding`` lets gzip through (RFC 9110, 12.5.3)."""
    weights = {}
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        weights[coding.strip()] = _NOT_ACCEPTED.fullmatch(parameters.replace(" ", "")) is None
    return weights.get("gzip", weights.get("*", False))
