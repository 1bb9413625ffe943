"""The life of the application: its services, made, wired and opened here and nowhere else."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from hpcq import __version__
from hpcq.api.context import Context
from hpcq.api.large_answers import LargeAnswers
from hpcq.api.metrics import Metrics
from hpcq.api.program_listing import ProgramListing
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
from hpcq.schedulers import registry
from hpcq.services.listing.wire import WireFormat
from hpcq.services.output.followers import Followers
from hpcq.services.output.job_files import JobFiles
from hpcq.services.programs.service import ProgramService
from hpcq.services.programs.sources import program_sources
from hpcq.services.readers import Readers
from hpcq.services.resilience import ResilientBackend
from hpcq.services.submission.paths import PathChecker
from hpcq.services.wiring import assemble
from hpcq.storage.database import Database
from hpcq.storage.programs import ProgramNumbers
from hpcq.storage.sessions import SessionStore
from hpcq.storage.tokens import TokenStore

if TYPE_CHECKING:
    from hpcq.auth.oidc import OidcVerifier
    from hpcq.auth.oidc_login import OidcLogin

__all__ = ["lifespan"]


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Open what the application needs, watch the scheduler while it runs, and close all again."""
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
    backend = ResilientBackend(scheduler, settings)
    database = Database(settings.store_url, deployment_of(settings))
    paths = PathChecker(backend, settings, accounts)
    wire = WireFormat(settings.cluster_id, is_original=settings.compatibility == "original")
    services = assemble(
        backend,
        database,
        paths,
        settings,
        wire,
        now,
        backend.rejection,
        mail=settings,
        job_environment=job_environment(settings, os.environ),
    )
    job_files = JobFiles(services.jobs, paths, settings, accounts, (settings.state_directory,))
    programs = ProgramService(
        program_sources(settings, runner),
        ProgramNumbers(database).of,
        timeout_seconds=settings.programs_timeout_seconds,
    )
    tokens = TokenStore(database)
    sessions = Sessions(SessionStore(database), settings, now)
    cookies = Cookies(settings, settings.root_path, settings.cluster_id)
    oidc, oidc_login = _oidc(settings)
    authenticator = Authenticator(
        settings, TokenVerifier(tokens, now), oidc, sessions, cookies, accounts
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(local_runner.close)
        stack.callback(paths.close)
        stack.callback(job_files.close)
        if oidc is not None:
            stack.push_async_callback(oidc.close)
        try:
            audit = _audit_log(settings)
            stack.callback(audit.close)
            metrics.read_services(services, backend, audit, sessions)
            app.state.context = Context(
                **services.by_name(),
                **_of_settings(settings, backend),
                wire=wire,
                programs=programs,
                job_files=job_files,
                followers=Followers(job_files, services.table, now),
                capabilities=services.submitter.capabilities,
                circuits=backend.circuits,
                authenticator=authenticator,
                sessions=sessions,
                oidc_login=oidc_login,
                cookies=cookies,
                audit=audit,
                metrics=metrics,
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
        for work in (services.watch(known), sessions.keep_counting()):
            stack.push_async_callback(_end, asyncio.create_task(work))
        yield


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


def _of_settings(settings: Settings, backend: ResilientBackend) -> dict[str, Any]:
    """Return the parts of the context that depend on little else, by their names there."""
    return {
        "scheduler": settings.scheduler,
        "stale_after": timedelta(seconds=settings.stale_after_seconds),
        "program_listing": ProgramListing(settings.cluster_id),
        "large_answers": LargeAnswers(settings.max_answers_bytes),
        "output_readers": Readers(
            "MAX_OUTPUT_READERS", settings.max_output_readers, "answers with output or files"
        ),
        "event_readers": Readers(
            "MAX_EVENT_READERS", settings.max_event_readers, "streams of events"
        ),
        "limits": LimitsOut(
            max_request_bytes=settings.max_request_bytes,
            max_args_bytes=settings.max_args_bytes,
            max_environment_bytes=settings.max_environment_bytes,
            max_script_bytes=min(settings.max_script_bytes, backend.capabilities.max_script_bytes),
        ),
        "logins": _logins(settings),
        "service": ServiceOut(
            version=__version__,
            compatibility=settings.compatibility,
            job_visibility=settings.job_visibility,
        ),
    }


def _logins(settings: Settings) -> Sequence[LoginOut]:
    return [
        LoginOut(
            method=method,
            url="session/login" if method is Method.OIDC and settings.oidc_client_id else None,
        )
        for method in settings.auth
        if method is not Method.NONE
    ]
