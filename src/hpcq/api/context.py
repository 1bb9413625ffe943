"""What the routes work with, made once by the application factory."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, cast

from fastapi import Depends, Request

from hpcq.api.program_listing import ProgramListing
from hpcq.services.circuit import Circuit
from hpcq.services.jobs import JobService
from hpcq.services.monitor import Monitor
from hpcq.services.pages import Pages
from hpcq.services.programs import ProgramService
from hpcq.services.snapshot import Board
from hpcq.services.submission_check import SubmissionCheck
from hpcq.services.usage import UsageReader
from hpcq.services.wire import WireFormat

__all__ = ["Context", "ContextDependency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The services behind the routes, and what they must know of the settings."""

    wire: WireFormat
    scheduler: str
    stale_after: timedelta
    board: Board
    pages: Pages
    monitor: Monitor
    usage: UsageReader
    jobs: JobService
    programs: ProgramService
    program_listing: ProgramListing
    submission_check: SubmissionCheck
    circuits: Mapping[str, Circuit]


def _context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


ContextDependency = Annotated[Context, Depends(_context)]
