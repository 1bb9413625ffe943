"""The engine: takes jobs from the queue, starts them, and notes how they end.

Crash-only: every step is first written to the spool or the run directory, and a start after a
stop does exactly what a start after a crash does.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence

from hpcq.domain.errors import SchedulerError, SchedulerUnavailable
from hpcq.domain.jobs import JobSpec, SubmissionKey
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.local import recovery
from hpcq.schedulers.local.entry import Entry, spec_to_json
from hpcq.schedulers.local.files import Result, Started
from hpcq.schedulers.local.lock import SpoolLock
from hpcq.schedulers.local.processes import Process, open_pidfd
from hpcq.schedulers.local.runs import Runs
from hpcq.schedulers.local.spool import Phase, Row, Spool
from hpcq.schedulers.local.tasks import Tasks
from hpcq.schedulers.local.waitlist import Waitlist

__all__ = ["Engine"]

_LOCK_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 2.0
_SETTLE_SECONDS = 2.0


class Engine:
    """Runs the jobs of one spool. Everything but file work happens on the event loop."""

    def __init__(self, options: SchedulerOptions, boot_id: Callable[[], str]) -> None:
        self.entries: dict[int, Entry] = {}
        directory = options.state_directory / "local"
        self.spool = Spool(directory / "spool.db")
        self.runs = Runs(directory / "runs", options)
        self._directory = directory
        self._boot_id = boot_id
        self._lock = SpoolLock(directory / "lock")
        self._waitlist = Waitlist(options.max_slots)
        self._holding: dict[int, Entry] = {}
        self._tasks = Tasks()
        self._wake: Callable[[], None] = lambda: None
        self._boot = ""
        self._is_open = self._is_stopped = False
        self._is_kicked = False
        self._pauses = 0

    @property
    def slots_used(self) -> int:
        """How many slots jobs hold now."""
        return sum(entry.spec.slots for entry in self._holding.values())

    async def start(self, wake: Callable[[], None]) -> None:
        """Take the spool, find out what became of its jobs, and go on with them.

        Raises:
            SchedulerUnavailable: another service uses the spool, or it cannot be used.
        """
        self._wake = wake
        self._boot = self._boot_id()
        await asyncio.to_thread(self._directory.mkdir, 0o700, parents=True, exist_ok=True)
        await self._lock.acquire(_LOCK_PATIENCE_SECONDS)
        try:
            await self.runs.start(self._lock.descriptor)
            rows = await self.spool.open()
            await self._recover(rows)
        except BaseException:
            await self.stop()
            raise
        self._is_open = True
        self._kick()

    async def stop(self) -> None:
        """Leave the spool; jobs go on. Harmless when repeated."""
        if self._is_stopped:
            return
        self._is_open, self._is_stopped = False, True
        await self._tasks.settle(_SETTLE_SECONDS)
        for entry in self._holding.values():
            self._unwatch(entry)
        await self.runs.stop()
        await self.spool.close()
        self._lock.release()

    async def admit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> int:
        """Put a job into the spool and the queue; return its number."""
        return await self._tasks.surely(self._admit(spec, key, script))

    async def hold(self, entry: Entry) -> None:
        """Keep a queued job from starting.

        Raises:
            SchedulerError: it has started.
        """
        if entry.phase == Phase.DISPATCHED or entry.is_ending:
            raise SchedulerError(f"Job {entry.number} has started and can no longer be held.")
        await self._tasks.surely(self._move(entry, Phase.HELD))

    async def release(self, entry: Entry) -> None:
        """Let a held job start, at the place in the queue that it had."""
        if entry.phase == Phase.HELD and not entry.is_ending:
            await self._tasks.surely(self._move(entry, Phase.QUEUED))

    async def cancel(self, entry: Entry) -> bool:
        """End a job: at once if it has not started, else ask its shepherd to.

        Returns:
            Whether it had not started.
        """
        return await self._tasks.surely(self._cancel(entry))

    # Starting jobs

    def _kick(self) -> None:
        if self._is_open and not self._is_kicked:
            self._is_kicked = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._is_kicked = False
        if not self._is_open or self._pauses:
            return
        for entry in self._waitlist.take(self._holding.values()):
            self._holding[entry.number] = entry
            entry.phase, entry.note, entry.attempt = Phase.DISPATCHED, None, entry.attempt + 1
            entry.launching = self._tasks.spawn(self._launch(entry))
            self._tell(entry)

    async def _launch(self, entry: Entry) -> None:
        try:
            script = await self.spool.dispatch(entry.number, entry.attempt, self._boot)
            started = await self.runs.begin(entry, script)
        except (SchedulerUnavailable, OSError) as error:
            await self._put_back(entry, f"It could not be started yet: {error}")
        else:
            self._watch(entry, started)
        finally:
            entry.launching = None

    async def _put_back(self, entry: Entry, why: str) -> None:
        del self._holding[entry.number]
        entry.phase, entry.note = Phase.QUEUED, why
        self._waitlist.add(entry)
        self._tell(entry)
        self._pauses += 1
        asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._end_pause)
        await self.runs.remove(entry)
        # If this is not written the next start finds no mark of a shepherd, and does the same.
        with contextlib.suppress(SchedulerUnavailable):
            await self.spool.move(entry.number, Phase.QUEUED)

    def _end_pause(self) -> None:
        # Counted, not compared with the clock, which rounds differently from timers.
        self._pauses -= 1
        self._kick()

    # Watching them

    def _watch(self, entry: Entry, started: Started) -> None:
        entry.shepherd = Process(started["pid"], started["start_ticks"])
        entry.start_time, entry.began = started["start_time"], started.get("began")
        loop = asyncio.get_running_loop()
        try:
            entry.descriptor = open_pidfd(entry.shepherd)
        except OSError:
            # No descriptor is free; the job goes on, and its end is seen a little later.
            loop.call_later(_PAUSE_SECONDS, self._watch, entry, started)
            return
        self._tell(entry)
        if entry.descriptor is None:
            self._on_shepherd_ended(entry)
        else:
            loop.add_reader(entry.descriptor, self._on_shepherd_ended, entry)

    def _unwatch(self, entry: Entry) -> None:
        if entry.descriptor is not None:
            asyncio.get_running_loop().remove_reader(entry.descriptor)
            os.close(entry.descriptor)
            entry.descriptor = None

    def _on_shepherd_ended(self, entry: Entry) -> None:
        self._unwatch(entry)
        entry.is_ending = True
        self._tell(entry)
        self._tasks.spawn(self._conclude(entry))

    async def _conclude(self, entry: Entry) -> None:
        result = await self._outcome(entry)
        del self._holding[entry.number]
        self._kick()
        await self._finish(entry, result)
        await self.runs.remove(entry)

    async def _outcome(self, entry: Entry) -> Result:
        while True:
            try:
                return await self.runs.outcome(entry)
            except OSError as error:
                # The result is on disk and cannot be read now; nothing else is the truth.
                entry.note = f"Its result cannot be read: {error}"
                self._tell(entry)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _finish(self, entry: Entry, result: Result) -> None:
        text = json.dumps(result)
        while True:
            try:
                await self.spool.finish(entry.number, result["end_time"], text)
            except SchedulerUnavailable:
                # A full disk; the result also stands in the run directory until this is done.
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                break
        self._leave(entry)

    def _leave(self, entry: Entry) -> None:
        del self.entries[entry.number]
        self._wake()

    # What users ask for

    async def _admit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> int:
        phase = Phase.HELD if spec.hold else Phase.QUEUED
        now = time.time()
        number, is_new = await self.spool.add(key, spec_to_json(spec), script, now, phase)
        if is_new:
            self._enter(Entry(number=number, key=key, spec=spec, submitted=now, phase=phase))
            self._wake()
            self._kick()
        return number

    async def _move(self, entry: Entry, phase: str) -> None:
        before = entry.phase
        self._set_phase(entry, phase)
        try:
            await self.spool.move(entry.number, phase)
        except SchedulerUnavailable:
            if entry.phase == phase:
                self._set_phase(entry, before)
            raise

    def _set_phase(self, entry: Entry, phase: str) -> None:
        self._waitlist.discard(entry)
        entry.phase = phase
        if phase == Phase.QUEUED:
            self._waitlist.add(entry)
        self._tell(entry)
        self._kick()

    async def _cancel(self, entry: Entry) -> bool:
        if entry.launching is not None:
            entry.cancel_requested = True
            self._tell(entry)
            await asyncio.wait([entry.launching])
        if entry.is_ending:
            return False
        if entry.phase == Phase.DISPATCHED:
            entry.cancel_requested = True
            self._tell(entry)
            await self.runs.request_end(entry)
            return False
        await self._give_up(entry)
        return True

    async def _give_up(self, entry: Entry) -> None:
        """End a job that has not started, unless that cannot be written down."""
        self._waitlist.discard(entry)
        entry.is_ending = True
        self._tell(entry)
        self._kick()
        result = recovery.never_started()
        try:
            await self.spool.finish(entry.number, result["end_time"], json.dumps(result))
        except SchedulerUnavailable:
            entry.is_ending = False
            self._set_phase(entry, entry.phase)
            raise
        self._leave(entry)

    # After a restart

    async def _recover(self, rows: Sequence[Row]) -> None:
        for entry, found in await self.runs.fates(rows, self._boot):
            if found is not None and (found.has_ended or found.started):
                self._resume(entry, found)
                continue
            if entry.phase == Phase.DISPATCHED:
                entry.phase = Phase.QUEUED
                await self.spool.move(entry.number, Phase.QUEUED)
            self._enter(entry)
        await self.runs.keep_only(self._holding.values())

    def _resume(self, entry: Entry, found: recovery.Fate) -> None:
        self.entries[entry.number] = self._holding[entry.number] = entry
        if found.started is not None and not found.has_ended:
            self._watch(entry, found.started)
        else:
            self._on_shepherd_ended(entry)

    def _enter(self, entry: Entry) -> None:
        self.entries[entry.number] = entry
        if entry.phase == Phase.QUEUED:
            self._waitlist.add(entry)

    # Plumbing

    def _tell(self, entry: Entry) -> None:
        entry.changed()
        self._wake()
