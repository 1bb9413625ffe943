"""Whether jobs can be submitted at all, found out when the service starts."""

import asyncio

import structlog

from hpcq.domain.errors import SchedulerError
from hpcq.schedulers.base import ChecksSubmission, SchedulerBackend
from hpcq.services.circuit import is_away

__all__ = ["SubmissionCheck"]

_log = structlog.get_logger("hpcq.submission")

_AGAIN_SECONDS = 30.0


class SubmissionCheck:
    """Asks a scheduler that can tell, until it says yes.

    Attributes:
        problem: why nothing can be submitted; None when something can be, as far as is known.
    """

    def __init__(self, backend: SchedulerBackend) -> None:
        self._backend = backend if isinstance(backend, ChecksSubmission) else None
        self.problem: str | None = None

    async def run(self) -> None:
        """Ask, and ask again later as long as the answer is no."""
        while True:
            if await self.ask():
                return
            await asyncio.sleep(_AGAIN_SECONDS)

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
