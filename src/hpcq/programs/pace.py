"""How often many things are looked at again when nothing says that they have changed."""

import time

__all__ = ["Pace"]

# So few are looked at for each caller.
_FEW = 500
_REST = 20.0
_LONGEST_REST_SECONDS = 60.0


class Pace:
    """Tells when it is time to look again.

    A few things are looked at for each caller. Many are left alone for twenty times as long as
    looking at them took, and a minute at most: 10,000 folders, or a slow file server, cost a
    twentieth of one processor however many callers there are.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def is_due(self) -> bool:
        """Return whether it is time."""
        return time.monotonic() >= self._next

    def looked(self, things: int, began: float) -> None:
        """Say that so many things were looked at, beginning then (`time.monotonic`)."""
        now = time.monotonic()
        rest = 0.0 if things <= _FEW else min(_REST * (now - began), _LONGEST_REST_SECONDS)
        self._next = now + rest
