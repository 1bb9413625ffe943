"""Files of jobs: their readers, the accounts that read them, and their places."""

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hpcq.domain.errors import HpcqError, NoSuchFile, NotAuthorized, Overloaded
from hpcq.domain.jobs import JobRecord
from hpcq.domain.outputs import Stream, output_path
from hpcq.domain.principals import Principal, Role
from hpcq.domain.states import FailureKind, JobState
from hpcq.execution.accounts import Accounts, account_name
from hpcq.execution.descriptors import close_all
from hpcq.execution.files import is_within
from hpcq.execution.opened import Bounds, OpenedFile, check_folder, check_opened
from hpcq.services.job_reader import JobReader
from hpcq.services.output.folder import Folder, read_folder
from hpcq.services.settings import ServiceSettings
from hpcq.services.submission.path_threads import PathThreads
from hpcq.services.submission.paths import PathChecker
from hpcq.services.submission.visit import Visit

__all__ = ["JobFiles", "has_started"]

_T = TypeVar("_T")

_MOST_ENTRIES = 5000
_MOST_TAIL_BYTES = 4 * 2**20
_OWN_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_NO_FILE = (errno.ENOENT, errno.ESTALE)
_LINK = (errno.ELOOP, errno.ENOTDIR)


class JobFiles:
    """Reads the output and the working directories of jobs, as the accounts that ran them.

    Args:
        jobs: finds them.
        paths: knows the accounts of jobs.
        settings: the patience with file systems, the allowed folders, and JOB_FILES.
        accounts: those in whose name jobs are submitted; None where the service does so itself.
        hidden: the folders in which nothing is shown.

    Attributes:
        has_folders: True if working directories are shown.
    """

    def __init__(
        self,
        jobs: JobReader,
        paths: PathChecker,
        settings: ServiceSettings,
        accounts: Accounts | None,
        hidden: Sequence[Path],
    ) -> None:
        allowed = settings.allowed_directories
        self._jobs = jobs
        self._paths = paths
        self._accounts = accounts
        # Where an open file is, is told without links.
        self._bounds = Bounds(allowed=allowed, hidden=[os.path.realpath(path) for path in hidden])
        self.has_folders = settings.job_files == "on"
        # Of its own: those who read much take no thread from those who submit.
        self._threads = PathThreads(settings.path_check_timeout_seconds, accounts, allowed)

    async def find(self, principal: Principal, job_id: str) -> JobRecord:
        """Return a job whose output and files a principal may read.

        Raises:
            JobNotFound: there is none that the principal may see.
            NotAuthorized: the principal may only see it.
        """
        record = (await self._jobs.find(principal, job_id)).record
        if not principal.may_read_results(record):
            raise NotAuthorized(
                f"The job {job_id!r} is not yours. Its owner and operators can read what it wrote."
            )
        if not record.submitted_here:
            # Its paths stand in its details.
            record = (await self._jobs.read(principal, job_id)).record
        is_service_s = record.submitted_here and record.run_as is None
        if self._accounts is not None and is_service_s and principal.role is not Role.OPERATOR:
            raise NotAuthorized(
                "The job ran as the service's own account, before SUBMIT_AS was set to user: "
                "operators alone can read what it wrote."
            )
        return record

    def output_path(self, record: JobRecord, stream: Stream) -> str:
        """Return the path of a job's output; asks no file system.

        Raises:
            NoSuchFile: it is not known, or there is none.
        """
        path = output_path(record, stream)
        if record.is_array:
            raise NoSuchFile("An array has no output of its own; each of its tasks has.")
        if path is None:
            raise NoSuchFile(f"The path of the job's {stream} is not known, or not yet.")
        if not os.path.isabs(path):
            path = os.path.join(_working_directory(record), path)
        if path == os.devnull:
            raise NoSuchFile(f"The job's {stream} goes to {os.devnull}: it is not kept.")
        return path

    async def open_output(self, record: JobRecord, stream: Stream) -> OpenedFile:
        """Open the output of a job that has started.

        Raises:
            NoSuchFile: there is none, at present or ever, or none that may be shown.
            NotAuthorized, HpcqError: it cannot be read in the name of the job's account.
        """
        path = self.output_path(record, stream)
        if not has_started(record):
            raise NoSuchFile("The job has not started, and has no output.")
        folder, names = _split(record, path)
        return await self._open(record, folder, names, is_foreign_allowed=False)

    async def open_file(self, record: JobRecord, path: str) -> OpenedFile:
        """Open a file below the working directory of a job. Raises as `open_output` does."""
        self._check_shows_folders()
        names = _names(path)
        if not names:
            raise NoSuchFile("The path of a file is missing.")
        folder = _working_directory(record)
        return await self._open(record, folder, names, is_foreign_allowed=True)

    async def list_folder(self, record: JobRecord, path: str) -> Folder:
        """List a folder in the working directory of a job. Raises as `open_output` does."""
        self._check_shows_folders()
        folder, names = _working_directory(record), _names(path)

        def look(visit: Visit) -> bytes:
            visit.enter(folder)
            base, found, content = visit.files.list_below(folder, names, _MOST_ENTRIES)
            try:
                check_folder(base, found, self._bounds)
            finally:
                close_all((base, found))
            return content

        return read_folder(await self._look(record, look), _MOST_ENTRIES)

    async def _open(
        self, record: JobRecord, folder: str, names: Sequence[str], *, is_foreign_allowed: bool
    ) -> OpenedFile:
        def look(visit: Visit) -> OpenedFile:
            visit.enter(folder)
            base, found = visit.files.open_below(folder, names)
            try:
                path = check_opened(
                    base, found, visit.uid, self._bounds, is_foreign_allowed=is_foreign_allowed
                )
            except BaseException:
                close_all((found,))
                raise
            finally:
                close_all((base,))
            return OpenedFile(found, path, self._close)

        return await self._look(record, look)

    def _close(self, descriptor: int) -> None:
        self._threads.start(lambda: close_all((descriptor,)))

    async def read(self, file: OpenedFile, read: Callable[[OpenedFile], _T]) -> _T:
        """Return what ``read`` returns, called in a thread with an open file.

        Raises:
            PathUnavailable, Overloaded: its file system does not answer in time.
            NoSuchFile: it cannot be read any more.
        """

        def look(visit: Visit) -> _T:
            visit.stay(file.path)
            return read(file)

        try:
            return await self._threads.run(look)
        except OSError as error:
            raise _error_of(error) from None

    async def tail_offset(self, file: OpenedFile, lines: int) -> int:
        """Return where the last lines of a file begin, at most 4 MiB before its end."""
        return await self.read(file, lambda file: file.tail_offset(lines, _MOST_TAIL_BYTES))

    async def _look(self, record: JobRecord, look: Callable[[Visit], _T]) -> _T:
        try:
            return await self._threads.run_as(await self._account_of(record), look)
        except OSError as error:
            raise _error_of(error) from None

    async def _account_of(self, record: JobRecord) -> str | None:
        """Return the account that ran a job; None for the service's own.

        Raises:
            NotAuthorized: this service cannot read in its name.
        """
        if record.submitted_here:
            return record.run_as
        owner = None if record.seen is None else record.seen.owner
        if owner is not None and owner == await asyncio.to_thread(account_name, os.geteuid()):
            return None
        account = await self._paths.usable_account(owner)
        if account is None:
            raise NotAuthorized(
                f"The job ran as the account {owner!r}, in whose name this service does not read."
            )
        return account

    def _check_shows_folders(self) -> None:
        if not self.has_folders:
            raise NotAuthorized(
                "This service does not show the files of jobs (JOB_FILES=off). It shows their "
                "output."
            )

    def close(self) -> None:
        """Let the threads go, without waiting for one that hangs."""
        self._threads.close()


def has_started(record: JobRecord) -> bool:
    """Return whether a job surely ran: what has the name of its output before that is not its."""
    seen = record.seen
    is_start_known = record.earlier_start is not None or (
        seen is not None and seen.start_time is not None
    )
    if record.state.is_queued or record.state is JobState.UNDETERMINED:
        return is_start_known
    never_ran = {FailureKind.CANCELLED, FailureKind.SCHEDULER_ERROR}
    return is_start_known or not (record.state.is_final and record.failure_kind in never_ran)


def _working_directory(record: JobRecord, default: str | None = None) -> str:
    spec, seen = record.spec, record.seen
    told = spec.working_directory if spec is not None else seen and seen.working_directory
    if told and os.path.isabs(told):
        return told
    if default is not None:
        return default
    raise NoSuchFile("The working directory of the job is not known, or not yet.")


def _split(record: JobRecord, path: str) -> tuple[str, list[str]]:
    """Return the folder of an output, in which links count, and the names from there on.

    The folder is the working directory, if the output is below it.
    """
    path = os.path.normpath(path)
    folder, name = os.path.split(path)
    working_directory = os.path.normpath(_working_directory(record, default=folder))
    if is_within(folder, [working_directory]):
        return working_directory, os.path.relpath(path, working_directory).split("/")
    return folder, [name]


def _names(path: str) -> list[str]:
    """Return the names that a relative path holds; none for the folder itself.

    Raises:
        NoSuchFile: no file can have such a path.
    """
    names = path.split("/") if path else []
    if any(name in ("", ".", "..") or "\0" in name for name in names):
        raise NoSuchFile("The path may hold no empty part, no `.` and no `..`.")
    return names


def _error_of(error: OSError) -> HpcqError:
    """Return what a failed look means; it names no path that the request does not."""
    if error.errno in _OWN_SHORTAGES:
        return Overloaded(f"This service cannot open files now: {error.strerror}.")
    if error.errno in _NO_FILE:
        return NoSuchFile("There is no such file, or not yet.")
    if error.errno in _LINK:
        return NoSuchFile(
            "It is no regular file; links, devices, pipes and sockets are not read, and no link "
            "is followed."
        )
    return NoSuchFile(f"It cannot be read: {error.strerror}.")
