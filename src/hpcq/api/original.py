"""The documentation of what ``COMPATIBILITY=original`` changes."""

import json
import re
from typing import Any

from hpcq.api.job_submission import ArrayIn, DependencyIn, JobSubmission

__all__ = ["as_original"]

_ABOUT = """
This service answers clients of the original implementation (`COMPATIBILITY=original`): times in
bodies are local times without a zone, the listing holds active jobs only, and what is not known
in a request, be it a field or a query parameter, is ignored.
"""
_LOCAL_TIME = {
    "type": "string",
    "format": "date-time-local",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?$",
    "description": "The service's local time; microseconds where there are any.",
}
_MEANINGS = {
    ("Job", "startTime"): "When it started; when it was submitted, as long as it has not.",
    ("Job", "lastStatusUpdateTime"): "When the scheduler last confirmed the status.",
    ("JobSubmission", "clusterId"): "Accepted and ignored.",
}
_LISTING = "List the jobs that have not ended: the whole queue."
_TIME_IN_EXAMPLE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{3}Z")


def as_original(schema: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI schema as it is for clients of the original implementation."""
    original: dict[str, Any] = json.loads(
        _TIME_IN_EXAMPLE.sub(r"\1", json.dumps(schema)), object_hook=_with_local_times
    )
    original["info"]["description"] += _ABOUT
    listing = original["paths"]["/jobs"]["get"]
    _, _, rest = listing["description"].partition("\n")
    listing["description"] = f"{_LISTING}\n{rest}"
    components = original["components"]["schemas"]
    for model in (JobSubmission, DependencyIn, ArrayIn):
        components[model.__name__]["additionalProperties"] = True
    for (name, field), meaning in _MEANINGS.items():
        components[name]["properties"][field]["description"] = meaning
    return original


def _with_local_times(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("format") != "date-time":
        return part
    return {**_LOCAL_TIME, **part, "format": _LOCAL_TIME["format"]}
