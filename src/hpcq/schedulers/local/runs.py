"""The run directories and the shepherds of jobs that run; file work happens off the event loop."""

import asyncio
import hashlib
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog

from hpcq.domain.errors import SchedulerUnavailable
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.local import cgroup_setup, files, recovery
from hpcq.schedulers.local.cgroup import remove_cgroup
from hpcq.schedulers.local.cgroup_setup import CgroupsUnusable, CgroupTree
from hpcq.schedulers.local.environment import JobEnvironment, login_environment, make_job_folder
from hpcq.schedulers.local.files import JobOrder, Result, Sample, ShepherdStart
from hpcq.schedulers.local.job import LocalJob, Phase, SpoolRow, output_paths
from hpcq.schedulers.local.launcher_client import LauncherClient, LauncherEnded
from hpcq.schedulers.local.processes import Process, open_pidfd, send
from hpcq.schedulers.local.recovery import RecoveredJob
from hpcq.schedulers.local.shepherd import CANCEL, REQUEST

__all__ = ["Runs"]

_log = structlog.get_logger("hpcq.local")


class Runs:
    """Starts shepherds, asks them to end their jobs, and reads the files that they leave."""

    def __init__(self, directory: Path, options: SchedulerOptions, grace_seconds: float) -> None:
        self._directory = directory
        self._environment = JobEnvironment(
            inherited=login_environment(options.account_environment), host=socket.gethostname()
        )
        self._shell = options.job_shell
        self._grace_seconds = grace_seconds
        self._launcher: LauncherClient | None = None
        self._cgroups: CgroupTree | None = None
        self._descriptors: set[int] = set()

    async def start(self, lock_descriptor: int) -> None:
        """Start the launcher, which shares the lock on the spool, see `launcher`."""
        await asyncio.to_thread(self._directory.mkdir, 0o700, exist_ok=True)
        self._cgroups = await asyncio.to_thread(_claim_cgroups, self._directory)
        self._launcher = LauncherClient(lock_descriptor, self._cgroups)
        await self._launcher.start()

    async def stop(self) -> None:
        """End the launcher and watch no more; jobs go on."""
        for descriptor in tuple(self._descriptors):
            self._unwatch(descriptor)
        if self._launcher is not None:
            await self._launcher.stop()

    async def begin(self, job: LocalJob, script: bytes) -> ShepherdStart:
        """Start a job and return its shepherd.

        Raises:
            SchedulerUnavailable, OSError: it was not started.
        """
        assert self._launcher is not None  # noqa: S101
        directory = self._directory_of(job)
        await asyncio.to_thread(self._prepare, directory, job, script)
        try:
            return await self._launcher.launch(directory)
        except LauncherEnded:
            started = await asyncio.to_thread(files.read_started, directory)
            if started is None:
                raise SchedulerUnavailable("The launcher of jobs was killed.") from None
            return started

    async def recover(
        self, rows: Sequence[SpoolRow], boot_id: str
    ) -> list[tuple[LocalJob, RecoveredJob | None]]:
        """Return the jobs of these rows, and the present state of those that were running.

        To be called with the lock held, see `recovery.recover`.
        """
        return await asyncio.to_thread(lambda: [self._recover(row, boot_id) for row in rows])

    def watch(self, shepherd: Process, on_end: Callable[[], None]) -> None:
        """Call back once when a shepherd ends, at once if it has ended.

        Raises:
            OSError: no descriptor is free.
        """
        descriptor = open_pidfd(shepherd)
        if descriptor is None:
            on_end()
            return

        def end() -> None:
            self._unwatch(descriptor)
            on_end()

        self._descriptors.add(descriptor)
        asyncio.get_running_loop().add_reader(descriptor, end)

    async def request_end(self, job: LocalJob) -> None:
        """Ask the shepherd of a job to end the job."""
        if job.shepherd is not None:
            await asyncio.to_thread(_request_end, self._directory_of(job), job.shepherd)

    async def result(self, job: LocalJob) -> Result:
        """Return the result of a job without a shepherd, see `recovery.recover_result`."""
        directory = self._directory_of(job)
        # A small file that was written a moment ago: reading it is quicker than another thread.
        result = files.read_result(directory)
        if result is not None:
            return result
        return await asyncio.to_thread(recovery.recover_result, directory, job.key)

    async def samples(self, jobs: Sequence[LocalJob]) -> list[Sample | None]:
        """Return the last sample of each of these jobs."""
        directories = [self._directory_of(job) for job in jobs]
        return await asyncio.to_thread(lambda: [files.read_sample(d) for d in directories])

    async def remove(self, job: LocalJob) -> None:
        """Remove the run directory of a job, and its control group if that is still there."""
        await asyncio.to_thread(self._remove, job)

    async def keep_only(self, jobs: Iterable[LocalJob]) -> None:
        """Remove the run directories and control groups of all other jobs, left by a crash."""
        names = {job.run_name for job in jobs}
        await asyncio.to_thread(self._keep_only, names)

    def _unwatch(self, descriptor: int) -> None:
        self._descriptors.discard(descriptor)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _directory_of(self, job: LocalJob) -> Path:
        return self._directory / job.run_name

    def _prepare(self, directory: Path, job: LocalJob, script: bytes) -> None:
        order = self._order(job)
        files.make_run_directory(directory, order, script)
        make_job_folder(order["folder"], self._environment.host, job.spec.slots)

    def _order(self, job: LocalJob) -> JobOrder:
        spec, group = job.spec, self._cgroup_of(job)
        stdout_path, stderr_path = output_paths(job.number, spec)
        folder = self._environment.folder(job)
        return JobOrder(
            args=list(spec.args),
            environment=self._environment.environment(job, folder),
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

    def _recover(self, row: SpoolRow, boot_id: str) -> tuple[LocalJob, RecoveredJob | None]:
        job = LocalJob.from_row(row)
        if row.phase != Phase.DISPATCHED:
            return job, None
        return job, recovery.recover(self._directory_of(job), row.boot_id, boot_id)

    def _remove(self, job: LocalJob) -> None:
        files.remove_run_directory(self._directory_of(job))
        group = self._cgroup_of(job)
        if group is not None:
            remove_cgroup(group)

    def _keep_only(self, names: set[str]) -> None:
        for path in self._directory.iterdir():
            if path.name not in names:
                files.remove_run_directory(path)
        if self._cgroups is not None:
            cgroup_setup.remove_unused(self._cgroups.path, names)

    def _cgroup_of(self, job: LocalJob) -> Path | None:
        return None if self._cgroups is None else self._cgroups.path / job.run_name


def _claim_cgroups(directory: Path) -> CgroupTree | None:
    # One name for one spool, so that the next service finds the groups of running jobs again.
    name = hashlib.blake2b(bytes(directory.resolve()), digest_size=6).hexdigest()
    try:
        cgroups = cgroup_setup.claim(f"hpcq-{name}")
    except CgroupsUnusable as error:
        _log.info("cgroups.unused", reason=str(error), instead="the process tree of each job")
        return None
    _log.info("cgroups.used", path=str(cgroups.path), controllers=cgroups.controllers)
    return cgroups


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
