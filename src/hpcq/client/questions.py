"""The requests to the service: the fields of a submission, and the filters of jobs."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote

__all__ = [
    "JobChanges",
    "JobFilters",
    "Submission",
    "path_part",
    "query_of",
    "submission_body",
    "wire_name",
]


class Submission(TypedDict, total=False):
    """The optional fields of a submission, as ``docs/api.md`` describes them.

    What stands in an inner object has the names of the API:
    ``array={"first": 1, "last": 12, "maxRunning": 4}``.
    """

    script: str | None
    name: str | None
    program: str | None
    program_id: str | None
    version: str | None
    program_args: Mapping[str, str | float] | None
    queue: str | None
    account: str | None
    priority: int | None
    wall_time_limit: int | None
    memory_limit: float | None
    environment: Mapping[str, str] | None
    stdout_path: str | None
    stderr_path: str | None
    hold: bool | None
    depends_on: Sequence[str | Mapping[str, str]] | None
    array: Mapping[str, int] | None
    nodes: int | None
    slots_per_node: int | None
    cpus_per_task: int | None
    gpus: int | Mapping[str, Any] | None
    exclusive: bool | None
    qos: str | None
    project: str | None
    reservation: str | None
    constraints: Sequence[str] | None
    mail_to: str | None
    mail_on: Sequence[str] | None
    options: Sequence[str] | None


class JobChanges(TypedDict, total=False):
    """The fields of a queued job that can be changed; None takes one back."""

    name: str
    queue: str | None
    account: str | None
    priority: int | None
    wall_time_limit: int | None
    memory_limit: float | None


class JobFilters(TypedDict, total=False):
    """The filters of a listing; a job has to fit all. None is no filter.

    `state`, `status`, `owner` and `queue` take one value or several.
    """

    state: str | Iterable[str] | None
    status: str | Iterable[str] | None
    owner: str | Iterable[str] | None
    queue: str | Iterable[str] | None
    name: str | None
    program: str | None
    working_directory: str | None
    array_job_id: str | None
    submitted_after: datetime | None
    submitted_before: datetime | None
    ended_after: datetime | None
    ended_before: datetime | None
    text: str | None
    active: bool | None


def submission_body(
    script_file: str | Path | None,
    args: Sequence[str | float],
    slots: int,
    working_directory: str | Path | None,
    fields: Mapping[str, object],
) -> dict[str, object]:
    """Return the body of a submission, without what is None or empty."""
    given = {
        "working_directory": str(Path(working_directory or "").absolute()),
        "reserved_slots": slots,
        "script_file": None if script_file is None else str(Path(script_file).absolute()),
        "args": list(args) or None,
        **fields,
    }
    return {wire_name(name): value for name, value in given.items() if value is not None}


def query_of(fields: Mapping[str, object]) -> dict[str, str]:
    """Return query parameters under the API's names, without those that are None.

    >>> query_of({"state": ["DONE", "FAILED"], "owner": None})
    {'state': 'DONE,FAILED'}
    """
    return {wire_name(name): _text(value) for name, value in fields.items() if value is not None}


def wire_name(name: str) -> str:
    """Return the API's name of a field of a request.

    >>> wire_name("slots_per_node")
    'slotsPerNode'
    """
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case datetime():
            return (value if value.tzinfo else value.astimezone()).isoformat()
        case str() | int():
            return str(value)
        case Iterable():
            return ",".join(map(str, value))
    raise TypeError(f"{value!r} cannot stand in a query")


def path_part(text: str) -> str:
    """Return a name as one part of a path in a URL, whatever characters it has.

    >>> path_part("a/b"), path_part("..")
    ('a%2Fb', '%2E%2E')
    """
    # httpx follows these two itself: the request would go to another route.
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")
