"""The application: made, and wired, here and nowhere else."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from hpcq import __version__
from hpcq.api import problems
from hpcq.api.access import AccessRules, Names
from hpcq.api.built_files import add_help, add_page
from hpcq.api.context import Context
from hpcq.api.docs import DocumentedApp, add_docs
from hpcq.api.firecrest import files as firecrest_files
from hpcq.api.firecrest import routes as firecrest
from hpcq.api.guard import Guard
from hpcq.api.large_answers import LargeAnswers
from hpcq.api.metrics import Metrics
from hpcq.api.middleware import (
    BodyLimit,
    HeadAsGet,
    IgnoreUnknown,
    NormalizePath,
    PlainStartFailure,
)
from hpcq.api.program_listing import ProgramListing
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
from hpcq.api.schemas import LimitsOut, LoginOut, ServiceOut
from hpcq.auth.audit import AuditLog
from hpcq.auth.authenticator import Authenticator
from hpcq.auth.sessions import Cookies, Sessions
from hpcq.auth.tokens import TokenVerifier, keep_operator_token
from hpcq.config import (
    Settings,
    deployment_of,
    job_environment,
    prepare_state_directory,
    scheduler_options,
)
from hpcq.domain.errors import (
    CommandMissing,
    HpcqError,
    StoreUnavailable,
    UnsupportedCapability,
)
from hpcq.domain.principals import Method
from hpcq.domain.units import now
from hpcq.execution.account_process import missing_means
from hpcq.execution.accounts import Accounts
from hpcq.execution.local import LocalRunner
from hpcq.execution.opened import Bounds
from hpcq.schedulers import registry
from hpcq.services.listing.wire import WireFormat
from hpcq.services.output.followers import Followers
from hpcq.services.output.job_files import JobFiles
from hpcq.services.programs.service import ProgramService
from hpcq.services.programs.sources import program_sources
from hpcq.services.readers import Readers
from hpcq.services.resilience import ResilientBackend
from hpcq.services.submission.paths import PathChecker
from hpcq.services.wiring import Services, assemble
from hpcq.storage.database import Database
from hpcq.storage.programs import ProgramNumbers
from hpcq.storage.sessions import SessionStore
from hpcq.storage.tokens import TokenStore
from hpcq.telemetry import RequestLog

if TYPE_CHECKING:
    from hpcq.auth.oidc import OidcVerifier
    from hpcq.auth.oidc_login import OidcLogin

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
        lifespan=lambda app: _lifespan(app, settings),
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


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    prepare_state_directory(settings)
    metrics: Metrics = app.state.metrics
    local_runner = LocalRunner()
    runner = metrics.measured(local_runner)
    accounts = _accounts(settings)
    options = scheduler_options(settings, accounts)
    try:
        scheduler = registry.load(settings.scheduler)(options, runner, settings)
    except ValueError as error:
        app.state.cannot_start = f"The service cannot start. {error}"
        raise
    backend = ResilientBackend(
        scheduler,
        failures=settings.circuit_breaker_failures,
        interval_seconds=settings.poll_interval_seconds,
    )
    database = Database(settings.store_url, deployment_of(settings))
    paths = PathChecker(
        backend,
        settings.path_check_timeout_seconds,
        settings.path_wait_seconds,
        settings.max_script_bytes,
        accounts,
        settings.allowed_directories,
    )
    services = assemble(
        backend,
        database,
        paths,
        settings,
        _wire_format(settings),
        now,
        backend.rejection,
        mail=settings,
        job_environment=job_environment(settings, os.environ),
    )
    job_files = JobFiles(
        services.jobs,
        settings.path_check_timeout_seconds,
        accounts,
        _bounds(settings),
        has_folders=settings.job_files == "on",
    )
    programs = ProgramService(
        program_sources(settings, runner),
        ProgramNumbers(database).of,
        timeout_seconds=settings.programs_timeout_seconds,
    )
    tokens = TokenStore(database)
    sessions = Sessions(SessionStore(database), settings, now)
    cookies = Cookies(settings, settings.root_path, settings.cluster_id)
    oidc, oidc_login = _oidc(settings)
    authenticator = Authenticator(settings, TokenVerifier(tokens, now), oidc, sessions, cookies)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(local_runner.close)
        stack.callback(paths.close)
        stack.callback(job_files.close)
        try:
            audit = _audit_log(settings)
            stack.callback(audit.close)
            metrics.read_services(services, backend, audit)
            app.state.context = _context(
                settings,
                services,
                backend,
                job_files,
                programs,
                authenticator,
                sessions,
                oidc_login,
                cookies,
                audit,
                metrics,
            )
            await database.open()
            stack.push_async_callback(database.close)
            if Method.TOKEN in settings.auth:
                await keep_operator_token(tokens, settings.operator_token, now())
            await backend.start(services.monitor.wake)
            stack.push_async_callback(backend.stop)
            if accounts is not None:
                _check_accounts_can_be_used(backend)
            known = await services.monitor.load()
        except HpcqError as error:
            app.state.cannot_start = f"The service cannot start. {error.detail}"
            raise
        watching = asyncio.create_task(services.watch(known))
        stack.push_async_callback(_end, watching)
        yield


def _bounds(settings: Settings) -> Bounds:
    # Where an open file is, is told without links.
    hidden = os.path.realpath(settings.state_directory)
    return Bounds(allowed=settings.allowed_directories, hidden=(hidden,))


def _accounts(settings: Settings) -> Accounts | None:
    if settings.submit_as == "service":
        return None
    table = settings.submit_as_accounts
    return Accounts(None if table is None else dict(table), settings.submit_as_min_uid)


def _check_accounts_can_be_used(backend: ResilientBackend) -> None:
    if "run_as" not in backend.capabilities.fields:
        raise UnsupportedCapability(
            "run_as",
            backend.name,
            f"With {backend.name} this service cannot submit in the name of users. Set "
            "SUBMIT_AS=service.",
        )
    missing = missing_means()
    if missing is not None:
        raise CommandMissing(f"SUBMIT_AS=user needs root, or sudo and its rule. {missing}")


def _audit_log(settings: Settings) -> AuditLog:
    path = settings.audit_log or settings.state_directory / "audit.jsonl"
    try:
        return AuditLog(path)
    except OSError as error:
        raise StoreUnavailable(
            f"The audit log {path} cannot be written: {error.strerror}. See AUDIT_LOG."
        ) from error


def _oidc(settings: Settings) -> "tuple[OidcVerifier | None, OidcLogin | None]":
    if Method.OIDC not in settings.auth:
        return None, None
    # Imported here because only those with a provider need an HTTP client and cryptography.
    from hpcq.auth.oidc import OidcVerifier
    from hpcq.auth.oidc_login import OidcLogin

    verifier = OidcVerifier(settings)
    return verifier, OidcLogin(settings, verifier) if settings.oidc_client_id else None


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _context(
    settings: Settings,
    services: Services,
    backend: ResilientBackend,
    job_files: JobFiles,
    programs: ProgramService,
    authenticator: Authenticator,
    sessions: Sessions,
    oidc_login: "OidcLogin | None",
    cookies: Cookies,
    audit: AuditLog,
    metrics: Metrics,
) -> Context:
    return Context(
        wire=_wire_format(settings),
        scheduler=settings.scheduler,
        stale_after=timedelta(seconds=settings.stale_after_seconds),
        table=services.table,
        pages=services.pages,
        search=services.search,
        monitor=services.monitor,
        usage=services.usage,
        jobs=services.jobs,
        submitter=services.submitter,
        changer=services.changer,
        programs=programs,
        program_listing=ProgramListing(settings.cluster_id),
        submission_check=services.submission_check,
        webhooks=services.webhooks,
        large_answers=LargeAnswers(settings.max_answers_bytes),
        cluster=services.cluster,
        queue_usage=services.queue_usage,
        job_files=job_files,
        followers=Followers(job_files, services.table, now),
        output_readers=Readers(
            "MAX_OUTPUT_READERS", settings.max_output_readers, "answers with output or files"
        ),
        events=services.events,
        event_readers=Readers("MAX_EVENT_READERS", settings.max_event_readers, "streams of events"),
        capabilities=services.submitter.capabilities,
        limits=LimitsOut(
            max_request_bytes=settings.max_request_bytes,
            max_args_bytes=settings.max_args_bytes,
            max_environment_bytes=settings.max_environment_bytes,
            max_script_bytes=min(settings.max_script_bytes, backend.capabilities.max_script_bytes),
        ),
        circuits=backend.circuits,
        authenticator=authenticator,
        sessions=sessions,
        oidc_login=oidc_login,
        cookies=cookies,
        logins=_logins(settings),
        service=ServiceOut(
            version=__version__,
            compatibility=settings.compatibility,
            job_visibility=settings.job_visibility,
        ),
        audit=audit,
        metrics=metrics,
    )


def _logins(settings: Settings) -> Sequence[LoginOut]:
    return [
        LoginOut(
            method=method,
            url="session/login" if method is Method.OIDC and settings.oidc_client_id else None,
        )
        for method in settings.auth
        if method is not Method.NONE
    ]


def _wire_format(settings: Settings) -> WireFormat:
    return WireFormat(settings.cluster_id, is_original=settings.compatibility == "original")
