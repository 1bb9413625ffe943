"""Several services in one process, over one scheduler in memory and one PostgreSQL."""

import asyncio
import contextlib
import errno
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from tests.unit.services.kit import CLUSTER, Clock

from hpcq.domain.jobs import JobRecord, JobSpec, JobUid
from hpcq.domain.principals import UNASKED
from hpcq.schedulers.base import Listing, SchedulerBackend
from hpcq.schedulers.testing import FakeScheduler
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS
from hpcq.services.listing.wire import WireFormat
from hpcq.services.mail.settings import MailSettings
from hpcq.services.replicas import Replica
from hpcq.services.settings import ServiceSettings
from hpcq.services.submission.paths import PathChecker
from hpcq.services.wiring import Services, assemble
from hpcq.storage.database import Database
from hpcq.storage.leases import Lease
from hpcq.storage.migrate import Deployment

__all__ = ["COMMAND_SECONDS", "LISTED_FOR", "SETTLE_SECONDS", "Member", "Site", "until"]

COMMAND_SECONDS = 30.0
SETTLE_SECONDS = 60.0
LISTED_FOR = timedelta(days=1)
# Long enough that none loses it by being slow; what waits for its end sets another clock.
LEASE = timedelta(seconds=15)


class LostDatabase(Database):
    """One to which the way can be lost; `writes_left` counts down to that."""

    writes_left: int | None = None

    def _write(self, works: Sequence[Any]) -> list[Any]:
        if self.writes_left is not None:
            if self.writes_left == 0:
                raise OSError(errno.EHOSTUNREACH, "No route to host")
            self.writes_left -= 1
        return super()._write(works)


class Door:
    """One service's way to the scheduler that all share; counts its queries for the queue."""

    def __init__(self, scheduler: FakeScheduler) -> None:
        self._scheduler = scheduler
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    async def jobs(self) -> Listing:
        self.asked += 1
        return await self._scheduler.jobs()


@dataclass(kw_only=True)
class Member:
    """One of the services, with a clock of its own. Nothing runs by itself but after `start`."""

    scheduler: FakeScheduler
    url: str
    interval_seconds: float
    mail: MailSettings | None = None
    clock: Clock = field(default_factory=Clock)
    running: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.name = uuid.uuid4().hex
        self.database = LostDatabase(self.url, Deployment(CLUSTER, "FAKE"))
        self.lease = Lease(self.database, self.name, LEASE)
        self.door = Door(self.scheduler)
        settings = ServiceSettings(
            poll_interval_seconds=self.interval_seconds,
            stale_after_seconds=2 * self.interval_seconds,
            finished_jobs_listed_seconds=LISTED_FOR.total_seconds(),
            records_kept_days=90,
            events_kept_days=90,
            replica_lease_seconds=LEASE.total_seconds(),
            command_timeout_seconds=COMMAND_SECONDS,
            submission_wait_seconds=0,
            submission_settle_seconds=SETTLE_SECONDS,
            path_check_timeout_seconds=PATIENCE_SECONDS,
            path_wait_seconds=0,
        )
        self.paths = PathChecker(self.scheduler, settings)
        self.services: Services = assemble(
            cast(SchedulerBackend, self.door),
            self.database,
            self.paths,
            settings,
            WireFormat(CLUSTER),
            self.clock,
            mail=self.mail,
            me=self.name,
        )
        self.known = 0

    @property
    def replica(self) -> Replica:
        assert self.services.replica is not None
        return self.services.replica

    async def open(self) -> None:
        await self.database.open()
        self.known = await self.services.monitor.load()

    def start(self) -> None:
        """Have it follow and take turns by itself."""
        self.running = asyncio.create_task(self.services.watch(self.known))

    async def stop(self) -> None:
        """End it as a service manager does."""
        running, self.running = self.running, None
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def close(self) -> None:
        await self.stop()
        self.database.writes_left = None
        await self.database.close()
        self.paths.close()

    async def lead(self) -> None:
        """Look once, as the one that asks; it must be able to be that."""
        await self.replica.catch_up()
        assert await self.lease.take()
        await self.services.monitor.tick()

    async def hand_on(self) -> None:
        """Let another one lead."""
        await self.lease.give_back()

    async def follow(self) -> None:
        await self.replica.catch_up()

    def job(self, uid: JobUid) -> JobRecord:
        entry = self.services.table.entries.get(uid)
        assert entry is not None, f"{uid} is not on the table"
        return entry.record

    def shown(self) -> dict[JobUid, JobRecord]:
        return {record.uid: record for record in self.services.table.records()}


@dataclass(kw_only=True)
class Site:
    """All of them."""

    directory: Path
    url: str
    scheduler: FakeScheduler = field(default_factory=lambda: FakeScheduler(Clock()))
    members: list[Member] = field(default_factory=list)
    interval_seconds: float = 0.1
    mail: MailSettings | None = None

    def __post_init__(self) -> None:
        script = self.directory / "run.sh"
        script.write_text("#!/bin/sh\n")
        self.spec = JobSpec(
            name="study", working_directory=str(self.directory), script_file=str(script)
        )

    async def member(self) -> Member:
        """Another one, opened."""
        new = Member(
            scheduler=self.scheduler,
            url=self.url,
            interval_seconds=self.interval_seconds,
            mail=self.mail,
        )
        self.members.append(new)
        await new.open()
        return new

    async def submit(self, member: Member, **fields: Any) -> JobRecord:
        """Submit a job there, and wait until all of that is in the database."""
        record = (
            await member.services.submitter.submit(UNASKED, replace(self.spec, **fields))
        ).record
        await member.services.submitter.runner.drain()
        return record

    async def close(self) -> None:
        for member in self.members:
            await member.close()


async def until(reached: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not reached():  # noqa: ASYNC110  (nobody tells of it)
            await asyncio.sleep(0.01)
