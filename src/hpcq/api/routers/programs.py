"""``/programs``: what is installed and can be run."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import Field, field_validator

from hpcq.api.context import ContextDependency
from hpcq.api.http_cache import SMALLEST_PACKED_BYTES, accepts_gzip, is_known
from hpcq.api.problems import responses
from hpcq.api.program_listing import as_array
from hpcq.api.requests import RequestModel
from hpcq.api.schemas import ProgramOut
from hpcq.domain.programs import Program
from hpcq.services.listing.job_listing import pack

__all__ = ["INCOMPLETE", "router"]

router = APIRouter(tags=["programs"])

INCOMPLETE = "X-Incomplete"
_HEADERS = {
    "ETag": {
        "description": "For `If-None-Match`; the same on every replica.",
        "schema": {"type": "string"},
        "example": 'W/"9f2c1b7a3d5e8f0a1b2c3d4e"',
    },
    INCOMPLETE: {
        "description": "Only there when something could not be read: what the list therefore "
        "lacks, or has as it was last, and why.",
        "schema": {"type": "string"},
        "example": "The folder /home/pem/versoes/DECOMP of DECOMP cannot be read: Permission "
        "denied.",
    },
}


class ProgramQuery(RequestModel):
    """Filters, each matched exactly, capital letters included."""

    program_id: str | None = Field(default=None, examples=["NW0"])
    name: str | None = Field(default=None, examples=["NEWAVE"])
    version: str | None = Field(default=None, examples=["v28.16.4"])
    is_default: bool | None = Field(
        default=None,
        description="true: only the versions that are taken when none is named; false: the others.",
    )

    @field_validator("program_id", "name", "version")
    @classmethod
    def _empty_is_no_filter(cls, text: str | None) -> str | None:
        return text or None

    def is_empty(self) -> bool:
        """Return whether all programs are asked for."""
        return not self.model_dump(exclude_none=True)

    def places(self, programs: Sequence[Program]) -> Iterator[int]:
        """Yield the places of those that are asked for; there may be many thousands to look at."""
        program_id, name, version = self.program_id, self.name, self.version
        is_default = self.is_default
        for place, program in enumerate(programs):
            found = program.installation
            if (
                (version is None or version == found.version)
                and (name is None or name == found.name)
                and (program_id is None or program_id == program.program_id)
                and (is_default is None or is_default == bool(found.is_default))
            ):
                yield place


@router.get(
    "/programs",
    operation_id="listPrograms",
    summary="List programs",
    response_model=list[ProgramOut],
    responses={
        200: {
            "description": "Programs, one entry for each installed version.",
            "headers": _HEADERS,
        },
        304: {"description": "Nothing has changed.", "headers": _HEADERS},
        **responses(),
    },
)
async def list_programs(
    context: ContextDependency,
    query: Annotated[ProgramQuery, Query()],
    accept_encoding: Annotated[str, Header(include_in_schema=False)] = "",
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """List the installed programs, one entry for each version.

    A folder that cannot be read, or does not answer in time, hides itself alone; the header
    `X-Incomplete` tells of it. The `ETag` changes whenever anything does.
    """
    catalogue = await context.programs.catalogue()
    listing = await context.program_listing.of(catalogue)
    tag = f'W/"{listing.version}"'
    headers = {"Cache-Control": "no-cache", "ETag": tag, "Vary": "Accept-Encoding"}
    if listing.incomplete is not None:
        headers[INCOMPLETE] = listing.incomplete
    if is_known(tag, if_none_match):
        return Response(status_code=304, headers=headers)
    body = listing.whole
    if not query.is_empty():
        body = as_array(listing.objects[place] for place in query.places(catalogue.programs))
    if sum(map(len, body)) >= SMALLEST_PACKED_BYTES and accepts_gzip(accept_encoding):
        headers["Content-Encoding"] = "gzip"
        is_whole = body is listing.whole
        body = listing.packed if is_whole else await asyncio.to_thread(pack, body)
    return context.large_answers.response(body, headers)
