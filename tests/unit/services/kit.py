"""The services over a scheduler in memory, wired as the application wires them."""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId
from hpcq.domain.principals import UNASKED
from hpcq.execution.accounts import Accounts
from hpcq.schedulers.testing import FakeScheduler
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS
from hpcq.services.listing.wire import WireFormat
from hpcq.services.settings import ServiceSettings
from hpcq.services.submission.paths import PathChecker
from hpcq.services.wiring import assemble
from hpcq.storage.database import Database
from hpcq.storage.migrate import Deployment

__all__ = ["CLUSTER", "T0", "WIRE", "Clock", "FillingDatabase", "World", "service_settings"]

CLUSTER = "1"
WIRE = WireFormat(CLUSTER)
T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)


def service_settings(**values: object) -> ServiceSettings:
    """Return settings in which nothing waits; values that no site may have are fine here."""
    patient = ServiceSettings(
        submission_wait_seconds=0, path_wait_seconds=0, path_check_timeout_seconds=PATIENCE_SECONDS
    )
    return patient.model_copy(update=values)


class Clock:
    """A clock that stands still but when a test moves it."""

    def __init__(self) -> None:
        self.shown = T0

    def __call__(self) -> datetime:
        return self.shown

    def forward(self, seconds: float) -> None:
        self.shown += timedelta(seconds=seconds)


class FillingDatabase(Database):
    """A database on a disk that can be full."""

    full = False

    def _write(self, works: Sequence[Any]) -> list[Any]:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super()._write(works)


@dataclass(kw_only=True)
class World:
    """One service over one scheduler, which outlives it."""

    directory: Path
    clock: Clock = field(default_factory=Clock)
    kind: type[FakeScheduler] = FakeScheduler
    scheduler: FakeScheduler = field(init=False)
    accounts: Accounts | None = None
    interval_seconds: float = 5.0
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scheduler = self.kind(self.clock)
        self.begin()

    def begin(self) -> None:
        """Make a service over what there is."""
        script = self.directory / "run.sh"
        script.write_text("#!/bin/sh\n")
        self.spec = JobSpec(
            name="study", working_directory=str(self.directory), script_file=str(script)
        )
        self.database = FillingDatabase(
            f"sqlite:///{self.directory / 'jobs.sqlite3'}", Deployment(CLUSTER, "FAKE")
        )
        settings = service_settings(
            **{"poll_interval_seconds": self.interval_seconds, **self.settings}
        )
        self.paths = PathChecker(self.scheduler, settings, self.accounts)
        services = assemble(
            self.scheduler,
            self.database,
            self.paths,
            settings,
            WIRE,
            self.clock,
        )
        self.store, self.table, self.jobs = services.store, services.table, services.jobs
        self.submitter, self.changer = services.submitter, services.changer
        self.lookup, self.retention = services.jobs.lookup, services.retention
        self.monitor, self.usage = services.monitor, services.usage
        self.runner, self.recovery = services.submitter.runner, services.monitor._recovery

    async def __aenter__(self) -> Self:
        await self.database.open()
        await self.monitor.load()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.database.full = False
        await self.database.close()
        self.paths.close()

    async def restart(self) -> None:
        """End this service without a word, and begin the next one over the same files."""
        await self.__aexit__()
        self.begin()
        await self.__aenter__()

    async def submit(self, **fields: Any) -> JobRecord:
        record = (await self.submitter.submit(UNASKED, replace(self.spec, **fields))).record
        await self.runner.drain()
        stored = await self.store.by_uid(record.uid)
        assert stored is not None
        return stored if stored.native_id == record.native_id else record

    async def ended_unaccounted(self) -> JobRecord:
        """Have a job run and leave the queue, and accounting not show it; return its record."""
        record = await self.submit()
        assert record.native_id is not None
        await self.tick(5)
        self.scheduler.run(record.native_id)
        await self.tick(5)
        self.scheduler.end(record.native_id, accounted=False, exit_code=0)
        return record

    async def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, and the scheduler be asked once."""
        self.clock.forward(seconds)
        await self.monitor.tick()

    def job(self, job_id: str) -> JobRecord:
        """A job on the table."""
        known = JobUid(job_id) if "-" in job_id else NativeId(job_id)
        entry = self.table.entry(known)
        assert entry is not None, f"{job_id} is not on the table"
        return entry.record

    def on_board(self) -> list[str | None]:
        return [record.native_id for record in self.table.records()]
