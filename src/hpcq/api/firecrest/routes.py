"""The routes of FirecREST 2: systems, jobs, and the output of jobs."""

import asyncio
import functools
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any

from fastapi import Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute, APIRouter
from pydantic import Field, ValidationError
from starlette.exceptions import HTTPException

from hpcq.api.context import Context, ContextDependency, PrincipalDependency
from hpcq.api.file_answers import file_answer
from hpcq.api.firecrest.shapes import (
    FirecrestSubmission,
    job_of,
    metadata_of,
    node_of,
    partition_of,
)
from hpcq.api.problems import plain_problem, problem_of, responses
from hpcq.api.requests import BodyRoute, RequestModel, below_root
from hpcq.api.routers.jobs import JobId
from hpcq.domain.errors import (
    HpcqError,
    InvalidSpec,
    JobNotFound,
    NoSuchFile,
    SubmissionUnclear,
    UnsupportedCapability,
)
from hpcq.domain.jobs import JobRecord
from hpcq.domain.outputs import Stream, output_path
from hpcq.domain.principals import Principal
from hpcq.domain.units import now
from hpcq.execution.opened import OpenedFile
from hpcq.services.listing.job_table import JobEntry, as_list
from hpcq.services.listing.wire import WireFormat

__all__ = ["VERSION", "router"]

VERSION = "2.6.0"
"""The version of FirecREST whose routes and fields these are."""

_VIEWED_BYTES = 5 * 2**20
_LINES = 10
# Clients look for these words.
_WORDS: tuple[tuple[type[HpcqError], str], ...] = (
    (JobNotFound, "Job not found. "),
    (NoSuchFile, "No such file or directory: "),
)


class FirecrestRoute(BodyRoute):
    """A route whose answers and errors also have what FirecREST's clients look at."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_as_firecrest(request: Request) -> Response:
            words = ""
            try:
                answer = await handle(request)
            except HpcqError as error:
                words = next((words for kind, words in _WORDS if isinstance(error, kind)), "")
                answer = problem_of(error)
            except HTTPException as error:
                answer = plain_problem(error.status_code, str(error.detail))
            if answer.status_code >= 400:
                problem = json.loads(bytes(answer.body))
                problem |= {"errorType": "error", "message": words + problem["detail"]}
                headers = dict(answer.headers)
                headers.pop("content-length")
                answer = JSONResponse(problem, answer.status_code, headers)
            answer.headers["f7t-appversion"] = VERSION
            return answer

        return handle_as_firecrest


router = APIRouter(prefix="/firecrest", tags=["FirecREST"], route_class=FirecrestRoute)

SystemName = Annotated[str, Path(alias="systemName", description="The deployment's `CLUSTER_ID`.")]


class JobsQuery(RequestModel):
    """The jobs that are wanted."""

    allusers: bool = False
    account: str | None = None
    name: str | None = None
    time_window: str | None = Field(
        default=None,
        alias="time_window",
        description="Not here: jobs that ended within a day are listed.",
    )


class FileQuery(RequestModel):
    """The output that is wanted."""

    path: str = Field(max_length=4096, description="The path of a job's output or error file.")


class StatusQuery(FileQuery):
    """The output whose size is wanted."""

    dereference: bool = False


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
    "/status/systems",
    operation_id="firecrestSystems",
    summary="List systems",
    responses=responses(503),
)
async def list_systems(context: ContextDependency) -> Mapping[str, object]:
    """List the one system that this service is in front of."""
    freshness = context.table.freshness(now(), context.stale_after)
    health = {
        "serviceType": "scheduler",
        "lastChecked": None if freshness.as_of is None else freshness.as_of.isoformat(),
        "healthy": not freshness.stale,
    }
    system = {
        "name": context.wire.cluster_id,
        "ssh": None,
        "scheduler": {
            "type": context.scheduler.lower(),
            "version": await context.cluster.version(),
        },
        "servicesHealth": [health],
        "fileSystems": [],
    }
    return {"systems": [system]}


@router.get(
    "/status/{systemName}/nodes",
    operation_id="firecrestNodes",
    summary="List nodes",
    responses=responses(404, 502, 503, 504),
)
async def list_nodes(context: ContextDependency, system: SystemName) -> Mapping[str, object]:
    """List the hosts."""
    _check_system(context, system)
    return {"nodes": [node_of(node) for node in (await context.cluster.nodes()).answer]}


@router.get(
    "/status/{systemName}/partitions",
    operation_id="firecrestPartitions",
    summary="List partitions",
    responses=responses(404, 502, 503, 504),
)
async def list_partitions(context: ContextDependency, system: SystemName) -> Mapping[str, object]:
    """List the queues."""
    _check_system(context, system)
    nodes = (await context.cluster.nodes()).answer
    queues = (await context.cluster.queues()).answer
    return {"partitions": [partition_of(queue, nodes) for queue in queues]}


@router.post(
    "/compute/{systemName}/jobs",
    status_code=201,
    operation_id="firecrestSubmitJob",
    summary="Submit a job",
    responses=responses(400, 403, 404, 409, 413, 429, 501, 502, 503, 504),
)
async def submit_job(
    body: FirecrestSubmission,
    request: Request,
    response: Response,
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
) -> Mapping[str, object]:
    """Hand a script to the scheduler."""
    _check_system(context, system)
    try:
        submission = body.job.to_submission(is_slurm=context.scheduler == "SLURM")
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
    spec = submission.to_spec(context.wire.cluster_id)
    record = (await context.jobs.submit(principal, spec)).record
    root = request.scope.get("root_path", "")
    response.headers["Location"] = f"{root}/jobs/{record.native_id or record.uid}"
    if record.native_id is None:
        raise SubmissionUnclear(
            f"It is not known yet whether the scheduler took the job. If it did, the job "
            f"{record.uid} shows it; look before you submit it again."
        )
    number = str(record.native_id)
    return {"jobId": int(number) if number.isdecimal() else number}


@router.get(
    "/compute/{systemName}/jobs",
    operation_id="firecrestJobs",
    summary="List jobs",
    responses=responses(404, 501, 503),
)
async def list_jobs(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    query: Annotated[JobsQuery, Query()],
) -> Mapping[str, object]:
    """List the caller's jobs, or all that the caller may see."""
    _check_system(context, system)
    if query.time_window is not None:
        raise UnsupportedCapability(
            "time_window",
            context.scheduler,
            "This service lists jobs that ended within the last day, and takes no time_window. "
            "GET /jobs?endedAfter=… looks further back.",
        )
    listing = context.table.view(None if principal.sees_all else principal.user)
    shown = [
        entry
        for entry in await listing.in_order()
        if query.allusers or principal.owns(entry.record)
    ]
    jobs = await asyncio.to_thread(_jobs, context, shown)
    return {
        "jobs": [
            job_of(job)
            for job in jobs
            if query.account in (None, job["account"]) and query.name in (None, job["name"])
        ]
    }


@router.get(
    "/compute/{systemName}/jobs/{jobId}",
    operation_id="firecrestJob",
    summary="Read a job",
    responses=responses(404, 502, 503, 504),
)
async def get_job(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    job_id: Annotated[JobId, Path(alias="jobId")],
    _query: Annotated[JobsQuery, Query()],
) -> Mapping[str, object]:
    """Read one job; of an array the array alone. The query counts for lists only."""
    _check_system(context, system)
    entry = await context.jobs.read(principal, job_id)
    return {"jobs": [job_of(job) for job in _jobs(context, [entry])]}


@router.get(
    "/compute/{systemName}/jobs/{jobId}/metadata",
    operation_id="firecrestJobMetadata",
    summary="Read the files of a job",
    responses=responses(404, 502, 503, 504),
)
async def get_metadata(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    job_id: Annotated[JobId, Path(alias="jobId")],
) -> Mapping[str, object]:
    """Read where a job writes."""
    _check_system(context, system)
    entry = await context.jobs.read(principal, job_id)
    return {"jobs": [metadata_of(job) for job in _jobs(context, [entry])]}


@router.delete(
    "/compute/{systemName}/jobs/{jobId}",
    status_code=204,
    response_class=Response,
    operation_id="firecrestCancelJob",
    summary="Cancel a job",
    responses=responses(403, 404, 409, 502, 503, 504),
)
async def cancel_job(
    context: ContextDependency,
    principal: PrincipalDependency,
    system: SystemName,
    job_id: Annotated[JobId, Path(alias="jobId")],
) -> None:
    """End a job that is queued or running; one that is over stays as it is."""
    _check_system(context, system)
    record = (await context.jobs.find(principal, job_id)).record
    if not (record.state.is_final and principal.may_change(record)):
        await context.jobs.cancel(principal, job_id)


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
    content = await _read(context, file, 0, _VIEWED_BYTES)
    at = _place(content, query.bytes, query.lines, from_end=query.skip_trailing)
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
    size = await _size(context, file)
    begin = 0 if query.skip_heading else max(0, size - _VIEWED_BYTES)
    content = await _read(context, file, begin, _VIEWED_BYTES)
    at = _place(content, query.bytes, query.lines, from_end=not query.skip_heading)
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


async def other(request: Request) -> Response:
    """Refuse by name what FirecREST has and this service has not."""
    path = request.url.path[:200]
    here = below_root(request.scope)
    if any(isinstance(one, APIRoute) and one.path_regex.match(here) for one in router.routes):
        raise HTTPException(405)
    raise UnsupportedCapability(
        path, "FirecREST", f"This service has no {path}. /help/firecrest.html lists what it has."
    )


router.add_route("/firecrest/{rest:path}", other, ["GET", "POST", "PUT", "DELETE"])


def _check_system(context: Context, name: str) -> None:
    if name != context.wire.cluster_id:
        raise HTTPException(
            404, f"There is no system {name!r}; this service has {context.wire.cluster_id!r}."
        )


def _jobs(context: Context, entries: list[JobEntry]) -> list[Mapping[str, Any]]:
    """Return jobs as this service's own API answers them, whatever its compatibility."""
    freshness = context.table.freshness(now(), context.stale_after)
    wire = WireFormat(context.wire.cluster_id)
    plain = [JobEntry(entry.record, wire, None, entry.tasks) for entry in entries]
    found: list[Mapping[str, Any]] = json.loads(b"".join(as_list(plain, freshness, usage=False)))
    return found


async def _open(context: Context, principal: Principal, system: str, path: str) -> OpenedFile:
    """Open the output of the newest job that writes to a path."""
    _check_system(context, system)
    listing = context.table.view(None if principal.sees_all else principal.user)
    entries = await listing.in_order()
    found = await asyncio.to_thread(_writer, [entry.record for entry in entries], path)
    if found is None:
        raise NoSuchFile(
            f"No job of the listing that you may read writes to {path!r}. This service shows the "
            "output of jobs, and no other files."
        )
    record, stream = found
    record = await context.job_files.find(principal, str(record.uid))
    return await context.job_files.open_output(record, stream)


def _writer(records: list[JobRecord], path: str) -> tuple[JobRecord, Stream] | None:
    streams: tuple[Stream, ...] = ("stdout", "stderr")
    for record in reversed(records):
        for stream in streams:
            if output_path(record, stream) == path:
                return record, stream
    return None


async def _size(context: Context, file: OpenedFile) -> int:
    return (await context.job_files.read(file, OpenedFile.status)).st_size


async def _read(context: Context, file: OpenedFile, offset: int, most: int) -> bytes:
    return await context.job_files.read(file, lambda file: file.read(offset, most))


def _place(content: bytes, size: int | None, lines: int | None, *, from_end: bool) -> int:
    """Return where so many bytes or lines end, or begin if they are counted from the end.

    Raises:
        InvalidSpec: bytes and lines are both asked for.
    """
    if size is not None and lines is not None:
        raise InvalidSpec("Give bytes or lines, not both.", field="bytes")
    if size is not None:
        return max(0, len(content) - size) if from_end else min(size, len(content))
    whole = content.splitlines(keepends=True)
    count = min(lines or _LINES, len(whole))
    return sum(map(len, whole[: len(whole) - count] if from_end else whole[:count]))


def _part(content: bytes, size: int | None, begin: int) -> Mapping[str, object]:
    return {
        "output": {
            "content": content.decode("utf-8", "replace"),
            "contentType": "lines" if size is None else "bytes",
            "startPosition": begin,
            "endPosition": begin + len(content),
        }
    }
