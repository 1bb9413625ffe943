"""The folders of jobs that run: made, found again and removed. All this work blocks."""

import contextlib
import hashlib
import os
import socket
import stat
from collections.abc import Collection
from pathlib import Path

import structlog

from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.local import cgroup_setup, files, job_folder
from hpcq.schedulers.local.account_lookups import FoundAccount
from hpcq.schedulers.local.accounts import AccountUnusable
from hpcq.schedulers.local.cgroup import remove_cgroup
from hpcq.schedulers.local.cgroup_setup import CgroupsUnusable, CgroupTree
from hpcq.schedulers.local.environment import (
    JobEnvironment,
    account_name,
    find_place,
    list_hosts,
    login_environment,
    name_folder,
)
from hpcq.schedulers.local.files import JobOrder
from hpcq.schedulers.local.job import LocalJob, output_paths
from hpcq.schedulers.local.report import JobReport

__all__ = ["RunFolders"]

_log = structlog.get_logger("hpcq.local")


class RunFolders:
    """Run directories, scripts, own folders and control groups of the jobs that run.

    Attributes:
        cgroups: the tree that has the control groups; None where there are none.
    """

    def __init__(self, directory: Path, options: SchedulerOptions, grace_seconds: float) -> None:
        self.cgroups: CgroupTree | None = None
        self._runs = directory / "runs"
        self._scripts = directory / "scripts"
        self._environment = JobEnvironment(
            inherited=login_environment(options.account_environment), host=socket.gethostname()
        )
        self._own_account = account_name()
        self._shell = options.job_shell
        self._grace_seconds = grace_seconds

    def open(self) -> None:
        """Make what all runs share, and claim control groups."""
        self._make_directories()
        self.cgroups = _claim_cgroups(self._runs)

    def directory_of(self, job: LocalJob) -> Path:
        """Return the run directory of a job's present attempt."""
        return self._runs / job.run_name

    def folder_of(self, job: LocalJob) -> str:
        """Return the job's own folder; of a row from an earlier version, the one it must have."""
        return job.folder or name_folder(job)

    def is_own(self, name: str | None) -> bool:
        """Return whether a job of this account runs as the service does."""
        return name is None or (name == self._own_account and os.geteuid() != 0)

    def cgroup_of(self, job: LocalJob) -> Path | None:
        """Return the control group of a job; None where jobs have none."""
        return None if self.cgroups is None else self.cgroups.path / job.run_name

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

    def prepare(self, job: LocalJob, script: bytes, account: FoundAccount | None) -> JobReport:
        """Make all that a job needs to start; return its report, still empty.

        Args:
            job: the job.
            script: its script.
            account: the account that it runs as; None for the service's own.

        Raises:
            FileExistsError: something is in the way.
            OSError: it cannot be made.
            AccountUnusable: jobs cannot run as other accounts now.
        """
        if account is not None:
            self.check_accounts()
        order, directory = self._order(job, account), self.directory_of(job)
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

    def remove(self, job: LocalJob) -> None:
        """Remove all that a job has, but a folder that is another account's."""
        for path in (self.directory_of(job), self._scripts / job.run_name):
            files.remove_tree(bytes(path))
        if self.is_own(job.spec.run_as):
            job_folder.remove_job_folder(files.encode_path(self.folder_of(job)))
        group = self.cgroup_of(job)
        if group is not None:
            remove_cgroup(group)

    def keep_only(self, names: Collection[str]) -> None:
        """Remove what runs with other names have left."""
        for directory in (self._runs, self._scripts):
            for name in os.listdir(directory):
                if name not in names:
                    files.remove_tree(bytes(directory / name))
        if self.cgroups is not None:
            cgroup_setup.remove_unused(self.cgroups.path, names)

    def _make_directories(self) -> None:
        for directory in (self._runs, self._scripts):
            with contextlib.suppress(FileExistsError):
                directory.mkdir(0o700)
            if not stat.S_ISDIR(directory.lstat().st_mode):
                # A job may have put something else into its place.
                directory.unlink()
                directory.mkdir(0o700)
            directory.chmod(0o700)

    def _order(self, job: LocalJob, account: FoundAccount | None) -> JobOrder:
        spec, group, folder = job.spec, self.cgroup_of(job), self.folder_of(job)
        stdout_path, stderr_path = output_paths(job.array or job.number, spec, job.task)
        script = bytes(self._scripts / job.run_name / "script").decode("utf-8", "surrogateescape")
        order = JobOrder(
            args=list(spec.args),
            environment=self._environment.environment(job, folder, account and account.entry),
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
            order["account"] = account.ids
        return order


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
