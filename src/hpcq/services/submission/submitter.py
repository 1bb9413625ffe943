"""Submissions as their clients make them: once, however often a request has to be sent.

The intent is on disk before the scheduler is asked, together with the client's idempotency key.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from hpcq.domain import submission
from hpcq.domain.errors import (
    HpcqError,
    IdempotencyKeyReused,
    JobNotFound,
    QuotaExceeded,
    SchedulerError,
    SubmissionInProgress,
    SubmissionUnclear,
)
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid
from hpcq.domain.principals import Principal
from hpcq.domain.submission import IdempotencyKey
from hpcq.schedulers.base import ChecksSubmission, SchedulerBackend
from hpcq.services.circuit_breaker import is_away
from hpcq.services.submission.attempt import IN_PROGRESS, SubmissionRunner
from hpcq.services.submission.quota import JobQuota
from hpcq.services.submission.recovery import SubmissionRecovery
from hpcq.storage.jobs import Claim, JobStore
from hpcq.storage.pending_writes import PendingWrites

__all__ = ["Outcome", "Submission", "SubmissionCheck", "Submitter"]

_log = structlog.get_logger("hpcq.submission")

_CHECK_AGAIN_SECONDS = 30.0

_KEY_REUSED = (
    "This Idempotency-Key was used for another submission before. Send that one's body, or take a "
    "new key."
)


class Outcome(StrEnum):
    """The outcome of a request to submit, as its client learns it."""

    ACCEPTED = "accepted"
    """The scheduler took the job."""
    REPLAYED = "replayed"
    """The same request had been made before, or was under way."""
    UNCLEAR = "unclear"
    """It is being found out whether the scheduler took the job."""
    REFUSED = "refused"
    """There is no job, and the same request is in vain, unless it met a quota."""
    FAILED = "failed"
    """There is no job, for reasons that say nothing about the request."""

    @classmethod
    def of_error(cls, error: Exception) -> "Outcome":
        """Return the outcome of a request that got this error."""
        if isinstance(error, SubmissionInProgress):
            return cls.REPLAYED
        if isinstance(error, SubmissionUnclear):
            return cls.UNCLEAR
        is_verdict = isinstance(error, HpcqError) and not error.transient
        return cls.REFUSED if is_verdict or isinstance(error, QuotaExceeded) else cls.FAILED


@dataclass(frozen=True, slots=True)
class Submission:
    """The outcome of a request to submit.

    Attributes:
        record: the job; without a native id while it is unclear whether the scheduler took it.
        is_replay: whether the same request had been made before.
    """

    record: JobRecord
    is_replay: bool = False

    @property
    def outcome(self) -> Outcome:
        """The same in one word."""
        if self.is_replay:
            return Outcome.REPLAYED
        return Outcome.UNCLEAR if self.record.native_id is None else Outcome.ACCEPTED


class Submitter:
    """Submits jobs, each once for its idempotency key.

    Args:
        store: holds the intents.
        pending: writes outcomes, now or later.
        runner: hands jobs over.
        recovery: knows whether another process may be about to do so.
        quota: bounds the jobs of each user.
        clock: the present, aware.
    """

    def __init__(
        self,
        store: JobStore,
        pending: PendingWrites,
        runner: SubmissionRunner,
        recovery: SubmissionRecovery,
        quota: JobQuota,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._quota = quota
        self._pending = pending
        self._runner = runner
        self._recovery = recovery
        self._now = clock

    async def known(self, key: IdempotencyKey) -> Submission | None:
        """Return the job that was submitted under this key before, or None.

        Raises:
            IdempotencyKeyReused: the key names something else.
            SubmissionInProgress: it is being submitted at this moment.
        """
        claim = await self._store.claim(key)
        return None if claim is None else await self._again(claim, key)

    async def submit(
        self, principal: Principal, spec: JobSpec, key: IdempotencyKey | None
    ) -> Submission:
        """Hand over a job of a principal that can be a job.

        Raises:
            IdempotencyKeyReused, SubmissionInProgress: see `known`.
            QuotaExceeded: the principal has as many jobs as there may be.
            SubmissionUnclear: the outcome is unknown, and could not be recorded.
            HpcqError: the scheduler surely did not take it; the key is free again.
        """
        record = submission.intent(
            JobUid.new(),
            spec,
            self._now(),
            by=self._runner.me,
            is_promised=key is not None,
            principal=principal,
        )
        # What is on disk is handed over, even if the request has gone.
        return await asyncio.shield(self._runner.keep(self._submit(principal, record, key)))

    async def _submit(
        self, principal: Principal, record: JobRecord, key: IdempotencyKey | None
    ) -> Submission:
        with self._quota.place(principal, record.uid), self._runner.under_way(record.uid):
            claim = await self._store.create(record, key)
            if claim is None or key is None:
                return Submission(await self._runner.hand_over(record))
        return await self._again(claim, key)

    async def _again(self, claim: Claim, key: IdempotencyKey) -> Submission:
        if claim.fingerprint != key.fingerprint:
            raise IdempotencyKeyReused(_KEY_REUSED)
        # In this order: what is no longer under way, nor unwritten, is in the database.
        is_busy = self._runner.is_under_way(claim.uid) or self._pending.has_pending(claim.uid)
        record = self._runner.unwritten(claim.uid) or await self._store.by_uid(claim.uid)
        if record is None:
            raise JobNotFound(claim.uid)
        if record.native_id is None and (is_busy or self._is_in_progress(record)):
            raise SubmissionInProgress(IN_PROGRESS)
        return Submission(record, is_replay=True)

    def _is_in_progress(self, record: JobRecord) -> bool:
        if record.hand_over is None:
            # It was given up, and its key is being freed, unless its owner asked for that.
            return record.cancel_requested_at is None
        return self._recovery.may_go_on(record, record.hand_over)


class SubmissionCheck:
    """A question, asked when the service starts: can jobs be submitted at all?

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
