"""The services before one scheduler, put together."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from hpcq.domain.errors import NotAsked
from hpcq.domain.jobs import SubmissionKey
from hpcq.execution.leftovers import end_leftovers
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.archive import Archive
from hpcq.services.bulletin import Bulletin
from hpcq.services.changes import Changes
from hpcq.services.first_read import FirstReader
from hpcq.services.handing import Handing, SubmissionOptions
from hpcq.services.jobs import JobService
from hpcq.services.monitor import Monitor, MonitorOptions
from hpcq.services.pages import Pages
from hpcq.services.paths import PathChecker
from hpcq.services.replica import Replica, ReplicaOptions
from hpcq.services.resolving import Resolver
from hpcq.services.retention import Retention, RetentionOptions
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

__all__ = ["ServiceOptions", "Services", "assemble"]

_INTEREST = timedelta(minutes=1)
_NEWS_SECONDS = 0.5
_LISTED_AT_MOST = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """What the settings say to the services.

    Attributes:
        wire: how jobs are written, and under which name of this deployment.
        me: this process's name; no other has it.
        interval: from one queue query to the next.
        usage_interval: from one query for the usage of running jobs to the next.
        listed_for: how long a finished job stays in the listing.
        rechecked_for: how long a job that nobody knows of is looked for.
        keys_kept: how long an idempotency key is remembered.
        records_kept: how long the record of a finished job is kept; None for ever.
        events_kept: how long events are kept.
        lease: how long the replica that asks the scheduler may be silent.
        submission: how much time the parts of a submission are given.
    """

    wire: WireFormat
    me: str
    interval: timedelta
    usage_interval: timedelta
    listed_for: timedelta
    rechecked_for: timedelta
    keys_kept: timedelta
    records_kept: timedelta | None
    events_kept: timedelta
    lease: timedelta
    submission: SubmissionOptions


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
    options: ServiceOptions,
    clock: Callable[[], datetime],
    refusal: Callable[[], NotAsked | None] = lambda: None,
) -> Services:
    """Return the services; nothing is opened or started.

    Args:
        backend: the scheduler.
        database: where the records are kept.
        paths: looks at what submissions name.
        options: see there.
        clock: the present, aware.
        refusal: says why nothing is to be submitted now, or None.
    """
    store = JobStore(database, options.keys_kept, clock)
    changes = Changes(store)
    board = Board(options.wire)
    holder = options.me if store.is_shared else None
    bulletin = Bulletin(store, changes, board, holder, clock)
    handing = Handing(
        backend, store, changes, options.me, bulletin.adopt, refusal, options.submission, clock
    )
    settler = Settler(backend, store, handing, bulletin.adopt, _end_leftovers, clock)
    usage = UsageReader(backend, board, options.usage_interval, _INTEREST, clock)
    monitor = Monitor(
        backend,
        store,
        bulletin,
        board,
        settler,
        Resolver(backend, board, options.interval, options.rechecked_for),
        usage,
        options.wire.cluster_id,
        MonitorOptions(
            interval_seconds=options.interval.total_seconds(),
            listed_for=options.listed_for,
            listed_at_most=_LISTED_AT_MOST,
        ),
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
        archive=Archive(
            backend, store, options.wire.cluster_id, options.interval.total_seconds(), clock
        ),
        first_reader=FirstReader(
            backend,
            board,
            bulletin,
            options.interval.total_seconds(),
            clock,
        ),
        wire=options.wire,
        paths=paths,
        clock=clock,
    )
    retention = Retention(
        Pruner(database, holder),
        backend,
        lambda: _open_since(board),
        RetentionOptions(
            records=options.records_kept,
            events=options.events_kept,
            keys=options.keys_kept,
            listed=options.listed_for,
        ),
        clock,
    )
    replica = None
    if store.is_shared:
        lease = Lease(database, options.me, options.lease)
        turns = ReplicaOptions(
            news_seconds=_NEWS_SECONDS,
            lease_seconds=options.lease.total_seconds(),
            listed_for=options.listed_for,
            listed_at_most=_LISTED_AT_MOST,
        )
        replica = Replica(store, lease, bulletin, board, monitor, turns, clock)
    return Services(
        store=store,
        board=board,
        pages=Pages(board, store, options.wire, options.listed_for, clock),
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
    await asyncio.to_thread(end_leftovers, key)
