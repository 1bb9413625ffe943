"""Tasks of the event loop that run to their ends."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Tasks"]

_T = TypeVar("_T")


class Tasks:
    """The steps of jobs that are being done. Each goes on even if its caller is cancelled."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Begin a step."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def complete(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do a step, and return its result."""
        return await asyncio.shield(self.start(work))

    async def stop(self, patience_seconds: float) -> None:
        """Wait for all steps, and cancel those that take longer."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience_seconds
        # One may begin others.
        while self._running and (left := give_up - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        late = tuple(self._running)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
