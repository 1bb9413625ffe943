"""The services behind the routes, made once by the application factory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from hpcq.api.large_answers import LargeAnswers
from hpcq.api.metrics import Metrics
from hpcq.api.program_listing import ProgramListing
from hpcq.api.schemas import LimitsOut, LoginOut, ServiceOut
from hpcq.auth.audit import AuditLog
from hpcq.auth.authenticator import Authenticator
from hpcq.auth.sessions import Cookies, Sessions
from hpcq.domain.principals import Principal
from hpcq.schedulers.base import Capabilities
from hpcq.services.circuit_breaker import CircuitBreaker
from hpcq.services.listing.wire import WireFormat
from hpcq.services.output.followers import Followers
from hpcq.services.output.job_files import JobFiles
from hpcq.services.programs.service import ProgramService
from hpcq.services.readers import Readers
from hpcq.services.wiring import Services

if TYPE_CHECKING:
    from hpcq.auth.oidc_login import OidcLogin

__all__ = ["Context", "ContextDependency", "PrincipalDependency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Services):
    """The services behind the routes, and what these must know of the settings."""

    wire: WireFormat
    scheduler: str
    stale_after: timedelta
    programs: ProgramService
    program_listing: ProgramListing
    event_readers: Readers
    large_answers: LargeAnswers
    job_files: JobFiles
    followers: Followers
    output_readers: Readers
    capabilities: Capabilities
    limits: LimitsOut
    circuits: Mapping[str, CircuitBreaker]
    authenticator: Authenticator
    sessions: Sessions
    oidc_login: "OidcLogin | None"
    cookies: Cookies
    logins: Sequence[LoginOut]
    service: ServiceOut
    audit: AuditLog
    metrics: Metrics


# FastAPI calls a dependency that is no coroutine in a thread, at a third of a listing's cost.
async def _context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


async def _principal(request: Request) -> Principal:
    return cast(Principal, request.state.principal)


ContextDependency = Annotated[Context, Depends(_context)]
PrincipalDependency = Annotated[Principal, Depends(_principal)]
