"""The services before one scheduler, put together."""

import asyncio
import os
import ssl
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from hpcq.domain.errors import CircuitOpen
from hpcq.domain.jobs import SubmissionKey
from hpcq.domain.validation import SizeLimits
from hpcq.domain.webhooks import SubscriberKind
from hpcq.execution.account_process import end_orphans_of
from hpcq.execution.orphans import end_orphans
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.cluster import ClusterReader
from hpcq.services.deliveries.dispatcher import Dispatcher
from hpcq.services.deliveries.transport import Transport
from hpcq.services.event_feed import EventFeed
from hpcq.services.job_changer import JobChanger
from hpcq.services.job_reader import JobReader
from hpcq.services.job_updates import JobUpdater
from hpcq.services.listing.job_lookup import JobLookup
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.pagination import Pagination
from hpcq.services.listing.publisher import JobPublisher
from hpcq.services.listing.search import JobSearch
from hpcq.services.listing.wire import WireFormat
from hpcq.services.mail.sender import MailSender
from hpcq.services.mail.settings import MailSettings
from hpcq.services.monitoring.job_details import DetailsReader, UsageReader
from hpcq.services.monitoring.monitor import Monitor
from hpcq.services.monitoring.vanished_jobs import VanishedJobs
from hpcq.services.queue_usage import QueueUsage
from hpcq.services.replicas import Replica
from hpcq.services.retention import Retention
from hpcq.services.settings import ServiceSettings
from hpcq.services.submission.attempt import SubmissionRunner
from hpcq.services.submission.paths import PathChecker
from hpcq.services.submission.quota import JobQuota
from hpcq.services.submission.recovery import SubmissionRecovery
from hpcq.services.submission.submission_check import SubmissionCheck
from hpcq.services.submission.submitter import Submitter
from hpcq.services.webhooks.sender import WebhookSender
from hpcq.services.webhooks.service import WebhookService
from hpcq.storage.database import Database
from hpcq.storage.deliveries import DeliveryQueue
from hpcq.storage.jobs import JobStore
from hpcq.storage.leases import Lease
from hpcq.storage.pending_writes import PendingWrites
from hpcq.storage.pruning import Pruner
from hpcq.storage.queue_samples import QueueSamples
from hpcq.storage.webhooks import WebhookStore

__all__ = ["Services", "assemble"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services that the API uses.

    Attributes:
        pending: changes that the database could not take yet.
        submission_check: knows whether jobs can be submitted at all.
        replica: takes turns with others in asking the scheduler; None where there are none.
    """

    store: JobStore
    pending: PendingWrites
    table: JobTable
    pages: Pagination
    search: JobSearch
    monitor: Monitor
    usage: UsageReader
    jobs: JobReader
    submitter: Submitter
    changer: JobChanger
    cluster: ClusterReader
    queue_usage: QueueUsage
    retention: Retention
    submission_check: SubmissionCheck
    webhooks: WebhookService
    dispatcher: Dispatcher
    events: EventFeed
    replica: Replica | None

    def by_name(self) -> dict[str, Any]:
        """Return the services by the names of these attributes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    async def watch(self, known: int) -> None:
        """Keep everything up to date until cancelled.

        Args:
            known: the newest transaction that the table shows, as `Monitor.load` gave it.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.retention.run())
            tasks.create_task(self.submission_check.run())
            tasks.create_task(self.dispatcher.run())
            tasks.create_task(self.events.run())
            tasks.create_task(self.queue_usage.run())
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
    rejection: Callable[[], CircuitOpen | None] = lambda: None,
    *,
    mail: MailSettings | None = None,
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
        rejection: says why nothing is to be submitted now, or None.
        mail: the mails that this service sends; None for none.
        job_environment: variables that the site gives to every job.
        me: this process's name, which no other has; None for a random one.
    """
    mail = mail or MailSettings()
    me = me or uuid.uuid4().hex
    keys_kept = timedelta(seconds=settings.idempotency_keys_kept_seconds)
    store = JobStore(database, keys_kept, clock)
    pending = PendingWrites(store)
    table = JobTable(wire)
    holder = me if store.is_shared else None
    publisher = JobPublisher(store, pending, table, holder, clock)
    runner = SubmissionRunner(
        backend,
        store,
        pending,
        me,
        publisher.show,
        rejection,
        paths.read_script,
        settings,
        job_environment,
        clock,
    )
    recovery = SubmissionRecovery(backend, store, runner, publisher.show, _end_orphans, clock)
    usage = UsageReader(backend, table, settings, clock)
    monitor = Monitor(
        backend,
        store,
        publisher,
        table,
        recovery,
        VanishedJobs(backend, table, settings),
        usage,
        wire.cluster_id,
        settings,
        clock,
    )
    sizes = SizeLimits(
        settings.max_args_bytes, settings.max_environment_bytes, settings.max_array_tasks
    )
    lookup = JobLookup(backend, store, wire.cluster_id, settings, clock)
    jobs = JobReader(
        backend=backend,
        store=store,
        table=table,
        monitor=monitor,
        usage=usage,
        lookup=lookup,
        details_reader=DetailsReader(backend, table, publisher, settings, clock),
        wire=wire,
    )
    submitter = Submitter(
        backend=backend,
        store=store,
        pending=pending,
        runner=runner,
        recovery=recovery,
        quota=JobQuota(table, settings),
        jobs=jobs,
        monitor=monitor,
        paths=paths,
        sizes=sizes,
        mail=mail,
        clock=clock,
    )
    changer = JobChanger(
        backend=backend,
        store=store,
        table=table,
        publisher=publisher,
        monitor=monitor,
        jobs=jobs,
        lookup=lookup,
        updater=JobUpdater(
            backend=backend, table=table, publisher=publisher, sizes=sizes, clock=clock
        ),
        paths=paths,
        clock=clock,
    )
    retention = Retention(
        Pruner(database, holder),
        backend,
        lambda: _open_since(table),
        settings,
        clock,
    )
    replica = None
    if store.is_shared:
        lease = Lease(database, me, timedelta(seconds=settings.replica_lease_seconds))
        replica = Replica(store, lease, publisher, table, monitor, settings, clock)

    def is_leader() -> bool:
        return replica is None or replica.is_leader

    cluster = ClusterReader(backend, settings, clock)
    queue_usage = QueueUsage(
        cluster,
        table,
        QueueSamples(database, holder),
        is_leader,
        settings,
        clock,
    )
    transports: dict[SubscriberKind, Callable[[], Transport]] = {}
    if settings.webhook_networks:
        tls = ssl.create_default_context()
        transports[SubscriberKind.WEBHOOK] = partial(WebhookSender, settings.webhook_networks, tls)
    if mail.sends_mails:
        transports[SubscriberKind.MAIL] = partial(MailSender, mail, wire.cluster_id, store.by_uids)
    return Services(
        store=store,
        pending=pending,
        table=table,
        pages=Pagination(table, store, wire, settings, clock),
        search=JobSearch(table, store, wire),
        monitor=monitor,
        usage=usage,
        jobs=jobs,
        submitter=submitter,
        changer=changer,
        cluster=cluster,
        queue_usage=queue_usage,
        retention=retention,
        submission_check=SubmissionCheck(backend),
        events=EventFeed(store),
        webhooks=WebhookService(WebhookStore(database), settings.webhook_networks, clock),
        dispatcher=Dispatcher(
            DeliveryQueue(database, transports.keys(), holder), transports, is_leader, clock
        ),
        replica=replica,
    )


def _open_since(table: JobTable) -> datetime | None:
    entries = table.entries.values()
    open_ones = [entry.record.hand_over for entry in entries if entry.record.hand_over]
    return min((hand_over.began_at for hand_over in open_ones), default=None)


async def _end_orphans(key: SubmissionKey, run_as: str | None) -> None:
    await asyncio.to_thread(end_orphans, key)
    if run_as is not None and os.geteuid() != 0:
        # Only the account itself may see and end what it runs.
        await asyncio.to_thread(end_orphans_of, run_as, key)
