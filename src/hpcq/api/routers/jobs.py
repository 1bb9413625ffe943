"""``/jobs``: submit, list, read and delete."""

import asyncio
from collections import Counter
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import Field

from hpcq.api.context import Context, ContextDependency, PrincipalDependency
from hpcq.api.http_cache import SMALLEST_PACKED_BYTES, accepts_gzip, age_headers, is_known
from hpcq.api.job_query import LONGEST_PAGE, JobFilterQuery, JobQuery, criteria_of
from hpcq.api.job_submission import JobSubmission, SubmissionQuery
from hpcq.api.problems import responses
from hpcq.api.requests import BodyRoute, NoQuery, RequestModel
from hpcq.api.schemas import (
    Accepted,
    Job,
    JobCounts,
    JobList,
    PartialJobList,
    SubmissionPlanOut,
    Submitted,
    UsageList,
)
from hpcq.domain.arrays import TASKS_PATTERN, ranges_of, read_tasks
from hpcq.domain.errors import SchedulerUnavailable
from hpcq.domain.principals import Principal
from hpcq.domain.states import JobState, JobStatus
from hpcq.domain.units import now
from hpcq.services.listing.job_listing import as_list, pack
from hpcq.services.listing.pagination import AfterFound, Cursor, Page, version_of, write_cursor
from hpcq.services.listing.wire import keep_fields

__all__ = ["REPLAYED", "IdempotencyKeyHeader", "JobId", "router"]

router = APIRouter(tags=["jobs"], route_class=BodyRoute)


class DeletionQuery(RequestModel):
    """Query parameters of a deletion."""

    tasks: str | None = Field(
        default=None,
        pattern=TASKS_PATTERN,
        max_length=65_536,
        description="Only these tasks of the array.",
        examples=["3-7,9"],
    )


JobId = Annotated[
    str, Path(description="The scheduler's own id, or the permanent uid.", examples=["155"])
]
IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]([ -~]*[!-~])?$",
        description="Names this submission: printable ASCII, best a random UUID.",
    ),
]
_NEVER_HEARD = (
    "The scheduler has not answered since this service was set up, so nobody can say what is in "
    "its queue."
)
REPLAYED = {
    "Idempotent-Replayed": {
        "schema": {"type": "string", "enum": ["true"]},
        "description": "The same submission was answered before.",
    }
}
"""The header of an answer to a submission that was sent again, as the schema has it."""


@router.post(
    "/jobs",
    status_code=201,
    operation_id="submitJob",
    summary="Submit a job",
    response_model=Submitted,
    responses={
        200: {
            "model": SubmissionPlanOut,
            "description": "With `dryRun=true`: what would run. Nothing was submitted.",
        },
        201: {"headers": REPLAYED},
        202: {
            "headers": REPLAYED,
            "model": Submitted,
            "description": "It is not known yet whether the scheduler took the job. It will run "
            "once; `Location` tells how it stands.",
        },
        **responses(400, 403, 409, 413, 429, 501, 502, 503, 504),
    },
)
async def submit_job(
    body: JobSubmission,
    request: Request,
    response: Response,
    context: ContextDependency,
    principal: PrincipalDependency,
    query: Annotated[SubmissionQuery, Query()],
    idempotency_key: IdempotencyKeyHeader = None,
) -> Submitted | Response:
    """Hand a script to the scheduler. The answer holds the scheduler's id and a permanent one.

    Instead of `scriptFile` and `args`, `programId` (or `program` and `version`) and `programArgs`
    run a program of `GET /programs`.

    With an `Idempotency-Key` the request can be sent again whenever its answer was lost: the
    same key and body are the same job, for as long as keys are remembered (24 hours).

    With `dryRun=true` all is checked, and nothing submitted or written: the answer tells the
    command, the script and the variables.
    """
    spec = body.to_spec(context.wire.cluster_id)
    program, depends_on = body.from_program(context.programs), body.dependency_requests()
    if query.dry_run:
        _refuse_key(idempotency_key)
        plan, planned, script = await context.submitter.plan(principal, spec, program, depends_on)
        told = SubmissionPlanOut(
            argv=list(plan.argv),
            working_directory=plan.cwd,
            directives=list(plan.directives),
            script=(plan.stdin or script).decode("utf-8", "replace"),
            is_wrapped=plan.stdin not in (b"", script),
            environment=dict(planned.environment),
        )
        return Response(told.model_dump_json(by_alias=True), media_type="application/json")
    submission = await context.submitter.submit(
        principal, spec, idempotency_key, program, depends_on
    )
    record = submission.record
    if record.native_id is None:
        response.status_code = 202
    if submission.is_replay:
        response.headers["Idempotent-Replayed"] = "true"
    where = record.native_id or record.uid
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/jobs/{where}"
    return Submitted(job_id=record.native_id and str(record.native_id), uid=str(record.uid))


@router.get(
    "/jobs",
    operation_id="listJobs",
    summary="List jobs",
    response_model=JobList | PartialJobList,
    responses={
        200: {
            "description": "Jobs; the first to come stand first.",
            "headers": {
                "Link": {
                    "description": '`<URL>; rel="next"`: there are more jobs, and they are there.',
                    "schema": {"type": "string"},
                }
            },
        },
        304: {"description": "Nothing has changed."},
        **responses(503),
    },
)
async def list_jobs(
    request: Request,
    context: ContextDependency,
    principal: PrincipalDependency,
    query: Annotated[JobQuery, Query()],
    accept_encoding: Annotated[str, Header(include_in_schema=False)] = "",
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """List the whole queue, and the jobs submitted here that ended within the last day.

    503 until the scheduler has answered for the first time, unless jobs are remembered.
    `resourceUsage` is null unless `expand=resourceUsage`. The answer comes from memory;
    `X-As-Of` and `X-Stale` tell its age. The `ETag` changes whenever anything but the passage
    of time (`elapsed`, `asOf`) does.

    Filters choose among these jobs. A filter by time, or `archived=true`, looks at all jobs that
    were submitted here, however long ago they ended.

    With `limit` the answer is a page, and the `Link` header leads to the next. It is also there
    without `limit` when more jobs ended lately than are kept in memory.
    """
    usage = query.expand is not None
    if usage:
        context.usage.mark_all_viewed()
    listing = context.table.view(principal.view)
    freshness = context.table.freshness(now(), context.stale_after)
    looks_back = query.is_search and query.looks_in_archive
    if listing.as_of is None and not looks_back and not await listing.in_order():
        raise SchedulerUnavailable(_NEVER_HEARD)
    page = await _page(context, principal, query)
    version = listing.version if page is None else page.version
    following = context.pages.rest(listing) if page is None else page.following
    tag = f'W/"{version}{"u" * usage}{"s" * freshness.stale}{"m" * (following is not None)}"'
    headers = age_headers(freshness) | {"ETag": tag, "Vary": "Accept-Encoding"}
    if following is not None:
        headers["Link"] = _next(request, query, following)
    if is_known(tag, if_none_match):
        return Response(status_code=304, headers=headers)
    fields = query.shown_fields
    if page is None:
        body = await listing.json(freshness, usage=usage, gzip=False)
    else:
        body = await asyncio.to_thread(as_list, page.entries, freshness, usage=usage)
    if fields is not None:
        body = (await asyncio.to_thread(keep_fields, b"".join(body), fields),)
    if sum(map(len, body)) >= SMALLEST_PACKED_BYTES and accepts_gzip(accept_encoding):
        if page is None and fields is None:
            body = await listing.json(freshness, usage=usage, gzip=True)
        else:
            body = await asyncio.to_thread(pack, body)
        headers["Content-Encoding"] = "gzip"
    return context.large_answers.response(body, headers)


async def _page(context: Context, principal: Principal, query: JobQuery) -> Page | None:
    """Return the jobs that are asked for; None for the plain listing in one piece."""
    place, length = query.place, query.length
    if not query.is_search:
        if length is None:
            return None
        return await context.pages.page(place, length, principal.view)
    question = query.search(principal, await criteria_of(context.programs, query))
    if length is None:
        entries = await context.search.in_memory(question)
        return Page(entries, await asyncio.to_thread(version_of, entries), None)
    after = place.key if isinstance(place, AfterFound) else None
    return await context.search.page(question, after, length)


def _next(request: Request, query: JobQuery, following: Cursor) -> str:
    """Return the ``Link`` header that leads to the next page (RFC 8288)."""
    more = {"limit": str(query.length or LONGEST_PAGE), "cursor": write_cursor(following)}
    parameters = {**query.given(), **more}
    root = request.scope.get("root_path", "")
    return f'<{root}/jobs?{urlencode(parameters)}>; rel="next"'


@router.get(
    "/jobs/summary",
    operation_id="summarizeJobs",
    summary="Count jobs",
    responses=responses(503),
)
async def summarize_jobs(
    context: ContextDependency,
    principal: PrincipalDependency,
    response: Response,
    query: Annotated[JobFilterQuery, Query()],
) -> JobCounts:
    """Count the jobs that `GET /jobs` lists in memory, by their `state` and their `status`.

    Filters choose among these jobs alone; those by time do not look further back.
    """
    listing = context.table.view(principal.view)
    if query.query_name:
        question = query.summary(principal, await criteria_of(context.programs, query))
        found = await context.search.in_memory(question)
        counts = Counter((entry.record.state, entry.record.status) for entry in found)
    else:
        counts = await listing.counts()
    if listing.as_of is None and not counts:
        raise SchedulerUnavailable(_NEVER_HEARD)
    response.headers.update(age_headers(context.table.freshness(now(), context.stale_after)))
    return JobCounts(
        jobs=counts.total(),
        by_state={s: sum(n for (state, _), n in counts.items() if state is s) for s in JobState},
        by_status={s: sum(n for (_, word), n in counts.items() if word is s) for s in JobStatus},
    )


@router.get(
    "/jobs/{jobId}",
    operation_id="getJob",
    summary="Read a job",
    response_model=Job,
    responses=responses(404, 502, 503, 504),
)
async def get_job(
    context: ContextDependency,
    principal: PrincipalDependency,
    job_id: Annotated[JobId, Path(alias="jobId")],
    _query: Annotated[NoQuery, Query()],
) -> Response:
    """Read one job, queued, running or finished, however long ago."""
    entry = await context.jobs.read(principal, job_id)
    freshness = context.table.freshness(now(), context.stale_after)
    headers = age_headers(freshness)
    return Response(entry.json(freshness), media_type="application/json", headers=headers)


@router.get(
    "/jobs/{jobId}/usage",
    operation_id="getJobUsage",
    summary="Read a job's usage over time",
    response_model=UsageList,
    responses=responses(404, 502, 503, 504),
)
async def get_job_usage(
    context: ContextDependency,
    principal: PrincipalDependency,
    job_id: Annotated[JobId, Path(alias="jobId")],
    _query: Annotated[NoQuery, Query()],
) -> Response:
    """Read what a job used while it ran: samples, the oldest first, at most 513.

    `timeInstant` is when each was taken. They are evenly spread over the run, the further apart
    the longer it is. A job that was put back and ran again has those of its newest run; one that
    was not submitted through this service has none.
    """
    samples = await context.jobs.usage_over_time(principal, job_id)
    return Response(context.wire.encode_samples(samples), media_type="application/json")


@router.delete(
    "/jobs/{jobId}",
    status_code=202,
    operation_id="deleteJob",
    summary="Delete a job",
    response_model=Accepted,
    responses=responses(400, 403, 404, 409, 502, 503, 504),
)
async def delete_job(
    context: ContextDependency,
    principal: PrincipalDependency,
    job_id: Annotated[JobId, Path(alias="jobId")],
    query: Annotated[DeletionQuery, Query()],
) -> Accepted:
    """End a job that is queued or running; it leaves the listing once it has ended.

    Its record stays readable by id. Repeating this is harmless.

    With `tasks` these tasks of an array are ended alone. Those that have ended already stay.
    """
    if query.tasks is not None:
        numbers = read_tasks(query.tasks)
        array = await context.changer.cancel_tasks(principal, job_id, numbers)
        return Accepted(detail=f"jobId: {array.native_id}, tasks: {','.join(ranges_of(numbers))}")
    record = await context.changer.cancel(principal, job_id)
    return Accepted(detail=f"jobId: {record.native_id}")


def _refuse_key(key: str | None) -> None:
    if key is not None:
        problem = "with dryRun nothing is submitted, so there is nothing that it could name"
        location = ("header", "Idempotency-Key")
        raise RequestValidationError([{"type": "no_submission", "loc": location, "msg": problem}])
