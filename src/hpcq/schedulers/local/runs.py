"""The run directories and the shepherds of jobs that run; file work happens off the event loop."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import structlog

from hpcq.domain.errors import SchedulerUnavailable
from hpcq.domain.states import FailureKind
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.local import files, job_folder, unreported_ends
from hpcq.schedulers.local.account_lookups import AccountLookups
from hpcq.schedulers.local.cgroup import JobCgroup
from hpcq.schedulers.local.environment import name_folder
from hpcq.schedulers.local.files import Result, ShepherdStart, UsageSample
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.launcher_client import LauncherClient, WaitingShepherd
from hpcq.schedulers.local.processes import (
    Process,
    descendants,
    identify,
    is_stopped,
    open_pidfd,
    send,
)
from hpcq.schedulers.local.report import JobReport, parse_start
from hpcq.schedulers.local.run_folders import RunFolders
from hpcq.schedulers.local.shepherd import CANCEL, PASS_ON
from hpcq.schedulers.local.spool_row import Phase, SpoolRow

__all__ = ["RecoveredJob", "Runs"]

_log = structlog.get_logger("hpcq.local")

_THREADS = 4

_T = TypeVar("_T")


class RecoveredJob(NamedTuple):
    """The present state of a job that was started before.

    Attributes:
        started: its shepherd, alive or not; None when it is not known, so that the job is ended.
        result: its end, when the machine was restarted since.
    """

    started: ShepherdStart | None
    result: Result | None


class Runs:
    """Starts shepherds, asks them to end their jobs, and reads their reports.

    All file work happens in threads of its own. They exist from the start, so that a limit on
    processes that is reached later stops no job and no answer about one.
    """

    def __init__(self, directory: Path, options: SchedulerOptions, grace_seconds: float) -> None:
        self.folders = RunFolders(directory, options, grace_seconds)
        self._launcher: LauncherClient | None = None
        self._descriptors: set[int] = set()
        self._reports: dict[str, JobReport] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hpcq-runs")
        self._accounts = AccountLookups()

    async def start(self, lock_descriptor: int) -> None:
        """Start the launcher, which shares the lock on the spool, see `launcher`."""
        self._accounts.start()
        barrier = threading.Barrier(_THREADS)
        await asyncio.gather(*(self.in_thread(barrier.wait) for _ in range(_THREADS)))
        await self.in_thread(self.folders.open)
        self._launcher = LauncherClient(lock_descriptor, self.folders.cgroups)
        await self._launcher.start()

    async def stop(self) -> None:
        """End the launcher and watch no more; jobs go on."""
        for descriptor in tuple(self._descriptors):
            self._unwatch(descriptor)
        if self._launcher is not None:
            await self._launcher.stop()
        self._accounts.stop()
        self._threads.shutdown()
        for report in self._reports.values():
            report.close()

    def in_thread(self, work: Callable[..., _T], *arguments: object) -> asyncio.Future[_T]:
        """Run file work in a thread that exists already."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def begin(self, job: LocalJob, script: bytes) -> WaitingShepherd:
        """Prepare a job and return its shepherd, which waits to start it.

        Raises:
            SchedulerUnavailable, OSError: it does not start.
            AccountUnusable: its account cannot be used now.
        """
        assert self._launcher is not None  # noqa: S101
        name = job.spec.run_as
        account = None
        if name is not None and not self.folders.is_own(name):
            account = await self._accounts.find(name)
        job.folder = name_folder(job)
        try:
            report = await self.in_thread(self.folders.prepare, job, script, account)
        except FileExistsError:
            # A crash has left it; or somebody else, who knows the job's id, is in the way.
            await self.remove(job)
            job.folder = f"{job.folder}-{secrets.token_hex(8)}"
            report = await self.in_thread(self.folders.prepare, job, script, account)
        self._reports[job.run_name] = report
        waiting = await self._launcher.launch(self.folders.directory_of(job))
        waiting.started["folder"] = job.folder
        return waiting

    async def check_account(self, name: str) -> None:
        """Check that jobs can run as an account.

        Raises:
            AccountsUnavailable: the machine's directory of accounts does not answer.
            AccountUnusable: they cannot.
        """
        if not self.folders.is_own(name):
            await self.in_thread(self.folders.check_accounts)
            await self._accounts.find(name)

    async def recover(
        self, rows: Sequence[SpoolRow], boot_id: str
    ) -> list[tuple[LocalJob, RecoveredJob | None]]:
        """Return the jobs of these rows, and the present state of those that were started.

        To be called with the lock held: then no shepherd of an earlier service is about to start
        its job, see `launcher`.
        """
        return await self.in_thread(lambda: [self._recover(row, boot_id) for row in rows])

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

    def request_end(self, job: LocalJob) -> None:
        """Ask the shepherd of a job to end the job.

        Raises:
            SchedulerUnavailable: it cannot be asked now.
        """
        _tell(job, CANCEL)

    def send_signal(self, job: LocalJob, number: signal.Signals) -> None:
        """Have the shepherd of a job send a signal to all processes of the job.

        Raises:
            SchedulerUnavailable: it cannot be asked now.
        """
        _tell(job, PASS_ON, number)

    async def continue_stopped(self, jobs: Sequence[LocalJob]) -> list[LocalJob]:
        """Let the shepherds of these jobs and the launcher go on, as far as they are stopped.

        Returns:
            The jobs whose shepherds were stopped.
        """
        return await self.in_thread(self._continue_stopped, jobs)

    async def result(self, job: LocalJob, jobs: Iterable[LocalJob]) -> Result:
        """Return the result of a job without a shepherd, see `unreported_ends.end_without_result`.

        Args:
            job: the job.
            jobs: all jobs that run.
        """
        report = self._report_of(job)
        # A small file that was written a moment ago: reading it is quicker than another thread.
        result = report.result() if report.is_open else await self.in_thread(report.result)
        if result is not None:
            return result
        others = [other.shepherd for other in jobs if other is not job]
        return await self.in_thread(self._result_of_lost, job, report, others)

    async def samples(self, jobs: Sequence[LocalJob]) -> list[UsageSample | None]:
        """Return the last sample of each of these jobs."""
        reports = [self._report_of(job) for job in jobs]
        return await self.in_thread(lambda: [_sample(report) for report in reports])

    async def remove(self, job: LocalJob) -> None:
        """Remove all that a job has here, and its control group if that is still there."""
        report = self._reports.pop(job.run_name, None)
        if report is not None:
            report.close()
        await self.in_thread(self.folders.remove, job)
        if not self.folders.is_own(job.spec.run_as):
            await self._remove_folder_of_account(job)

    async def keep_only(self, jobs: Iterable[LocalJob]) -> None:
        """Remove all that other jobs have here, left by a crash."""
        names = {job.run_name for job in jobs}
        await self.in_thread(self.folders.keep_only, names)

    def _unwatch(self, descriptor: int) -> None:
        self._descriptors.discard(descriptor)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _report_of(self, job: LocalJob) -> JobReport:
        return self._reports.get(job.run_name) or JobReport(self.folders.directory_of(job))

    def _recover(self, row: SpoolRow, boot_id: str) -> tuple[LocalJob, RecoveredJob | None]:
        job = LocalJob.from_row(row)
        if row.phase != Phase.DISPATCHED:
            return job, None
        directory = self.folders.directory_of(job)
        # An earlier version has left the mark of the shepherd in the run directory only.
        started = parse_start(row.started) or JobReport(directory).old_start()
        job.folder = None if started is None else started.get("folder")
        if row.boot_id != boot_id:
            report = JobReport(directory)
            result = report.result() or unreported_ends.lost(
                report.sample(),
                started,
                FailureKind.NODE_FAILURE,
                "The machine was restarted while the job ran.",
                None,
            )
            return job, RecoveredJob(started, result)
        if started is None:
            return job, RecoveredJob(None, None)
        shepherd = Process(started["pid"], started["start_ticks"])
        self._reports[job.run_name] = JobReport.of_shepherd(directory, shepherd)
        return job, RecoveredJob(started, None)

    def _continue_stopped(self, jobs: Sequence[LocalJob]) -> list[LocalJob]:
        pid = self._launcher and self._launcher.pid
        launcher = identify(pid) if pid else None
        if launcher is not None:
            _continue_if_stopped(launcher)
        return [job for job in jobs if job.shepherd and _continue_if_stopped(job.shepherd)]

    def _result_of_lost(
        self, job: LocalJob, report: JobReport, others: Sequence[Process | None]
    ) -> Result:
        def protected() -> set[Process]:
            roots = {other for other in others if other is not None}
            for pid in (os.getpid(), self._launcher and self._launcher.pid):
                root = identify(pid) if pid else None
                if root is not None:
                    roots.add(root)
            below = [descendants(root.pid) for root in roots if root.pid != os.getpid()]
            return roots.union(*below)

        group = self.folders.cgroup_of(job)
        return unreported_ends.end_without_result(
            report,
            job.started,
            job.mark,
            None if group is None else JobCgroup(group),
            protected,
        )

    async def _remove_folder_of_account(self, job: LocalJob) -> None:
        """Remove what the shepherd has left, if it was killed, in a process without threads."""
        folder = files.encode_path(self.folders.folder_of(job))
        if not await self.in_thread(os.path.lexists, folder):
            return
        # UTF-8 whatever the locale, so that the path arrives byte for byte.
        interpreter = (sys.executable, "-I", "-S", "-X", "utf8")
        with contextlib.suppress(OSError):
            process = await asyncio.create_subprocess_exec(
                *(*interpreter, str(job_folder.__file__), folder),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
            )
            await process.wait()


def _tell(job: LocalJob, number: signal.Signals, value: int | None = None) -> None:
    """Send a signal to the shepherd of a job, if it is known, and let it go on."""
    if job.shepherd is None:
        return
    try:
        send(job.shepherd, number, value)
        send(job.shepherd, signal.SIGCONT)
    except OSError as error:
        raise SchedulerUnavailable(f"The job cannot be reached now: {error}.") from error


def _continue_if_stopped(process: Process) -> bool:
    return is_stopped(process) and send(process, signal.SIGCONT)


def _sample(report: JobReport) -> UsageSample | None:
    try:
        return report.sample()
    except OSError:
        return None
