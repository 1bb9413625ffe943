"""Batching of questions: one command at a time answers all readers that wait."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

__all__ = ["QueryBatcher"]

_T = TypeVar("_T")


class QueryBatcher(Generic[_T]):
    """Asks for all ids that wait, together; ids that come meanwhile wait for the next batch.

    Args:
        ask: returns an answer, or the error that stands for it, for each of some ids.
    """

    def __init__(
        self, ask: Callable[[Sequence[str]], Awaitable[Mapping[str, _T | Exception]]]
    ) -> None:
        self._ask = ask
        self._waiting: dict[str, asyncio.Future[_T]] = {}
        self._asked: dict[str, asyncio.Future[_T]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def get(self, job_id: str) -> _T:
        """Return the answer about one job; a question that is under way is shared.

        Raises:
            Exception: what stands for the answer.
        """
        future = self._waiting.get(job_id) or self._asked.get(job_id)
        if future is None:
            future = self._waiting[job_id] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await asyncio.shield(future)

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                self._asked, self._waiting = self._waiting, {}
                await self._answer(self._asked)
        finally:
            self._asked, self._asking = {}, None

    async def _answer(self, batch: Mapping[str, asyncio.Future[_T]]) -> None:
        answers: Mapping[str, _T | Exception]
        try:
            answers = await self._ask(list(batch))
        except Exception as error:
            answers = dict.fromkeys(batch, error)
        for job_id, future in batch.items():
            answer = answers[job_id]
            if isinstance(answer, Exception):
                future.set_exception(answer)
                future.exception()  # those who waited may all have gone
            else:
                future.set_result(answer)
