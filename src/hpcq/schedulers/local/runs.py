"""The run directories and the shepherds of jobs that run; file work happens off the event loop."""

import asyncio
import contextlib
import hashlib
import os
import pwd
import secrets
import signal
import socket
import stat
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
from hpcq.schedulers.local import cgroup_setup, files, job_folder, recovery
from hpcq.schedulers.local.accounts import AccountUnusable, account_ids, find_account
from hpcq.schedulers.local.cgroup import JobCgroup, remove_cgroup
from hpcq.schedulers.local.cgroup_setup import CgroupsUnusable, CgroupTree
from hpcq.schedulers.local.environment import (
    JobEnvironment,
    account_name,
    find_place,
    list_hosts,
    login_environment,
)
from hpcq.schedulers.local.files import JobOrder, Result, Sample, ShepherdStart
from hpcq.schedulers.local.job import LocalJob, output_paths
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
        self._directory = directory / "runs"
        self._scripts = directory / "scripts"
        self._environment = JobEnvironment(
            inherited=login_environment(options.account_environment), host=socket.gethostname()
        )
        self._own_account = account_name()
        self._shell = options.job_shell
        self._grace_seconds = grace_seconds
        self._launcher: LauncherClient | None = None
        self._cgroups: CgroupTree | None = None
        self._descriptors: set[int] = set()
        self._reports: dict[str, JobReport] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hpcq-runs")

    async def start(self, lock_descriptor: int) -> None:
        """Start the launcher, which shares the lock on the spool, see `launcher`."""
        barrier = threading.Barrier(_THREADS)
        await asyncio.gather(*(self.in_thread(barrier.wait) for _ in range(_THREADS)))
        await self.in_thread(self._make_directories)
        self._cgroups = await self.in_thread(_claim_cgroups, self._directory)
        self._launcher = LauncherClient(lock_descriptor, self._cgroups)
        await self._launcher.start()

    async def stop(self) -> None:
        """End the launcher and watch no more; jobs go on."""
        for descriptor in tuple(self._descriptors):
            self._unwatch(descriptor)
        if self._launcher is not None:
            await self._launcher.stop()
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
        job.folder = self._environment.folder(job)
        try:
            report = await self.in_thread(self._prepare, job, script)
        except FileExistsError:
            # A crash has left it; or somebody else, who knows the job's id, is in the way.
            await self.remove(job)
            job.folder = f"{job.folder}-{secrets.token_hex(8)}"
            report = await self.in_thread(self._prepare, job, script)
        self._reports[job.run_name] = report
        waiting = await self._launcher.launch(self._directory_of(job))
        waiting.started["folder"] = self._folder_of(job)
        return waiting

    def check_accounts(self) -> None:
        """Check that jobs can run as other accounts at all. Asks the file system.

        Raises:
            AccountUnusable: they cannot.
        """
        if os.geteuid() != 0:
            raise AccountUnusable(
                "LOCAL runs jobs as other accounts only if the service runs as root."
            )
        job_folder.check_place(find_place())

    async def check_account(self, name: str) -> None:
        """Check that jobs can run as an account.

        Raises:
            AccountUnusable: they cannot.
        """
        await self.in_thread(self._find_account, name)

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
        """Return the result of a job without a shepherd, see `recovery.end_without_result`.

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

    async def samples(self, jobs: Sequence[LocalJob]) -> list[Sample | None]:
        """Return the last sample of each of these jobs."""
        reports = [self._report_of(job) for job in jobs]
        return await self.in_thread(lambda: [_sample(report) for report in reports])

    async def remove(self, job: LocalJob) -> None:
        """Remove all that a job has here, and its control group if that is still there."""
        report = self._reports.pop(job.run_name, None)
        if report is not None:
            report.close()
        await self.in_thread(self._remove, job)
        if not self._is_own(job.spec.run_as):
            await self._remove_folder_of_account(job)

    async def keep_only(self, jobs: Iterable[LocalJob]) -> None:
        """Remove all that other jobs have here, left by a crash."""
        names = {job.run_name for job in jobs}
        await self.in_thread(self._keep_only, names)

    def _unwatch(self, descriptor: int) -> None:
        self._descriptors.discard(descriptor)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _directory_of(self, job: LocalJob) -> Path:
        return self._directory / job.run_name

    def _report_of(self, job: LocalJob) -> JobReport:
        return self._reports.get(job.run_name) or JobReport(self._directory_of(job))

    def _make_directories(self) -> None:
        for directory in (self._directory, self._scripts):
            with contextlib.suppress(FileExistsError):
                directory.mkdir(0o700)
            if not stat.S_ISDIR(directory.lstat().st_mode):
                # A job may have put something else into its place.
                directory.unlink()
                directory.mkdir(0o700)
            directory.chmod(0o700)

    def _prepare(self, job: LocalJob, script: bytes) -> JobReport:
        account = self._find_account(job.spec.run_as)
        order, directory = self._order(job, account), self._directory_of(job)
        lists = list_hosts(self._environment.host, job.spec.slots)
        job_folder.make_job_folder(order["folder"], lists)
        if "account" in order:
            job_folder.give_away(order["folder"], script, order["account"])
        in_spool = None if "account" in order else script
        try:
            descriptor = files.make_run_directory(directory, order, in_spool)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            # A job has removed what all runs share.
            self._make_directories()
            descriptor = files.make_run_directory(directory, order, in_spool)
        return JobReport(directory, descriptor)

    def _order(self, job: LocalJob, account: pwd.struct_passwd | None) -> JobOrder:
        spec, group, folder = job.spec, self._cgroup_of(job), self._folder_of(job)
        stdout_path, stderr_path = output_paths(job.array or job.number, spec, job.task)
        script = bytes(self._scripts / job.run_name / "script").decode("utf-8", "surrogateescape")
        order = JobOrder(
            args=list(spec.args),
            environment=self._environment.environment(job, folder, account),
            working_directory=spec.working_directory,
            script=script if account is None else f"{folder}/{job_folder.SCRIPT}",
            stdout_path=stdout_path,
            stderr_path=stderr_path,
            wall_time_limit_seconds=spec.wall_time_limit_seconds,
            memory_limit_bytes=spec.memory_limit_bytes,
            grace_seconds=self._grace_seconds,
            cgroup=None if group is None else str(group),
            shell=self._shell,
            folder=folder,
        )
        if account is not None:
            order["account"] = account_ids(account)
        return order

    def _recover(self, row: SpoolRow, boot_id: str) -> tuple[LocalJob, RecoveredJob | None]:
        job = LocalJob.from_row(row)
        if row.phase != Phase.DISPATCHED:
            return job, None
        directory = self._directory_of(job)
        # An earlier version has left the mark of the shepherd in the run directory only.
        started = parse_start(row.started) or JobReport(directory).old_start()
        job.folder = None if started is None else started.get("folder")
        if row.boot_id != boot_id:
            report = JobReport(directory)
            result = report.result() or recovery.lost(
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

        group = self._cgroup_of(job)
        return recovery.end_without_result(
            report,
            job.started,
            job.mark,
            None if group is None else JobCgroup(group),
            protected,
        )

    def _remove(self, job: LocalJob) -> None:
        for path in (self._directory_of(job), self._scripts / job.run_name):
            files.remove_tree(bytes(path))
        if self._is_own(job.spec.run_as):
            job_folder.remove_job_folder(files.encode_path(self._folder_of(job)))
        group = self._cgroup_of(job)
        if group is not None:
            remove_cgroup(group)

    def _keep_only(self, names: set[str]) -> None:
        for directory in (self._directory, self._scripts):
            for name in os.listdir(directory):
                if name not in names:
                    files.remove_tree(bytes(directory / name))
        if self._cgroups is not None:
            cgroup_setup.remove_unused(self._cgroups.path, names)

    async def _remove_folder_of_account(self, job: LocalJob) -> None:
        """Remove what the shepherd has left, if it was killed, in a process without threads."""
        folder = files.encode_path(self._folder_of(job))
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

    def _folder_of(self, job: LocalJob) -> str:
        return job.folder or self._environment.folder(job)

    def _find_account(self, name: str | None) -> pwd.struct_passwd | None:
        """Return the account of a job; None for the service's own."""
        if name is None or self._is_own(name):
            return None
        self.check_accounts()
        return find_account(name)

    def _is_own(self, name: str | None) -> bool:
        return name is None or (name == self._own_account and os.geteuid() != 0)

    def _cgroup_of(self, job: LocalJob) -> Path | None:
        return None if self._cgroups is None else self._cgroups.path / job.run_name


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


def _sample(report: JobReport) -> Sample | None:
    try:
        return report.sample()
    except OSError:
        return None


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
