"""Submissions as their clients make them: once, however often a request has to be sent.

The intent is on disk before the scheduler is touched, together with the key under which the client
may ask again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from hpcq.domain import submission
from hpcq.domain.errors import IdempotencyKeyReused, JobNotFound, SubmissionInProgress
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid
from hpcq.domain.submission import IdempotencyKey
from hpcq.services.changes import Changes
from hpcq.services.handing import IN_PROGRESS, Handing
from hpcq.services.settling import Settler
from hpcq.storage.jobs import Claim, JobStore

__all__ = ["Submission", "Submitter"]

_KEY_REUSED = (
    "This Idempotency-Key was used for another submission before. Send that one's body, or take a "
    "new key."
)


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a request to submit.

    Attributes:
        record: the job; without a native id while nobody knows whether the scheduler took it.
        is_replay: whether the same request had been made before.
    """

    record: JobRecord
    is_replay: bool = False


class Submitter:
    """Submits, and knows what was submitted before.

    Args:
        store: where intents are kept.
        changes: writes down what has happened.
        handing: hands jobs over.
        settler: knows whether somebody else may be about to do so.
        clock: the present, aware.
    """

    def __init__(
        self,
        store: JobStore,
        changes: Changes,
        handing: Handing,
        settler: Settler,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._changes = changes
        self._handing = handing
        self._settler = settler
        self._now = clock

    async def known(self, key: IdempotencyKey) -> Submission | None:
        """Return the job that was submitted under this key before, or None.

        Raises:
            IdempotencyKeyReused: the key names something else.
            SubmissionInProgress: it is being submitted at this moment.
        """
        claim = await self._store.claim(key)
        return None if claim is None else await self._again(claim, key)

    async def submit(self, spec: JobSpec, key: IdempotencyKey | None) -> Submission:
        """Hand a job over that can be a job.

        Raises:
            IdempotencyKeyReused, SubmissionInProgress: see `known`.
            SubmissionUnclear: nobody knows whether the scheduler took it, nor could it be promised
                that it will be carried out.
            HpcqError: the scheduler surely did not take it; the key is free again.
        """
        record = submission.intent(
            JobUid.new(), spec, self._now(), by=self._handing.me, is_promised=key is not None
        )
        # What is on disk is handed over, even if nobody waits for it any more.
        return await asyncio.shield(self._handing.kept(self._submit(record, key)))

    async def _submit(self, record: JobRecord, key: IdempotencyKey | None) -> Submission:
        with self._handing.counted(record.uid):
            claim = await self._store.create(record, key)
            if claim is None or key is None:
                return Submission(await self._handing.hand_over(record))
        return await self._again(claim, key)

    async def _again(self, claim: Claim, key: IdempotencyKey) -> Submission:
        if claim.fingerprint != key.fingerprint:
            raise IdempotencyKeyReused(_KEY_REUSED)
        # In this order: what is no longer under way, nor unwritten, is in the database.
        is_busy = self._handing.is_under_way(claim.uid) or self._changes.owes(claim.uid)
        record = self._handing.unwritten(claim.uid) or await self._store.by_uid(claim.uid)
        if record is None:
            raise JobNotFound(claim.uid)
        if record.native_id is None and (is_busy or self._is_in_progress(record)):
            raise SubmissionInProgress(IN_PROGRESS)
        return Submission(record, is_replay=True)

    def _is_in_progress(self, record: JobRecord) -> bool:
        if record.hand_over is None:
            # It was given up, and its key is being freed, unless that was at its owner's wish.
            return record.cancel_requested_at is None
        return self._settler.may_go_on(record, record.hand_over)
