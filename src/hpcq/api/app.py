"""The application: its routes, and the middleware before them."""

from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from hpcq import __version__
from hpcq.api import problems
from hpcq.api.access import AccessRules, Names
from hpcq.api.built_files import add_help, add_page
from hpcq.api.docs import DocumentedApp, add_docs
from hpcq.api.firecrest import files as firecrest_files
from hpcq.api.firecrest import routes as firecrest
from hpcq.api.guard import Guard
from hpcq.api.lifespan import lifespan
from hpcq.api.metrics import Metrics
from hpcq.api.middleware import (
    BodyLimit,
    HeadAsGet,
    IgnoreUnknown,
    NormalizePath,
    PlainStartFailure,
)
from hpcq.api.rate_limit import RateLimit
from hpcq.api.requests import BodyPace, refuse_repeated
from hpcq.api.routers import (
    cluster,
    events,
    health,
    job_actions,
    jobs,
    listing_changes,
    output,
    session,
    webhooks,
)
from hpcq.api.routers import metrics as metrics_routes
from hpcq.api.routers import programs as program_routes
from hpcq.config import (
    Settings,
)
from hpcq.telemetry import RequestLog

if TYPE_CHECKING:
    pass

__all__ = ["create_app"]

_FAILED_LOGINS_PER_SECOND = 1.0
_DESCRIPTION = """\
Submit, list, read and delete jobs without knowing which batch scheduler runs them,
and list the programs that are installed. Errors are `application/problem+json` (RFC 9457).
"""


def create_app(settings: Settings) -> FastAPI:
    """Return the service for these settings; nothing is opened or started before its lifespan."""
    root_path = "" if settings.root_path == "/" else settings.root_path
    is_original = settings.compatibility == "original"
    app = DocumentedApp(
        is_original=is_original,
        title="hpc-queue-api",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Without this a web page of another site could submit a job: a request without a type, or
        # of type text/plain, needs no permission of CORS.
        strict_content_type=True,
        lifespan=lambda app: lifespan(app, settings),
        dependencies=[Depends(refuse_repeated)],
    )
    app.state.max_request_values = settings.max_request_values
    app.state.body_pace = BodyPace()
    metrics = app.state.metrics = Metrics(settings.scheduler)
    modules = (
        listing_changes,
        jobs,
        job_actions,
        output,
        events,
        webhooks,
        session,
        program_routes,
        cluster,
        health,
        metrics_routes,
        firecrest_files,
        firecrest,
    )
    routers = [module.router for module in modules]
    for router in routers:
        app.include_router(router)
    add_docs(app)
    add_help(app)
    add_page(app)
    routes = [route for router in routers for route in router.routes]
    documented = [route for route in routes if isinstance(route, APIRoute)]
    problems.add_handlers(app, documented)
    if is_original:
        app.add_middleware(IgnoreUnknown)
    app.add_middleware(BodyLimit, max_bytes=settings.max_request_bytes)
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        Guard,
        settings=settings,
        rules=AccessRules(documented),
        names=Names(settings, settings.host),
        rate_limit=RateLimit(settings.max_requests_per_second),
        failed_logins=RateLimit(
            _FAILED_LOGINS_PER_SECOND,
            "Too many logins from your address failed. Wait a little, and log in again.",
        ),
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-None-Match",
                "Last-Event-ID",
                "Range",
            ],
            expose_headers=["ETag", "Idempotent-Replayed", "Link", "Location", "X-As-Of"],
        )
    app.add_middleware(NormalizePath, root_path=root_path)
    app.add_middleware(RequestLog, observe=metrics.observe_request)
    app.add_middleware(PlainStartFailure)
    return app
