"""The jobs that run, as files and processes: their directories and their shepherds."""

import asyncio
import hashlib
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from hpcq.domain.errors import SchedulerUnavailable
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.local import account, delegation, files, recovery
from hpcq.schedulers.local.cgroup import remove_group
from hpcq.schedulers.local.delegation import Subtree, Unusable
from hpcq.schedulers.local.entry import Entry, output_paths
from hpcq.schedulers.local.files import Order, Result, Sample, Started
from hpcq.schedulers.local.launching import Launcher, LauncherGone
from hpcq.schedulers.local.processes import Process, send
from hpcq.schedulers.local.shepherd import CANCEL, REQUEST
from hpcq.schedulers.local.spool import Phase, Row
from hpcq.schedulers.local.surroundings import Surroundings, make_folder

__all__ = ["Runs"]

_log = structlog.get_logger("hpcq.local")


class Runs:
    """Starts shepherds, asks them to end their jobs, reads what they leave. Off the event loop."""

    def __init__(self, directory: Path, options: SchedulerOptions) -> None:
        self._directory = directory
        self._surroundings = Surroundings(
            inherited=account.environment(options.account_environment), host=socket.gethostname()
        )
        self._shell = options.job_shell
        self._grace_seconds = options.cancel_grace_seconds
        self._launcher: Launcher | None = None
        self._groups: Subtree | None = None

    async def start(self, lock_descriptor: int) -> None:
        """Make ready to start jobs. The launcher shares the lock, see `launcher`."""
        await asyncio.to_thread(self._directory.mkdir, 0o700, exist_ok=True)
        self._groups = await asyncio.to_thread(_claim_groups, self._directory)
        self._launcher = Launcher(lock_descriptor, self._groups)
        await self._launcher.start()

    async def stop(self) -> None:
        """Start no more; jobs go on."""
        if self._launcher is not None:
            await self._launcher.stop()

    def directory_of(self, entry: Entry) -> Path:
        """Return the run directory of a job."""
        return self._directory / entry.run_name

    async def begin(self, entry: Entry, script: bytes) -> Started:
        """Start a job and return its shepherd.

        Raises:
            SchedulerUnavailable, OSError: it was not started.
        """
        assert self._launcher is not None  # noqa: S101
        directory = self.directory_of(entry)
        await asyncio.to_thread(self._prepare, directory, entry, script)
        try:
            return await self._launcher.launch(directory)
        except LauncherGone:
            started = await asyncio.to_thread(recovery.read_started, directory)
            if started is None:
                raise SchedulerUnavailable("The launcher of jobs was killed.") from None
            return started

    async def fates(
        self, rows: Sequence[Row], boot_id: str
    ) -> list[tuple[Entry, recovery.Fate | None]]:
        """Return the jobs of these rows; with those that were running, what became of them.

        To be called with the lock held, see `recovery.fate`.
        """
        return await asyncio.to_thread(lambda: [self._fate(row, boot_id) for row in rows])

    async def request_end(self, entry: Entry) -> None:
        """Ask the shepherd of a job to end it."""
        if entry.shepherd is not None:
            await asyncio.to_thread(_request_end, self.directory_of(entry), entry.shepherd)

    async def outcome(self, entry: Entry) -> Result:
        """Return how a job ended whose shepherd has ended."""
        directory = self.directory_of(entry)
        # A small file that was written a moment ago: reading it is quicker than another thread.
        result = recovery.read_result(directory)
        if result is not None:
            return result
        return await asyncio.to_thread(recovery.outcome, directory, entry.key)

    async def samples(self, entries: Sequence[Entry]) -> list[Sample | None]:
        """Return the last sample of each of these jobs."""
        directories = [self.directory_of(entry) for entry in entries]
        return await asyncio.to_thread(lambda: [recovery.read_sample(d) for d in directories])

    async def remove(self, entry: Entry) -> None:
        """Remove the run directory of a job, and its control group if that is still there."""
        await asyncio.to_thread(self._remove, entry)

    async def keep_only(self, entries: Iterable[Entry]) -> None:
        """Remove the run directories and control groups of all other jobs, left by a crash."""
        names = {entry.run_name for entry in entries}
        await asyncio.to_thread(recovery.remove_other_runs, self._directory, names)
        if self._groups is not None:
            await asyncio.to_thread(delegation.sweep, self._groups.path, names)

    def _prepare(self, directory: Path, entry: Entry, script: bytes) -> None:
        order = self._order(entry)
        recovery.prepare(directory, order, script)
        make_folder(order["folder"], self._surroundings.host, entry.spec.slots)

    def _order(self, entry: Entry) -> Order:
        spec, group = entry.spec, self._group_of(entry)
        stdout_path, stderr_path = output_paths(entry.number, spec)
        folder = self._surroundings.folder(entry)
        return Order(
            args=list(spec.args),
            environment=self._surroundings.environment(entry, folder),
            working_directory=spec.working_directory,
            stdout_path=stdout_path,
            stderr_path=stderr_path,
            wall_time_limit_seconds=spec.wall_time_limit_seconds,
            memory_limit_bytes=spec.memory_limit_bytes,
            grace_seconds=self._grace_seconds,
            cgroup=None if group is None else str(group),
            shell=self._shell,
            folder=folder,
        )

    def _remove(self, entry: Entry) -> None:
        recovery.remove_run(self.directory_of(entry))
        group = self._group_of(entry)
        if group is not None:
            remove_group(group)

    def _fate(self, row: Row, boot_id: str) -> tuple[Entry, recovery.Fate | None]:
        entry = Entry.from_row(row)
        if row.phase != Phase.DISPATCHED:
            return entry, None
        return entry, recovery.fate(self.directory_of(entry), row.boot_id, boot_id)

    def _group_of(self, entry: Entry) -> Path | None:
        return None if self._groups is None else self._groups.path / entry.run_name


def _claim_groups(directory: Path) -> Subtree | None:
    # One name for one spool, so that the next service finds the groups of running jobs again.
    name = hashlib.blake2b(bytes(directory.resolve()), digest_size=6).hexdigest()
    try:
        groups = delegation.claim(f"hpcq-{name}")
    except Unusable as error:
        _log.info("cgroups.unused", reason=str(error), instead="the process tree of each job")
        return None
    _log.info("cgroups.used", path=str(groups.path), controllers=groups.controllers)
    return groups


def _request_end(directory: Path, shepherd: Process) -> None:
    try:
        (directory / files.CANCEL).touch(0o600)
    except FileNotFoundError:
        # The job has just ended.
        return
    except OSError:
        send(shepherd, CANCEL)
    else:
        send(shepherd, REQUEST)
