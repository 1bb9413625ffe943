"""Limit of the jobs that one user may have in the queue."""

import contextlib
from collections.abc import Iterator

from hpcq.domain.errors import QuotaExceeded
from hpcq.domain.jobs import JobUid
from hpcq.domain.principals import Principal, Role
from hpcq.services.listing.job_table import JobTable
from hpcq.services.settings import ServiceSettings

__all__ = ["JobQuota"]


class JobQuota:
    """Counts the jobs of each user that were submitted here and are not over.

    An array is one job. Operators have no limit. Of what other replicas accept, the table learns
    within half a second; by so much the limit can be passed.

    Args:
        table: knows the jobs.
        settings: how many jobs each user may have.
    """

    def __init__(self, table: JobTable, settings: ServiceSettings) -> None:
        self._table = table
        self._most = settings.max_jobs_per_user
        # Those that are being submitted; the table shows each of them at some moment.
        self._coming: dict[str, set[JobUid]] = {}

    @contextlib.contextmanager
    def place(self, principal: Principal, uid: JobUid) -> Iterator[None]:
        """Count a job while it is being submitted.

        Raises:
            QuotaExceeded: the user has as many as there may be.
        """
        if self._most is None or principal.role is Role.OPERATOR:
            yield
            return
        user, table = principal.user, self._table
        unseen = [uid for uid in self._coming.get(user, ()) if uid not in table.entries]
        count = table.open_jobs_of(user) + len(unseen)
        if count >= self._most:
            raise QuotaExceeded(
                f"You have {count} jobs that are not over, and {self._most} is the limit here "
                "(MAX_JOBS_PER_USER). Submit again when one has ended, or delete one."
            )
        self._coming.setdefault(user, set()).add(uid)
        try:
            yield
        finally:
            self._coming[user].discard(uid)
            if not self._coming[user]:
                del self._coming[user]
