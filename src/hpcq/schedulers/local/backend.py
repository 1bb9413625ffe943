"""LOCAL behind the backend contract."""

import asyncio
import os
import re
import socket
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from hpcq import __version__
from hpcq.domain.errors import JobNotFound, SchedulerError
from hpcq.domain.ids import IdForm
from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.domain.outputs import as_pattern, default_name
from hpcq.execution.protocol import Runner
from hpcq.schedulers.base import (
    Capabilities,
    Listing,
    Node,
    Queue,
    SchedulerBackend,
    SchedulerOptions,
    ScriptDirectives,
)
from hpcq.schedulers.cli import read_script
from hpcq.schedulers.local import account
from hpcq.schedulers.local.admission import check
from hpcq.schedulers.local.engine import Engine
from hpcq.schedulers.local.entry import QUEUE_NAME, Entry, Site, file_name, finished, usage
from hpcq.schedulers.local.processes import boot_id as boot_id_of_this_machine
from hpcq.schedulers.local.spool import Phase

__all__ = ["LocalBackend", "create"]

_QUICKLY_READ = 50

_CAPABILITIES = Capabilities(
    id_forms=(IdForm(re.compile(r"([0-9]+)")),),
    fields=frozenset(
        {
            "environment",
            "hold",
            "memory_limit_bytes",
            "queue",
            "stderr_path",
            "stdout_path",
            "wall_time_limit_seconds",
        }
    ),
    actions=frozenset({"hold", "release"}),
    accounting=True,
    memory_enforced=True,
    absence_is_certain=True,
)


def create(options: SchedulerOptions, runner: Runner) -> SchedulerBackend:
    """Return the embedded scheduler, not started. It runs no commands of a cluster.

    Raises:
        ValueError: there is not even one slot, or this system cannot run it.
    """
    if options.max_slots < 1:
        raise ValueError("the LOCAL scheduler needs at least one slot")
    if not hasattr(os, "pidfd_open"):
        raise ValueError("the LOCAL scheduler needs Linux 5.3 or newer")
    return LocalBackend(options)


class LocalBackend:
    """The batch scheduler of one machine; see `hpcq.schedulers.base.SchedulerBackend`."""

    def __init__(
        self, options: SchedulerOptions, boot_id: Callable[[], str] = boot_id_of_this_machine
    ) -> None:
        self._slots = options.max_slots
        self._engine = Engine(options, boot_id)
        self._site = Site(socket.gethostname(), account.owner())

    @property
    def name(self) -> str:
        """``LOCAL``."""
        return "LOCAL"

    @property
    def capabilities(self) -> Capabilities:
        """What it can express."""
        return _CAPABILITIES

    async def start(self, wake: Callable[[], None]) -> None:
        """Take the spool and go on with its jobs.

        Raises:
            SchedulerUnavailable: another service uses the spool, or it cannot be used.
        """
        await self._engine.start(wake)

    async def stop(self) -> None:
        """Leave the spool; jobs go on."""
        await self._engine.stop()

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        """Return the names of the output files; see `SchedulerBackend.check_script`."""
        stem = as_pattern(file_name(spec.name or default_name(spec.working_directory)))
        return ScriptDirectives(stdout=f"{stem}.o%j", stderr=f"{stem}.e%j")

    async def submit(self, spec: JobSpec, key: SubmissionKey) -> NativeId:
        """Take a job. Harmless when repeated: a key is taken once."""
        script = await asyncio.to_thread(_admissible, spec, self._slots)
        return NativeId(str(await self._engine.admit(spec, key, script)))

    async def find(self, key: SubmissionKey) -> NativeId | None:
        number = await self._engine.spool.find(key)
        return None if number is None else NativeId(str(number))

    async def jobs(self) -> Listing:
        site = self._site
        return Listing(
            observations=[entry.observe(site) for entry in self._engine.entries.values()]
        )

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        numbers = [number for number in map(_number, ids) if number is not None]
        rows = await self._engine.spool.finished(numbers)
        site = self._site
        if len(rows) <= _QUICKLY_READ:
            return Listing(observations=[finished(row, site) for row in rows])
        return Listing(
            observations=await asyncio.to_thread(lambda: [finished(row, site) for row in rows])
        )

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        known = [self._entry(native_id) for native_id in ids]
        entries = [entry for entry in known if entry is not None]
        running = [entry for entry in entries if entry.phase == Phase.DISPATCHED]
        samples = await self._engine.runs.samples(running) if running else []
        usages = {e.number: usage(s) for e, s in zip(running, samples, strict=True)}
        return Listing(
            observations=[
                replace(entry.observe(self._site), usage=usages.get(entry.number))
                for entry in entries
            ]
        )

    async def forget(self, before: datetime) -> int:
        """Delete some of the jobs that ended before a moment from the spool."""
        return await self._engine.spool.forget(before.timestamp())

    async def cancel(self, native_id: NativeId) -> bool:
        entry = self._entry(native_id)
        if entry is None:
            await self._require_finished(native_id)
            return False
        return await self._engine.cancel(entry)

    async def hold(self, native_id: NativeId) -> None:
        await self._engine.hold(await self._waiting(native_id))

    async def release(self, native_id: NativeId) -> None:
        await self._engine.release(await self._waiting(native_id))

    async def queues(self) -> Sequence[Queue]:
        used = self._engine.slots_used
        return [
            Queue(name=QUEUE_NAME, is_open=True, slots_total=self._slots, slots_used=used),
        ]

    async def nodes(self) -> Sequence[Node]:
        node = Node(
            name=self._site.host,
            is_up=True,
            slots_total=self._slots,
            slots_used=self._engine.slots_used,
            memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            queues=(QUEUE_NAME,),
        )
        return [node]

    async def version(self) -> str:
        return f"hpcq LOCAL {__version__} (SQLite {sqlite3.sqlite_version})"

    def _entry(self, native_id: NativeId) -> Entry | None:
        number = _number(native_id)
        return None if number is None else self._engine.entries.get(number)

    async def _waiting(self, native_id: NativeId) -> Entry:
        entry = self._entry(native_id)
        if entry is None:
            await self._require_finished(native_id)
            raise SchedulerError(f"Job {native_id} has ended.")
        return entry

    async def _require_finished(self, native_id: NativeId) -> None:
        number = _number(native_id)
        if number is None or not await self._engine.spool.finished([number]):
            raise JobNotFound(native_id)


def _admissible(spec: JobSpec, total_slots: int) -> bytes:
    check(spec, total_slots)
    return read_script(spec.script_file)


def _number(native_id: NativeId) -> int | None:
    """Return the number of one of our jobs; None for ids that LOCAL never gives."""
    return int(native_id) if native_id.isdecimal() and not native_id.startswith("0") else None
