"""The examination of an installation: what works, and what to do about what does not.

`examine` changes nothing: the queue, the spool and the records of a service that runs stay its own.
"""

import asyncio
import locale
import os
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psycopg

from hpcq.cli.address import examine_address
from hpcq.cli.findings import Finding, good, problem, unchecked, warning
from hpcq.cli.machine import few_files, lacking
from hpcq.cli.remedies import account_name, is_away, remedy_for
from hpcq.cli.texts import translated as _
from hpcq.client import Client
from hpcq.client.errors import ClientError
from hpcq.config import Settings, SettingsError, load_settings, scheduler_options
from hpcq.domain.errors import HpcqError, SchedulerError
from hpcq.domain.jobs import NativeId
from hpcq.execution.local import LocalRunner
from hpcq.execution.protocol import Command, Completed
from hpcq.schedulers import registry
from hpcq.schedulers.abilities import ChecksSubmission, ExaminesSite
from hpcq.schedulers.base import SchedulerBackend

__all__ = ["examine", "run_job"]

_MOST_SECONDS_APART = 30.0
_JOB_SECONDS = 120.0
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "gpfs", "ceph", "fuse.sshfs", "9p")
_LITTLE_SPACE = 1 << 30


async def examine(folder: Path) -> AsyncIterator[Finding]:
    """Look at one part of an installation after the other.

    Args:
        folder: the installation folder; its ``.env`` is read.
    """
    for finding in _environment():
        yield finding
    try:
        settings = load_settings(folder / ".env")
    except SettingsError as error:
        for mistake in error.problems:
            yield problem(_("settings"), mistake)
        return
    text = _("The settings can be read: SCHEDULER={scheduler}.")
    yield good(_("settings"), text.format(scheduler=settings.scheduler))
    for look in (_state_directory, _machine, examine_address, _database):
        for finding in await asyncio.to_thread(list, look(settings)):
            yield finding
    async for finding in _scheduler(settings):
        yield finding


def _environment() -> Iterator[Finding]:
    part = _("locale")
    variables = ("LC_ALL", "LC_CTYPE", "LANG")
    variable = next(filter(os.environ.get, variables), "LANG")
    name = os.environ.get(variable) or "C"
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        text = _("The locale {name} is not installed.").format(name=name)
        remedy = _("Set {variable}=C.UTF-8, or to another one that `locale -a` lists.")
        yield problem(part, text, remedy.format(variable=variable))
    else:
        encoding = locale.nl_langinfo(locale.CODESET)
        if encoding == "UTF-8":
            yield good(part, _("The locale {name} writes UTF-8.").format(name=name))
        else:
            text = _("The locale {name} writes {encoding}, and the service UTF-8.")
            remedy = _(
                "Set {variable}=C.UTF-8 for the service, lest jobs write names in another form."
            )
            text = text.format(name=name, encoding=encoding)
            yield warning(part, text, remedy.format(variable=variable))
    umask = os.umask(0o077)
    os.umask(umask)
    if umask & 0o022 != 0o022:
        text = _("With the umask {umask} others can change what jobs of LOCAL write.")
        yield warning(
            _("umask"),
            text.format(umask=f"{umask:04o}"),
            _("Set UMask=0022 or 0077 in the unit, or call `umask 0022` before `hpcq serve`."),
        )


def _state_directory(settings: Settings) -> Iterator[Finding]:
    part, folder = _("state directory"), settings.state_directory
    try:
        found = folder.stat()
    except FileNotFoundError:
        yield from _absent_folder(folder)
        return
    except OSError as error:
        text = _("{file} cannot be used: {why}.").format(file=folder, why=error.strerror)
        yield problem(part, text)
        return
    owner = found.st_uid
    if owner != os.geteuid():
        text = _("{file} belongs to {owner}.").format(file=folder, owner=account_name(owner))
        remedy = _(
            "Run the service, and this command, as that account, or give it the folder: "
            "chown -R {account} {file}"
        )
        account = account_name(os.geteuid())
        yield problem(part, text, remedy.format(account=account, file=folder))
        return
    if found.st_mode & 0o077:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        text = _("{file} is open to other accounts (mode {mode}).").format(file=folder, mode=mode)
        yield problem(part, text, f"chmod 700 {folder}")
    else:
        yield good(part, _("{file} belongs to this account alone.").format(file=folder))
    yield from _file_system(folder)


def _machine(settings: Settings) -> Iterator[Finding]:
    for lack in lacking(settings):
        yield problem(*lack)
    few = few_files(settings)
    if few is not None:
        yield warning(*few)


def _absent_folder(folder: Path) -> Iterator[Finding]:
    part = _("state directory")
    above = next(parent for parent in folder.parents if parent.exists())
    if os.access(above, os.W_OK | os.X_OK):
        text = _("{file} is made when the service starts.").format(file=folder)
        yield good(part, text)
        yield from _file_system(above)
    else:
        text = _("{file} cannot be made: this account may not write to {above}.")
        remedy = _("Make it for this account, or set STATE_DIRECTORY.")
        yield problem(part, text.format(file=folder, above=above), remedy)


def _file_system(folder: Path) -> Iterator[Finding]:
    part, kind = _("state directory"), _kind_of_file_system(folder)
    if kind in _REMOTE:
        text = _("{file} is on {kind}, where locks are not reliable.")
        remedy = _(
            "Set STATE_DIRECTORY to a folder on a disk of this machine, as /var/lib/hpc-queue-api."
        )
        yield problem(part, text.format(file=folder, kind=kind), remedy)
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_SPACE:
        text = _("Only {free} MB are free for {file}.").format(free=free >> 20, file=folder)
        yield warning(part, text, _("Make room: the service takes no job when the disk is full."))
    try:
        with tempfile.TemporaryFile(dir=folder if os.access(folder, os.W_OK) else None) as file:
            written = os.fstat(file.fileno()).st_mtime
    except OSError as error:
        text = _("{file} cannot be used: {why}.").format(file=folder, why=error.strerror)
        yield problem(part, text, _("Make it for this account, or set STATE_DIRECTORY."))
        return
    yield from _clock(_("the file system of the state directory"), written - time.time())


def _kind_of_file_system(folder: Path) -> str:
    """Return the kind of the file system that a folder is on, as ``mount`` shows it.

    In a chroot the mounts above are not shown: the kind is empty text there.
    """
    kinds: dict[Path, str] = {}
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _separator, after = line.partition(" - ")
        # Blanks are octal numbers there.
        point = before.split()[4].encode("latin-1", "ignore").decode("unicode_escape")
        kinds[Path(point)] = after.split()[0]
    folder = folder.resolve()
    return next((kinds[one] for one in (folder, *folder.parents) if one in kinds), "")


def _clock(whose: str, apart: float) -> Iterator[Finding]:
    """Yield a finding if a clock is too many seconds apart from this machine's."""
    if abs(apart) > _MOST_SECONDS_APART:
        text = _("The clock of {whose} is {apart} s apart from this machine's.")
        remedy = _(
            "Have all machines take their time from one source: `timedatectl set-ntp true` on each."
        )
        yield problem(_("clock"), text.format(whose=whose, apart=round(apart)), remedy)


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.database_url is None:
        return
    part = _("database")
    try:
        with psycopg.connect(settings.database_url, connect_timeout=5) as connection:
            row = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
    except psycopg.Error as error:
        text = _("The database does not answer: {why}.").format(why=" ".join(str(error).split()))
        yield problem(part, text, _("Start it, or correct DATABASE_URL."))
        return
    yield good(part, _("The database answers."))
    if row is not None:
        yield from _clock(_("the database"), float(row[0]) - time.time())


class _Recorder:
    """Runs commands, and keeps which programs they were."""

    def __init__(self) -> None:
        self._runner = LocalRunner()
        self.programs: dict[str, str | None] = {}

    async def run(self, command: Command) -> Completed:
        path = command.search_path or command.env.get("PATH")
        self.programs[command.argv[0]] = shutil.which(command.argv[0], path=path)
        return await self._runner.run(command)

    def close(self) -> None:
        """Give the threads of the runner back."""
        self._runner.close()


async def _scheduler(settings: Settings) -> AsyncIterator[Finding]:
    recorder = _Recorder()
    try:
        options = scheduler_options(settings, None)
        backend = registry.load(settings.scheduler)(options, recorder, settings)
        told: dict[tuple[str, bool], str] = {}
        prevents_all: str | None = None
        for part, ask in _questions(backend):
            if prevents_all is not None:
                yield unchecked(part, prevents_all)
                continue
            try:
                yield await ask()
            except HpcqError as error:
                first = told.setdefault(_cause(error), part)
                if first != part:
                    yield unchecked(part, first)
                    continue
                yield problem(part, _detail(error), remedy_for(error, backend.name))
                if part == _("scheduler") or is_away(error):
                    prevents_all = part  # it says the same to every other question
    except ValueError as error:
        yield problem(_("scheduler"), str(error))
    finally:
        recorder.close()
    for name, path in recorder.programs.items():
        if path is not None:
            yield good(_("commands"), f"{name}: {path}")


def _questions(
    backend: SchedulerBackend,
) -> Iterator[tuple[str, Callable[[], Awaitable[Finding]]]]:
    """Yield what a scheduler is asked, each for a part of the installation."""
    part = _("scheduler")

    async def version() -> Finding:
        return good(part, await backend.version())

    async def jobs() -> Finding:
        listing = await backend.jobs()
        if listing.unreadable:
            text = _("{count} jobs in the queue cannot be read: {why}")
            why = listing.unreadable[0].reason
            return problem(_("queue"), text.format(count=len(listing.unreadable), why=why))
        text = _("The queue can be read: {count} jobs.")
        return good(_("queue"), text.format(count=len(listing.observations)))

    async def queues() -> Finding:
        found = await backend.queues()
        names = [queue.name for queue in found if queue.is_open]
        if not names:
            text = _("None of {count} queues is open.").format(count=len(found))
            return warning(_("queues"), text, _("Open one, or no job will start."))
        nodes = await backend.nodes()
        if nodes and not any(node.is_up for node in nodes):
            text = _("None of {count} nodes takes jobs.").format(count=len(nodes))
            return warning(_("queues"), text, _("Bring one back, or no job will start."))
        return good(_("queues"), _("Open queues: {names}.").format(names=", ".join(names)))

    async def accounting() -> Finding:
        # Whether there is such a job does not matter.
        listing = await backend.history([NativeId("1")])
        if listing.partial_reason is not None:
            raise listing.partial_reason
        return good(_("accounting"), _("The accounting answers."))

    yield part, version
    yield _("queue"), jobs
    yield _("queues"), queues
    if backend.name != "LOCAL":
        yield _("accounting"), accounting
    if isinstance(backend, ChecksSubmission):
        yield _("submission"), _submission(backend)
    if isinstance(backend, ExaminesSite):
        yield _("configuration"), _site(backend)


def _submission(backend: ChecksSubmission) -> Callable[[], Awaitable[Finding]]:
    async def ask() -> Finding:
        await backend.check_submission()
        return good(_("submission"), _("The scheduler would take a job."))

    return ask


def _site(backend: ExaminesSite) -> Callable[[], Awaitable[Finding]]:
    async def ask() -> Finding:
        mistake = await backend.examine()
        if mistake is None:
            text = _("The scheduler has what the settings name.")
            return good(_("configuration"), text)
        return problem(_("configuration"), mistake.text, mistake.remedy)

    return ask


def run_job() -> Finding:
    """Run a job through the service that answers, and compare the scheduler's clock with ours."""
    part = _("job")
    began = time.time()
    try:
        with Client(patience=0) as client:
            job = client.submit(
                script="#!/bin/sh\nexit 0\n",
                name="hpcq-doctor",
                working_directory=Path.home(),
                stdout_path=os.devnull,
                stderr_path=os.devnull,
            )
            job.wait(_JOB_SECONDS)
    except ClientError as error:
        return problem(part, str(error), _("Start the service with `hpcq serve`, and look again."))
    except TimeoutError as error:
        text = _("The job {id} is still {state} after {seconds} s.")
        told = text.format(id=job.id, state=job.state, seconds=round(_JOB_SECONDS))
        return problem(part, told, job.explanation or str(error))
    if job.state != "DONE":
        text = _("The job {id} has failed.").format(id=job.id)
        return problem(part, text, job.explanation)
    if job.submit_time is not None:
        for late in _clock(_("the scheduler"), job.submit_time.timestamp() - began):
            return late
    text = _("The job {id} has run within {seconds} s.")
    return good(part, text.format(id=job.id, seconds=round(time.time() - began)))


def _cause(error: HpcqError) -> tuple[str, bool]:
    """Return what tells whether two errors have one cause, and so one remedy.

    Several commands of a scheduler that refuses an account, or a machine, say the same words.
    """
    words = getattr(error, "scheduler_message", None) or error.detail
    return words, isinstance(error, SchedulerError) and error.of_accounting


def _detail(error: HpcqError) -> str:
    message = " ".join((getattr(error, "scheduler_message", None) or "").split())
    # Most details end with the words already, without the names of the commands.
    is_told = error.detail.endswith(message.rpartition(": ")[2])
    detail = error.detail if is_told else f"{error.detail} ({message})"
    return detail if detail.endswith((".", "?", ")")) else f"{detail}."
