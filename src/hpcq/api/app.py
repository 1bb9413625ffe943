"""The application: made, and wired, here and nowhere else."""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from fastapi import FastAPI

from hpcq import __version__
from hpcq.api import problems
from hpcq.api.asgi import BodyLimit, OnePathSpelling, PlainStartFailure
from hpcq.api.context import Context
from hpcq.api.docs import DocumentedApp, add_docs
from hpcq.api.routers import health, jobs, programs
from hpcq.config import ProgramPathRule, Settings, prepare_state_directory, scheduler_environment
from hpcq.domain.errors import HpcqError
from hpcq.domain.jobs import SubmissionKey
from hpcq.execution.leftovers import end_leftovers
from hpcq.execution.local import LocalRunner
from hpcq.programs import Reading, decomp, newave, read_pemaws, read_tuber
from hpcq.schedulers import registry
from hpcq.schedulers.base import SchedulerOptions
from hpcq.services.archive import Archive
from hpcq.services.clock import now
from hpcq.services.jobs import JobService
from hpcq.services.monitor import Monitor, MonitorOptions
from hpcq.services.paths import PathChecker
from hpcq.services.programs import ProgramService
from hpcq.services.replica import Replica, ReplicaOptions
from hpcq.services.resilience import ResilientBackend
from hpcq.services.resolving import Resolver
from hpcq.services.snapshot import Board
from hpcq.services.submission import SubmissionOptions, Submitter
from hpcq.services.usage import UsageReader
from hpcq.storage.database import Database
from hpcq.storage.jobs import JobStore
from hpcq.storage.leases import Lease
from hpcq.storage.migrate import Deployment
from hpcq.telemetry import RequestLog

__all__ = ["create_app", "program_readers"]

_NEWS_SECONDS = 0.5

_DESCRIPTION = """\
Submit, list, read and delete jobs without knowing which batch scheduler runs them,
and list the programs that are installed. Errors are `application/problem+json` (RFC 9457).
"""


def create_app(settings: Settings) -> FastAPI:
    """Return the service for these settings; nothing is opened or started before its lifespan."""
    root_path = "" if settings.root_path == "/" else settings.root_path
    app = DocumentedApp(
        title="hpc-queue-api",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lambda app: _lifespan(app, settings),
    )
    for module in (jobs, programs, health):
        app.include_router(module.router)
    add_docs(app)
    problems.add_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_request_bytes)
    app.add_middleware(OnePathSpelling, root_path=root_path)
    app.add_middleware(RequestLog)
    app.add_middleware(PlainStartFailure)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    prepare_state_directory(settings)
    runner = LocalRunner()
    backend = ResilientBackend(
        registry.load(settings.scheduler)(_scheduler_options(settings), runner),
        failures=settings.circuit_breaker_failures,
        interval_seconds=settings.poll_interval_seconds,
    )
    database = Database(
        settings.database_url or f"sqlite:///{settings.state_directory / 'jobs.sqlite3'}",
        Deployment(settings.cluster_id, settings.scheduler),
    )
    paths = PathChecker(settings.path_check_timeout_seconds)
    service = _service(settings, backend, database, paths)
    app.state.context = service.context
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(runner.close)
        stack.callback(paths.close)
        try:
            await database.open()
            stack.push_async_callback(database.close)
            await backend.start(service.context.monitor.wake)
            stack.push_async_callback(backend.stop)
            known = await service.context.monitor.load()
        except HpcqError as error:
            app.state.cannot_start = f"The service cannot start. {error.detail}"
            raise
        watching = asyncio.create_task(service.watch(known))
        stack.push_async_callback(_end, watching)
        yield


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@dataclass(frozen=True, slots=True)
class _Service:
    """Everything, wired.

    Attributes:
        context: what the routes work with.
        watch: keeps it up to date until cancelled, from a transaction on.
    """

    context: Context
    watch: Callable[[int], Coroutine[Any, Any, None]]


def _service(
    settings: Settings, backend: ResilientBackend, database: Database, paths: PathChecker
) -> _Service:
    cluster_id, me = settings.cluster_id, uuid.uuid4().hex
    listed_for = timedelta(seconds=settings.finished_jobs_listed_seconds)
    interval = timedelta(seconds=settings.poll_interval_seconds)
    store = JobStore(database, timedelta(seconds=settings.idempotency_keys_kept_seconds), now)
    board = Board(cluster_id)
    submitter = Submitter(
        backend,
        store,
        me,
        lambda record: monitor.adopt(record),
        _end_leftovers,
        backend.refusal,
        _submission_options(settings),
        now,
    )
    usage = UsageReader(
        backend,
        board,
        timedelta(seconds=settings.usage_interval_seconds),
        timedelta(minutes=1),
        now,
    )
    monitor = Monitor(
        backend,
        store,
        board,
        submitter,
        Resolver(backend, interval, timedelta(seconds=settings.undetermined_rechecked_seconds)),
        usage,
        cluster_id,
        MonitorOptions(
            interval_seconds=settings.poll_interval_seconds,
            listed_for=listed_for,
            holder=me if store.is_shared else None,
        ),
        now,
    )
    jobs = JobService(
        backend=backend,
        store=store,
        board=board,
        monitor=monitor,
        submitter=submitter,
        usage=usage,
        archive=Archive(backend, store, cluster_id, settings.poll_interval_seconds),
        cluster_id=cluster_id,
        paths=paths,
    )
    context = Context(
        cluster_id=cluster_id,
        scheduler=settings.scheduler,
        stale_after=timedelta(seconds=settings.stale_after_seconds),
        board=board,
        monitor=monitor,
        usage=usage,
        jobs=jobs,
        programs=ProgramService(
            program_readers(settings), timeout_seconds=settings.programs_timeout_seconds
        ),
        circuits=backend.circuits,
    )

    async def watch(known: int) -> None:
        if not store.is_shared:
            await monitor.run()
            return
        lease = Lease(database, me, timedelta(seconds=settings.replica_lease_seconds))
        options = ReplicaOptions(
            news_seconds=_NEWS_SECONDS,
            lease_seconds=settings.replica_lease_seconds,
            listed_for=listed_for,
        )
        await Replica(store, lease, board, monitor, options, now, known=known).run()

    return _Service(context, watch)


async def _end_leftovers(key: SubmissionKey) -> None:
    await asyncio.to_thread(end_leftovers, key)


def _submission_options(settings: Settings) -> SubmissionOptions:
    return SubmissionOptions(
        command_seconds=settings.command_timeout_seconds,
        wait_seconds=settings.submission_wait_seconds,
        settle=timedelta(seconds=settings.submission_settle_seconds),
    )


def _scheduler_options(settings: Settings) -> SchedulerOptions:
    return SchedulerOptions(
        cluster_id=settings.cluster_id,
        state_directory=settings.state_directory,
        environment=scheduler_environment(settings, os.environ),
        command_path=settings.scheduler_path or os.environ.get("PATH") or os.defpath,
        command_timeout_seconds=settings.command_timeout_seconds,
        listing_limit_bytes=settings.listing_limit_bytes,
        max_slots=settings.internal_scheduler_max_slots,
        cancel_grace_seconds=settings.cancel_grace_seconds,
        parallel_environment=settings.sge_parallel_environment,
    )


def program_readers(settings: Settings) -> list[Callable[[], Reading]]:
    """Return what reads the programs by the rule that the settings name, one for each root."""
    if settings.program_path_rule is ProgramPathRule.PEMAWS:
        return [
            partial(read_pemaws, newave(settings.pemaws_newave_root)),
            partial(read_pemaws, decomp(settings.pemaws_decomp_root)),
        ]
    return [
        partial(read_tuber, newave(settings.tuber_newave_root), settings.tuber_newave_script),
        partial(read_tuber, decomp(settings.tuber_decomp_root), settings.tuber_decomp_script),
    ]
