"""The jobs that run, as files and processes: their directories and their shepherds."""

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpcq.domain.errors import SchedulerUnavailable
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.local import account, files, recovery
from hpcq.schedulers.local.entry import Entry, order
from hpcq.schedulers.local.files import Result, Sample, Started
from hpcq.schedulers.local.launching import Launcher, LauncherGone
from hpcq.schedulers.local.processes import Process, send
from hpcq.schedulers.local.shepherd import REQUEST

__all__ = ["Runs"]


class Runs:
    """Starts shepherds, asks them to end their jobs, reads what they leave. Off the event loop."""

    def __init__(self, directory: Path, options: SchedulerOptions) -> None:
        self._directory = directory
        self._environment = account.environment(options.environment)
        self._grace_seconds = options.cancel_grace_seconds
        self._launcher: Launcher | None = None

    async def start(self, lock_descriptor: int) -> None:
        """Make ready to start jobs. The launcher shares the lock, see `launcher`."""
        await asyncio.to_thread(self._directory.mkdir, 0o700, exist_ok=True)
        self._launcher = Launcher(lock_descriptor)
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
        what = order(entry, self._environment, self._grace_seconds)
        await asyncio.to_thread(recovery.prepare, directory, what, script)
        try:
            return await self._launcher.launch(directory)
        except LauncherGone:
            started = await asyncio.to_thread(recovery.read_started, directory)
            if started is None:
                raise SchedulerUnavailable("The launcher of jobs was killed.") from None
            return started

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
        """Remove the run directory of a job."""
        await asyncio.to_thread(shutil.rmtree, self.directory_of(entry), ignore_errors=True)

    async def keep_only(self, entries: Iterable[Entry]) -> None:
        """Remove the run directories of all other jobs, left by a crash."""
        names = {entry.run_name for entry in entries}
        await asyncio.to_thread(recovery.remove_other_runs, self._directory, names)


def _request_end(directory: Path, shepherd: Process) -> None:
    try:
        (directory / files.CANCEL).touch(0o600)
    except FileNotFoundError:
        # The job has just ended.
        return
    except OSError as error:
        raise SchedulerUnavailable(f"The job cannot be cancelled now: {error}.") from error
    send(shepherd, REQUEST)
