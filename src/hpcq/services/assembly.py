"""The services before one scheduler, put together."""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from hpcq.domain.errors import NotAsked
from hpcq.domain.jobs import SubmissionKey
from hpcq.execution.orphans import end_orphans
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.archive import Archive
from hpcq.services.bulletin import Bulletin
from hpcq.services.changes import Changes
from hpcq.services.first_read import FirstReader
from hpcq.services.handing import Handing
from hpcq.services.jobs import JobService
from hpcq.services.monitor import Monitor
from hpcq.services.pages import Pages
from hpcq.services.paths import PathChecker
from hpcq.services.replica import Replica
from hpcq.services.resolving import Resolver
from hpcq.services.retention import Retention
from hpcq.services.settings import ServiceSettings
from hpcq.services.settling import Settler
from hpcq.services.snapshot import Board
from hpcq.services.submission import Submitter
from hpcq.services.submission_check import SubmissionCheck
from hpcq.services.usage import UsageReader
from hpcq.services.wire import WireFormat
from hpcq.storage.database import Database
from hpcq.storage.jobs import JobStore
from hpcq.storage.leases import Lease
from hpcq.storage.pruning import Pruner

__all__ = ["Services", "assemble"]

_INTEREST = timedelta(minutes=1)
_LISTED_AT_MOST = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the doors use.

    Attributes:
        submission_check: knows whether jobs can be submitted at all.
        replica: takes turns with others in asking the scheduler; None where there are none.
    """

    store: JobStore
    board: Board
    pages: Pages
    monitor: Monitor
    usage: UsageReader
    jobs: JobService
    retention: Retention
    submission_check: SubmissionCheck
    replica: Replica | None

    async def watch(self, known: int) -> None:
        """Keep everything up to date until cancelled.

        Args:
            known: the newest transaction that the board shows, as `Monitor.load` gave it.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.retention.run())
            tasks.create_task(self.submission_check.run())
            if self.replica is None:
                tasks.create_task(self.monitor.run())
            else:
                tasks.create_task(self.replica.run(known))


def assemble(
    backend: SchedulerBackend,
    database: Database,
    paths: PathChecker,
    settings: ServiceSettings,
    wire: WireFormat,
    clock: Callable[[], datetime],
    refusal: Callable[[], NotAsked | None] = lambda: None,
    *,
    job_environment: Mapping[str, str] = MappingProxyType({}),
    me: str | None = None,
) -> Services:
    """Return the services; nothing is opened or started.

    Args:
        backend: the scheduler.
        database: where the records are kept.
        paths: looks at what submissions name.
        settings: see there.
        wire: the form of jobs in answers, and the name of this deployment.
        clock: the present, aware.
        refusal: says why nothing is to be submitted now, or None.
        job_environment: variables that the site gives to every job.
        me: this process's name, which no other has; None for a random one.
    """
    me = me or uuid.uuid4().hex
    interval = timedelta(seconds=settings.poll_interval_seconds)
    listed_for = timedelta(seconds=settings.finished_jobs_listed_seconds)
    keys_kept = timedelta(seconds=settings.idempotency_keys_kept_seconds)
    store = JobStore(database, keys_kept, clock)
    changes = Changes(store)
    board = Board(wire)
    holder = me if store.is_shared else None
    bulletin = Bulletin(store, changes, board, holder, clock)
    handing = Handing(
        backend, store, changes, me, bulletin.adopt, refusal, settings, job_environment, clock
    )
    settler = Settler(backend, store, handing, bulletin.adopt, _end_leftovers, clock)
    usage_interval = timedelta(seconds=settings.usage_interval_seconds)
    usage = UsageReader(backend, board, usage_interval, _INTEREST, clock)
    rechecked_for = timedelta(seconds=settings.undetermined_rechecked_seconds)
    monitor = Monitor(
        backend,
        store,
        bulletin,
        board,
        settler,
        Resolver(backend, board, interval, rechecked_for),
        usage,
        wire.cluster_id,
        settings,
        _LISTED_AT_MOST,
        clock,
    )
    jobs = JobService(
        backend=backend,
        store=store,
        board=board,
        bulletin=bulletin,
        monitor=monitor,
        handing=handing,
        submitter=Submitter(store, changes, handing, settler, clock),
        usage=usage,
        archive=Archive(backend, store, wire.cluster_id, settings.poll_interval_seconds, clock),
        first_reader=FirstReader(
            backend,
            board,
            bulletin,
            settings.poll_interval_seconds,
            clock,
        ),
        wire=wire,
        paths=paths,
        clock=clock,
    )
    retention = Retention(
        Pruner(database, holder),
        backend,
        lambda: _open_since(board),
        settings,
        clock,
    )
    replica = None
    if store.is_shared:
        lease = Lease(database, me, timedelta(seconds=settings.replica_lease_seconds))
        replica = Replica(store, lease, bulletin, board, monitor, settings, _LISTED_AT_MOST, clock)
    return Services(
        store=store,
        board=board,
        pages=Pages(board, store, wire, listed_for, clock),
        monitor=monitor,
        usage=usage,
        jobs=jobs,
        retention=retention,
        submission_check=SubmissionCheck(backend),
        replica=replica,
    )


def _open_since(board: Board) -> datetime | None:
    entries = board.snapshot.entries.values()
    open_ones = [entry.record.hand_over for entry in entries if entry.record.hand_over]
    return min((hand_over.began_at for hand_over in open_ones), default=None)


async def _end_leftovers(key: SubmissionKey) -> None:
    await asyncio.to_thread(end_orphans, key)
