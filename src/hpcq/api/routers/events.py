"""``/events``: what happens to jobs, as it happens."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import Field, field_validator

from hpcq.api.context import Context, ContextDependency, PrincipalDependency
from hpcq.api.job_query import JobFilterQuery, criteria_of
from hpcq.api.problems import responses
from hpcq.api.requests import RequestModel
from hpcq.api.routers.jobs import JobId
from hpcq.api.streamed_answers import (
    HEARTBEAT,
    encode_event,
    event_answer,
    while_allowed,
    while_unchanged,
)
from hpcq.domain.errors import HpcqError, WrongState
from hpcq.domain.events import Event, EventKind
from hpcq.domain.job_filter import JobFilter
from hpcq.domain.jobs import JobUid
from hpcq.domain.principals import Principal
from hpcq.domain.units import format_time
from hpcq.services.event_feed import EventSelection

__all__ = ["router"]

router = APIRouter(tags=["events"])

_log = structlog.get_logger("hpcq.events")

_HEARTBEAT_SECONDS = 15.0
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events, as they happen.",
        "content": {"text/event-stream": {}},
    }
}
LastEventId = Annotated[
    str | None,
    Header(
        pattern="^[0-9]{1,15}$",
        description="The id of the last event that you have; the answer goes on behind it.",
    ),
]


class AfterQuery(RequestModel):
    """The events that are wanted."""

    after: int | None = Field(
        default=None,
        ge=0,
        le=10**15,
        description="Like `Last-Event-ID`, which counts if both are there.",
    )
    type: str | None = Field(
        default=None,
        max_length=200,
        description="The events that are wanted: "
        + ", ".join(f"`{kind}`" for kind in EventKind)
        + ". Several are separated by commas; without it all are.",
        examples=["job.submitted,job.state"],
    )

    @field_validator("type")
    @classmethod
    def _are_events(cls, text: str | None) -> str | None:
        for word in text.split(",") if text else ():
            if word not in set(EventKind):
                raise ValueError(f"{word!r} is none; there are {', '.join(EventKind)}")
        return text

    @property
    def kinds(self) -> frozenset[EventKind] | None:
        """The events that are wanted; None for all."""
        return frozenset(map(EventKind, self.type.split(","))) if self.type else None


class EventsQuery(AfterQuery, JobFilterQuery):
    """The events that are wanted, and the jobs."""


@router.get(
    "/events",
    operation_id="listEvents",
    summary="Follow the events of all jobs",
    response_class=Response,
    responses={**_STREAM, **responses(410, 503)},
)
async def list_events(
    request: Request,
    context: ContextDependency,
    principal: PrincipalDependency,
    query: Annotated[EventsQuery, Query()],
    last_event_id: LastEventId = None,
) -> Response:
    """Follow what happens to the jobs that were submitted through this service.

    The answer is a stream of server-sent events that does not end. Its first event is the next to
    happen, or the one behind `Last-Event-ID`. A filter looks at each job as it is when its event
    is sent.
    """
    after = await context.events.start_of(_after(last_event_id, query))
    selection = _selection(context, query, await criteria_of(context.programs, query))
    place = context.event_readers.admit(principal)
    allowed = while_unchanged(context.events.follow(after), request, context, principal)
    return event_answer(_events(allowed, selection, principal), place)


@router.get(
    "/jobs/{jobId}/events",
    operation_id="listJobEvents",
    summary="Follow the events of a job",
    response_class=Response,
    responses={
        **_STREAM,
        204: {"description": "The job is over, and you have all of its events."},
        **responses(404, 409, 410, 502, 503, 504),
    },
)
async def list_job_events(
    request: Request,
    context: ContextDependency,
    principal: PrincipalDependency,
    job_id: Annotated[JobId, Path(alias="jobId")],
    query: Annotated[AfterQuery, Query()],
    last_event_id: LastEventId = None,
) -> Response:
    """Follow what happens to one job, from its first event that is kept, until it is over.

    204 to a reader who comes back after the end: a browser's `EventSource` then stops.
    """
    record = (await context.jobs.find(principal, job_id)).record
    if not record.submitted_here:
        raise WrongState(
            f"The job {job_id!r} was not submitted through this service, which keeps the events "
            "of its own jobs alone."
        )
    given = _after(last_event_id, query)
    after = await context.events.start_of(given, all_kept=True)
    if given is not None and await _is_told(context, record.uid, after):
        return Response(status_code=204)
    selection = _selection(context, query, JobFilter())

    async def told() -> AsyncIterator[Sequence[Event]]:
        last = after
        async for batch in context.events.follow(after, record.uid):
            last = batch[-1].number if batch else last
            yield batch
            if not batch and await _is_told(context, record.uid, last):
                return

    async def check(now: Principal) -> None:
        await context.jobs.find(now, str(record.uid))

    place = context.event_readers.admit(principal)
    allowed = while_allowed(told(), request, context, check)
    return event_answer(_events(allowed, selection, principal), place)


def _after(last_event_id: str | None, query: AfterQuery) -> int | None:
    return query.after if last_event_id is None else int(last_event_id)


def _selection(context: Context, query: AfterQuery, criteria: JobFilter) -> EventSelection:
    return EventSelection(
        table=context.table,
        store=context.store,
        kinds=query.kinds,
        criteria=criteria,
    )


async def _is_told(context: Context, uid: JobUid, last: int) -> bool:
    """Return whether a job is over, and a reader has its events up to the last one."""
    record = await context.store.by_uid(uid)
    if record is None or not record.is_settled:
        return False
    return not await context.store.events(last, 1, uid)


async def _events(
    followed: AsyncIterator[Sequence[Event]], selection: EventSelection, principal: Principal
) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    silent_since = -math.inf
    try:
        async for batch in followed:
            for event in await selection.choose(batch, principal):
                data = {"timestamp": format_time(event.at), "uid": str(event.uid), **event.data}
                yield encode_event(data, event_id=event.number, kind=event.kind)
                silent_since = clock()
            if clock() - silent_since >= _HEARTBEAT_SECONDS:
                # The first of them shows the reader that the stream has begun.
                yield HEARTBEAT
                silent_since = clock()
    except HpcqError as error:
        # The head of the answer is sent. A client that comes back learns what it is, or goes on.
        _log.info("events.ended", reason=error.detail)
