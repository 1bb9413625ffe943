"""``/jobs/{jobId}/output`` and ``/files``: what a job wrote."""

import functools
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import Field
from starlette.convertors import PathConvertor, register_url_convertor

from hpcq.api.context import ContextDependency, PrincipalDependency
from hpcq.api.file_answers import attachment, file_answer, follow_answer
from hpcq.api.problems import responses
from hpcq.api.requests import NoQuery, RequestModel
from hpcq.api.routers.jobs import JobId
from hpcq.api.schemas import FileOut, FolderOut
from hpcq.api.streamed_answers import while_allowed
from hpcq.domain.principals import Principal

__all__ = ["router"]

router = APIRouter(tags=["output"])


class FilePathConvertor(PathConvertor):
    """A path in a route that may hold line breaks, as the names of files may."""

    regex = r"[\s\S]*"


register_url_convertor("file", FilePathConvertor())

RangeHeader = Annotated[
    str | None,
    Header(alias="Range", max_length=200, description="One range of bytes: `bytes=0-1023`."),
]
_CONTENT = {"schema": {"type": "string", "format": "binary"}}
_PARTS = {
    206: {"description": "The bytes that `Range` asked for.", "content": {"*/*": _CONTENT}},
    **responses(403, 404, 416, 503),
}


class OutputQuery(RequestModel):
    """The query parameters of an output."""

    stream: Literal["stdout", "stderr"] = "stdout"
    tail: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Begin with so many of the last lines, at most 4 MiB before the end.",
    )
    follow: bool = Field(
        default=False, description="Answer with server-sent events until the job is over."
    )


class FilesQuery(RequestModel):
    """The query parameters of a list of files."""

    path: str = Field(
        default="",
        max_length=4096,
        description="The folder, below the working directory.",
        examples=["results"],
    )


@router.get(
    "/jobs/{jobId}/output",
    operation_id="getJobOutput",
    summary="Read a job's output",
    response_class=Response,
    responses={
        200: {
            "description": "The output, byte for byte; or events.",
            "content": {"text/plain": _CONTENT, "text/event-stream": {}},
        },
        **_PARTS,
    },
)
async def get_job_output(
    request: Request,
    context: ContextDependency,
    principal: PrincipalDependency,
    job_id: Annotated[JobId, Path(alias="jobId")],
    query: Annotated[OutputQuery, Query()],
    asked_range: RangeHeader = None,
    last_event_id: Annotated[
        str | None,
        Header(
            pattern="^[0-9]{1,18}$",
            description="With `follow`: the offset from which on events are wanted again.",
        ),
    ] = None,
) -> Response:
    """Read what a job wrote to its standard output or error, while it runs and after.

    404 while there is no file. `Range` is not looked at with `tail` or `follow`. The data of an
    event is `{"text"}`, with U+FFFD for what is not UTF-8; its id is the offset behind it. The
    event `restart` tells that the file was cut or replaced and is read from its beginning, and
    `end` that the job is over and all was sent.
    """
    files = context.job_files
    record = await files.find(principal, job_id)
    admit = functools.partial(context.output_readers.admit, principal)
    if query.follow:
        files.output_path(record, query.stream)
        offset = None if last_event_id is None else int(last_event_id)
        followed = context.followers.follow(record, query.stream, offset=offset, tail=query.tail)

        async def check(now: Principal) -> None:
            await files.find(now, str(record.uid))

        return follow_answer(while_allowed(followed, request, context, check), admit())
    file = await files.open_output(record, query.stream)
    begin = 0 if query.tail is None else await files.tail_offset(file, query.tail)
    return await file_answer(
        files,
        file,
        admit,
        {"Content-Type": "text/plain; charset=utf-8"},
        asked=_range(request, None if query.tail is not None else asked_range),
        begin=begin,
    )


@router.get(
    "/jobs/{jobId}/files",
    operation_id="listJobFiles",
    summary="List a job's files",
    responses=responses(403, 404, 503),
)
async def list_job_files(
    context: ContextDependency,
    principal: PrincipalDependency,
    job_id: Annotated[JobId, Path(alias="jobId")],
    query: Annotated[FilesQuery, Query()],
) -> FolderOut:
    """List the working directory of a job, or a folder in it. Links are listed, not followed."""
    record = await context.job_files.find(principal, job_id)
    folder = await context.job_files.list_folder(record, query.path)
    return FolderOut(
        path=query.path,
        entries=[
            FileOut(
                name=entry.name,
                kind=entry.kind,
                size=entry.size,
                modified=None if entry.modified is None else context.wire.time(entry.modified),
            )
            for entry in folder.entries
        ],
        is_complete=folder.is_complete,
    )


@router.get(
    "/jobs/{jobId}/files/{path:file}",
    operation_id="getJobFile",
    summary="Read a job's file",
    response_class=Response,
    responses={
        200: {
            "description": "The file, byte for byte.",
            "content": {"application/octet-stream": _CONTENT},
        },
        **_PARTS,
    },
)
async def get_job_file(
    request: Request,
    context: ContextDependency,
    principal: PrincipalDependency,
    job_id: Annotated[JobId, Path(alias="jobId")],
    path: Annotated[
        str, Path(description="Below the working directory.", examples=["results/out.csv"])
    ],
    _query: Annotated[NoQuery, Query()],
    asked_range: RangeHeader = None,
) -> Response:
    """Read a file below the working directory of a job."""
    files = context.job_files
    record = await files.find(principal, job_id)
    file = await files.open_file(record, path)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": attachment(path.rpartition("/")[2]),
    }
    return await file_answer(
        files,
        file,
        functools.partial(context.output_readers.admit, principal),
        headers,
        asked=_range(request, asked_range),
    )


def _range(request: Request, asked: str | None) -> str | None:
    """Return the range that counts: none with ``If-Range``, for no version here has a name."""
    return None if "if-range" in request.headers else asked
