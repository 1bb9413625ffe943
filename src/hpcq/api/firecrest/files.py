"""The files of FirecREST that this service has: the output of jobs."""

import asyncio
import functools
from collections.abc import Mapping
from typing import Annotated

from fastapi import Query
from fastapi.responses import Response
from fastapi.routing import APIRouter
from pydantic import Field

from hpcq.api.context import Context, ContextDependency, PrincipalDependency
from hpcq.api.file_answers import file_answer
from hpcq.api.firecrest.route import FirecrestRoute, SystemName, check_system
from hpcq.api.problems import responses
from hpcq.api.requests import RequestModel
from hpcq.domain.errors import InvalidSpec, NoSuchFile
from hpcq.domain.jobs import JobRecord
from hpcq.domain.outputs import Stream, output_path
from hpcq.domain.principals import Principal
from hpcq.execution.opened import OpenedFile

__all__ = ["router"]

_VIEWED_BYTES = 5 * 2**20
_LINES = 10

router = APIRouter(prefix="/firecrest", tags=["FirecREST"], route_class=FirecrestRoute)


class FileQuery(RequestModel):
    """The output that is wanted."""

    path: str = Field(max_length=4096, description="The path of a job's output or error file.")


class StatusQuery(FileQuery):
    """The output whose size is wanted."""

    dereference: bool = Field(default=False, description="No link is followed, whatever it says.")


class HeadQuery(FileQuery):
    """The beginning that is wanted."""

    bytes: int | None = Field(default=None, ge=1, le=_VIEWED_BYTES)
    lines: int | None = Field(default=None, ge=1, le=100_000)
    skip_trailing: bool = Field(default=False, alias="skipTrailing")


class TailQuery(FileQuery):
    """The end that is wanted."""

    bytes: int | None = Field(default=None, ge=1, le=_VIEWED_BYTES)
    lines: int | None = Field(default=None, ge=1, le=100_000)
    skip_heading: bool = Field(default=False, alias="skipHeading")


@router.get(
    "/filesystem/{systemName}/ops/view",
    operation_id="firecrestView",
    summary="Read a job's output",
    responses=responses(403, 404, 503),
)
async def view(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    query: Annotated[FileQuery, Query()],
) -> Mapping[str, object]:
    """Read the output of a job, at most 5 MB of it."""
    file = await _open(context, principal, system, query.path)
    with context.output_readers.admit(principal):
        content = await _read(context, file, 0, _VIEWED_BYTES)
        return {"output": content.decode("utf-8", "replace")}


@router.get(
    "/filesystem/{systemName}/ops/head",
    operation_id="firecrestHead",
    summary="Read the beginning of a job's output",
    responses=responses(400, 403, 404, 503),
)
async def head(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    query: Annotated[HeadQuery, Query()],
) -> Mapping[str, object]:
    """Read the first bytes or lines of a job's output, ten lines unless told."""
    file = await _open(context, principal, system, query.path)
    with context.output_readers.admit(principal):
        content = await _read(context, file, 0, _VIEWED_BYTES)
        at = _cut_at(content, query.bytes, query.lines, from_end=query.skip_trailing)
        return _part(content[:at], query.bytes, 0)


@router.get(
    "/filesystem/{systemName}/ops/tail",
    operation_id="firecrestTail",
    summary="Read the end of a job's output",
    responses=responses(400, 403, 404, 503),
)
async def tail(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    query: Annotated[TailQuery, Query()],
) -> Mapping[str, object]:
    """Read the last bytes or lines of a job's output, ten lines unless told."""
    file = await _open(context, principal, system, query.path)
    with context.output_readers.admit(principal):
        size = (await context.job_files.read(file, OpenedFile.status)).st_size
        begin = 0 if query.skip_heading else max(0, size - _VIEWED_BYTES)
        content = await _read(context, file, begin, _VIEWED_BYTES)
        at = _cut_at(content, query.bytes, query.lines, from_end=not query.skip_heading)
        return _part(content[at:], query.bytes, begin + at)


@router.get(
    "/filesystem/{systemName}/ops/stat",
    operation_id="firecrestStat",
    summary="Read the status of a job's output",
    responses=responses(403, 404, 503),
)
async def stat(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    query: Annotated[StatusQuery, Query()],
) -> Mapping[str, object]:
    """Read the size and the times of a job's output."""
    file = await _open(context, principal, system, query.path)
    found = await context.job_files.read(file, OpenedFile.status)
    names = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "ctime", "mtime")
    return {"output": {name: int(getattr(found, f"st_{name}")) for name in names}}


@router.get(
    "/filesystem/{systemName}/ops/download",
    operation_id="firecrestDownload",
    summary="Download a job's output",
    response_class=Response,
    responses=responses(403, 404, 503),
)
async def download(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    query: Annotated[FileQuery, Query()],
) -> Response:
    """Download the output of a job, byte for byte."""
    file = await _open(context, principal, system, query.path)
    return await file_answer(
        context.job_files,
        file,
        functools.partial(context.output_readers.admit, principal),
        {"Content-Type": "application/octet-stream"},
        asked=None,
    )


async def _open(context: Context, principal: Principal, system: str, path: str) -> OpenedFile:
    """Open the output of the newest job that writes to a path."""
    check_system(context, system)
    listing = context.table.view(principal.view)
    entries = await listing.in_order()
    found = await asyncio.to_thread(_find_writer, [entry.record for entry in entries], path)
    if found is None:
        raise NoSuchFile(
            f"No job of the listing that you may read writes to {path!r}. This service shows the "
            "output of jobs, and no other files."
        )
    record, stream = found
    record = await context.job_files.find(principal, str(record.uid))
    return await context.job_files.open_output(record, stream)


def _find_writer(records: list[JobRecord], path: str) -> tuple[JobRecord, Stream] | None:
    streams: tuple[Stream, ...] = ("stdout", "stderr")
    for record in reversed(records):
        for stream in streams:
            if output_path(record, stream) == path:
                return record, stream
    return None


async def _read(context: Context, file: OpenedFile, offset: int, most: int) -> bytes:
    return await context.job_files.read(file, lambda file: file.read(offset, most))


def _cut_at(content: bytes, size: int | None, lines: int | None, *, from_end: bool) -> int:
    """Return the place at which the first bytes or lines end, or the last ones begin.

    Raises:
        InvalidSpec: bytes and lines are both asked for.
    """
    if size is not None and lines is not None:
        raise InvalidSpec("Give bytes or lines, not both.", field="bytes")
    if size is not None:
        return max(0, len(content) - size) if from_end else min(size, len(content))
    left, at = lines or _LINES, len(content) if from_end else 0
    if from_end:
        # A line feed at the very end begins no further line.
        at -= content.endswith(b"\n")
        while left and at >= 0:
            at, left = content.rfind(b"\n", 0, at), left - 1
        return at + 1
    while left and at < len(content):
        found = content.find(b"\n", at)
        at, left = len(content) if found < 0 else found + 1, left - 1
    return at


def _part(content: bytes, size: int | None, begin: int) -> Mapping[str, object]:
    return {
        "output": {
            "content": content.decode("utf-8", "replace"),
            "contentType": "lines" if size is None else "bytes",
            "startPosition": begin,
            "endPosition": begin + len(content),
        }
    }
