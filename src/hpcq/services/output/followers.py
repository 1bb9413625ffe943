"""Followers of output: all of one file share one look at it, every 0.25 to 2 s."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hpcq.domain.errors import HpcqError
from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.domain.outputs import Stream
from hpcq.execution.opened import OpenedFile
from hpcq.services.listing.job_table import JobTable
from hpcq.services.output.follow_events import Ended, Piece, Restarted, Waiting
from hpcq.services.output.job_files import JobFiles

__all__ = ["Followers"]

_BLOCK_BYTES = 64 * 1024
_HEARTBEAT_SECONDS = 15.0
_SHORTEST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 2.0
_PAUSE_GROWTH = 1.5
# The path may lead to another file by now; to ask that in the name of an account takes a process.
_SAME_FILE_SECONDS = 2.0
_SAME_FILE_OF_ACCOUNT_SECONDS = 10.0
# Output that a scheduler, or a network file system, brings after the job's end.
_LATE_OUTPUT_SECONDS = 5.0
_QUIET_SECONDS = 1.0
_LATEST_SECONDS = 30.0
_LONG_OVER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Sight:
    """The file as it was at the last look.

    Attributes:
        generation: grows when the file is cut, or another one takes its name.
        block: what was added to it last, if that was little.
        missing: why there is no file.
        is_last: whether the job is over and nothing more will come.
    """

    file: OpenedFile | None = None
    generation: int = 0
    size: int = 0
    block: Piece | None = None
    missing: str | None = None
    is_last: bool = False


class Followers:
    """The followers of all files.

    Args:
        files: opens and reads files.
        table: the jobs; it is asked whether one is over, and the scheduler never.
        clock: the present, aware.
    """

    def __init__(self, files: JobFiles, table: JobTable, clock: Callable[[], datetime]) -> None:
        self._files = files
        self._table = table
        self._clock = clock
        self._watched: dict[tuple[JobUid, Stream], _Watch] = {}

    async def follow(
        self, record: JobRecord, stream: Stream, *, offset: int | None, tail: int | None
    ) -> AsyncIterator[Piece | Restarted | Waiting | Ended]:
        """Yield what a job writes, until it is over.

        Args:
            record: the job.
            stream: which of its outputs.
            offset: where a follower that comes back goes on; None for one that is new.
            tail: begin with so many of the lines that are there; None for all. Only for a new one.
        """
        key = record.uid, stream
        watch = self._watched.get(key)
        if watch is None:
            watch = self._watched[key] = _Watch(
                self._files, self._table, self._clock, record, stream
            )
        watch.enter()
        try:
            async for told in self._told(watch, offset, tail):
                yield told
        finally:
            if watch.leave():
                self._watched.pop(key, None)

    async def _told(
        self, watch: "_Watch", offset: int | None, tail: int | None
    ) -> AsyncIterator[Piece | Restarted | Waiting | Ended]:
        at, file, generation = offset or 0, None, 0
        sight = await watch.seen()
        while True:
            if sight.file is not None and file is None:
                if offset is None and tail is not None:
                    at = await self._files.tail_offset(sight.file, tail)
                file, generation = sight.file, sight.generation
                if at > sight.size:
                    at = 0
                    yield Restarted()
            elif sight.file is not None and file is not None and generation != sight.generation:
                # What another file took the name of is read to its end.
                while file is not sight.file and (data := await self._read(file, at)):
                    yield Piece(at, data)
                    at += len(data)
                at, file, generation = 0, sight.file, sight.generation
                yield Restarted()
            if file is not None and at < sight.size:
                block = sight.block
                if block is None or block.offset != at:
                    block = Piece(at, await self._read(file, at))
                if block.data:
                    yield block
                    at += len(block.data)
                    sight = watch.sight
                    continue
            elif sight.is_last:
                yield Ended(watch.record, sight.missing if file is None else None)
                return
            before, sight = sight, await watch.changed(sight)
            if before is sight:
                yield Waiting()

    async def _read(self, file: OpenedFile, offset: int) -> bytes:
        return await self._files.read(file, lambda file: file.read(offset, _BLOCK_BYTES))


class _Watch:
    """The looks at one file, for all who follow it."""

    def __init__(
        self,
        files: JobFiles,
        table: JobTable,
        clock: Callable[[], datetime],
        record: JobRecord,
        stream: Stream,
    ) -> None:
        self.record = record
        self.sight = _Sight()
        self._files = files
        self._table = table
        self._clock = clock
        self._stream = stream
        self._followers = 0
        self._task: asyncio.Task[None] | None = None
        self._next: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._has_looked = False
        self._asked_at = 0.0

    def enter(self) -> None:
        self._followers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def leave(self) -> bool:
        """Count one follower less; return whether it was the last."""
        self._followers -= 1
        if self._followers or self._task is None:
            return False
        self._task.cancel()
        return True

    async def seen(self) -> _Sight:
        """Return the first sight, once there is one."""
        if not self._has_looked:
            await asyncio.shield(self._next)
        return self.sight

    async def changed(self, known: _Sight) -> _Sight:
        """Return a sight that is not this one; this one after a while without any."""
        if self.sight is known:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT_SECONDS):
                    await asyncio.shield(self._next)
        return self.sight

    def _show(self, sight: _Sight) -> None:
        self.sight, self._has_looked = sight, True
        told, self._next = self._next, asyncio.get_running_loop().create_future()
        told.set_result(None)

    async def _run(self) -> None:
        time = asyncio.get_running_loop().time
        over_at: float | None = None
        grown_at = time()
        pause = _SHORTEST_PAUSE_SECONDS
        while True:
            is_over = self._is_over()
            if is_over and over_at is None:
                over_at = grown_at = time()
                # A network file system shows what others wrote once a file is opened anew.
                self._asked_at = 0.0
            elif not is_over:
                # A scheduler may have put it back.
                over_at = None
            before = self.sight
            sight = await self._look(before)
            has_grown = sight.generation != before.generation or sight.size != before.size
            if has_grown:
                grown_at = time()
            if over_at is not None:
                quiet = _QUIET_SECONDS if sight.file is not None else _LATE_OUTPUT_SECONDS
                is_late = time() >= min(grown_at + quiet, over_at + _LATEST_SECONDS)
                sight = replace(sight, is_last=is_late or self._is_long_over())
            if sight != before or not self._has_looked:
                self._show(sight)
            if sight.is_last:
                return
            is_busy = has_grown or over_at is not None
            pause = _SHORTEST_PAUSE_SECONDS if is_busy else pause * _PAUSE_GROWTH
            pause = min(pause, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def _look(self, before: _Sight) -> _Sight:
        """Return the file as it is now; as it was where it cannot be looked at."""
        try:
            if before.file is None:
                return await self._found(before, await self._open())
            size, is_gone, data = await self._files.read(
                before.file, lambda file: _growth(file, before.size)
            )
            if size < before.size:
                generation = before.generation + 1
                return replace(before, generation=generation, size=size, block=None)
            if size > before.size:
                return replace(before, size=size, block=Piece(before.size, data) if data else None)
            if is_gone or self._is_to_be_asked():
                file = await self._open()
                if not await self._files.read(before.file, file.is_same):
                    return await self._found(before, file)
        except HpcqError as error:
            if before.file is None:
                return replace(before, missing=error.detail)
        return before

    async def _found(self, before: _Sight, file: OpenedFile) -> _Sight:
        size = await self._files.read(file, lambda file: file.status().st_size)
        generation = before.generation + 1
        return _Sight(file=file, generation=generation, size=size)

    async def _open(self) -> OpenedFile:
        self._asked_at = asyncio.get_running_loop().time()
        return await self._files.open_output(self.record, self._stream)

    def _is_to_be_asked(self) -> bool:
        is_own = self.record.submitted_here and self.record.run_as is None
        patience = _SAME_FILE_SECONDS if is_own else _SAME_FILE_OF_ACCOUNT_SECONDS
        return asyncio.get_running_loop().time() - self._asked_at >= patience

    def _is_over(self) -> bool:
        """Return whether the job is over, as far as the table knows."""
        entry = self._table.entry(self.record.uid)
        if entry is not None:
            self.record = entry.record
            return self.record.is_settled
        if self.record.native_id is not None:
            self.record = self._table.recently_left(self.record.native_id) or self.record
        return True

    def _is_long_over(self) -> bool:
        seen = self.record.seen
        ended = None if seen is None else seen.end_time
        return ended is not None and self._clock() - ended > _LONG_OVER


def _growth(file: OpenedFile, known: int) -> tuple[int, bool, bytes]:
    """Return the size of a file, whether it has no name any more, and what was added, if little."""
    status = file.status()
    added = status.st_size - known
    data = file.read(known, added) if 0 < added <= _BLOCK_BYTES else b""
    return status.st_size, status.st_nlink == 0, data
