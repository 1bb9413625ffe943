"""A question to the scheduler, asked when the service starts: can jobs be submitted at all?"""

import asyncio

import structlog

from hpcq.domain.errors import SchedulerError
from hpcq.schedulers.abilities import ChecksSubmission
from hpcq.schedulers.base import SchedulerBackend
from hpcq.services.circuit_breaker import is_away

__all__ = ["SubmissionCheck"]

_log = structlog.get_logger("hpcq.submission")

_CHECK_AGAIN_SECONDS = 30.0


class SubmissionCheck:
    """Asks whether jobs can be submitted.

    Attributes:
        problem: why not; None when they can be, as far as is known.
    """

    def __init__(self, backend: SchedulerBackend) -> None:
        self._backend = backend if isinstance(backend, ChecksSubmission) else None
        self.problem: str | None = None

    async def run(self) -> None:
        """Ask until the answer is yes."""
        while True:
            if await self.ask():
                return
            await asyncio.sleep(_CHECK_AGAIN_SECONDS)

    async def ask(self) -> bool:
        """Ask once; return whether the answer was yes."""
        if self._backend is None:
            return True
        try:
            await self._backend.check_submission()
        except SchedulerError as error:
            if is_away(error):
                # The queue says so too; nothing is known of submissions.
                return False
            if self.problem != error.detail:
                _log.error("submission.impossible", problem=error.detail)
            self.problem = error.detail
            return False
        self.problem = None
        return True
