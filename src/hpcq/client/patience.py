"""The pauses before a request is sent again."""

from time import monotonic

from hpcq.client.errors import ClientError, Problem

__all__ = ["Patience"]

_SHORTEST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class Patience:
    """The pauses between attempts: as long as the service asks, else growing.

    Args:
        seconds: for all attempts, from the first failure on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None
        self._pause = _SHORTEST_PAUSE_SECONDS

    def pause_after(self, error: ClientError) -> float:
        """Return the seconds to wait now.

        Raises:
            ClientError: the same error, if it is no use or too late to try again.
        """
        if self._until is None:
            self._until = monotonic() + self._seconds
        asked = error.retry_after if isinstance(error, Problem) else None
        pause = asked or self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        if not error.is_temporary or monotonic() + pause > self._until:
            raise error
        return pause
