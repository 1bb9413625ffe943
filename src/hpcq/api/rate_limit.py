"""Limits of a second: of the requests of a user, and of the failed logins of an address."""

import math

from hpcq.domain.errors import TooManyRequests

__all__ = ["RateLimit"]

_BURST_SECONDS = 10.0
_ROUNDING_SECONDS = 1e-6
_MOST_USERS = 10_000
_PROBLEM = (
    "You send more than {} requests in a second, the limit here (MAX_REQUESTS_PER_SECOND). One "
    "GET /jobs tells of all your jobs; ask again more slowly."
)


class RateLimit:
    """A bucket of requests for each user, which fills at a steady rate.

    Who has sent nothing for a while may send ten seconds' worth at once. Only the time at which a
    bucket will be full is kept; a request puts it off by its share of a second.

    Args:
        per_second: how many requests fill a bucket in a second; None for no limit.
        problem: what is said to those who send more; ``{}`` stands for the rate.
    """

    def __init__(self, per_second: float | None, problem: str = _PROBLEM) -> None:
        self._per_second = per_second
        self._problem = problem
        self._full_at: dict[str, float] = {}

    def check(self, user: str, now: float) -> None:
        """Count nothing, but refuse what `count` would refuse; arguments as there."""
        self._full_at_after_one(user, now)

    def count(self, user: str, now: float) -> None:
        """Count a request.

        Args:
            user: who sent it.
            now: seconds of a clock that is never set.

        Raises:
            TooManyRequests: the bucket is empty; the request does not count.
        """
        full_at = self._full_at_after_one(user, now)
        if full_at is None:
            return
        if len(self._full_at) >= _MOST_USERS:
            self._full_at = {who: at for who, at in self._full_at.items() if at > now}
        self._full_at[user] = full_at

    def _full_at_after_one(self, user: str, now: float) -> float | None:
        """Return when the bucket will be full after one more request; None without a limit."""
        if self._per_second is None:
            return None
        share = 1.0 / self._per_second
        full_at = max(self._full_at.get(user, now), now) + share
        # At least one request fits into a bucket.
        wait = full_at - now - max(_BURST_SECONDS, share)
        if wait > _ROUNDING_SECONDS:
            raise TooManyRequests(
                self._problem.format(f"{self._per_second:g}"), retry_after_seconds=math.ceil(wait)
            )
        return full_at
