"""``/jobs/changes``: what changes in the listing, as it changes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from hpcq.api.context import Context, ContextDependency, PrincipalDependency
from hpcq.api.problems import responses
from hpcq.api.requests import NoQuery
from hpcq.api.streamed_answers import encode_event, event_answer, while_unchanged
from hpcq.domain.jobs import JobUid
from hpcq.domain.principals import Principal
from hpcq.domain.units import format_time, now
from hpcq.services.listing.job_entry import Freshness
from hpcq.services.listing.job_listing import as_list
from hpcq.services.listing.job_table import JobTable

__all__ = ["router"]

router = APIRouter(tags=["jobs"])

_LOOK_SECONDS = 0.25
# An event, and no comment: a browser hides comments from the page, which has to notice silence.
_HEARTBEAT_SECONDS = 15.0
# So many changes at once are a new listing.
_MOST_CHANGES = 5_000


@router.get(
    "/jobs/changes",
    operation_id="followListing",
    summary="Follow the listing",
    response_class=Response,
    responses={
        200: {"description": "Changes, as they happen.", "content": {"text/event-stream": {}}},
        **responses(503),
    },
)
async def follow_listing(
    request: Request,
    context: ContextDependency,
    principal: PrincipalDependency,
    _query: Annotated[NoQuery, Query()],
    last_event_id: Annotated[
        str | None,
        Header(max_length=100, description="The id of the last event that you have."),
    ] = None,
) -> Response:
    """Follow all that `GET /jobs` lists, the jobs of other programs and people too.

    The answer is a stream of server-sent events that does not end. `reload` says: read `GET /jobs`
    now, and go on with what follows. It comes first, unless you come back in time with
    `Last-Event-ID`. `jobs` holds in `jobs` those that came or changed, and in `gone` the `uid` of
    those that left the listing; `asOf` and `stale` tell the age of it all, and also come alone.
    """
    place = context.event_readers.admit(principal)
    changes = _changes(context, principal, last_event_id)
    return event_answer(while_unchanged(changes, request, context, principal), place)


async def _changes(
    context: Context, principal: Principal, version: str | None
) -> AsyncIterator[bytes]:
    table, clock = context.table, asyncio.get_running_loop().time
    whose = principal.view
    age: Freshness | None = None
    said_at = clock()
    while not context.events.is_closed:
        newest = table.view(whose).version
        freshness = table.freshness(now(), context.stale_after)
        if newest != version or freshness != age:
            changes: Sequence[JobUid] | None = ()
            if newest != version:
                changes = table.changed_since(version or "") if whose is None else None
            is_known = changes is not None and len(changes) <= _MOST_CHANGES
            version, age, said_at = newest, freshness if is_known else None, clock()
            if changes is not None and is_known:
                yield _encode_changes(table, changes, freshness, version)
            else:
                yield encode_event({}, event_id=version, kind="reload")
        elif clock() - said_at >= _HEARTBEAT_SECONDS:
            said_at = clock()
            yield _encode_changes(table, (), freshness, newest)
        await asyncio.sleep(_LOOK_SECONDS)


def _encode_changes(
    table: JobTable, changes: Sequence[JobUid], freshness: Freshness, version: str
) -> bytes:
    found = {uid: table.entries.get(uid) for uid in changes}
    listed = [entry for entry in found.values() if entry is not None and entry.is_listed]
    shown = {entry.record.uid for entry in listed}
    told = {
        "jobs": msgspec.Raw(b"".join(as_list(listed, freshness, usage=False))),
        "gone": [str(uid) for uid in found if uid not in shown],
        "asOf": None if freshness.as_of is None else format_time(freshness.as_of),
        "stale": freshness.stale,
    }
    return encode_event(msgspec.json.encode(told), event_id=version, kind="jobs")
