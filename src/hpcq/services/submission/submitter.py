"""Submissions as their clients make them: once, however often a request has to be sent.

The intent is on disk before the scheduler is asked, together with the client's idempotency key.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import partial

from hpcq.domain import submission
from hpcq.domain.errors import (
    HpcqError,
    IdempotencyKeyReused,
    InvalidSpec,
    JobNotFound,
    QuotaExceeded,
    SubmissionInProgress,
    SubmissionUnclear,
    UnsupportedCapability,
)
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid
from hpcq.domain.outputs import default_name
from hpcq.domain.principals import Principal
from hpcq.domain.submission import IdempotencyKey, is_set
from hpcq.domain.validation import SizeLimits, check_content
from hpcq.schedulers.abilities import SubmissionPlan
from hpcq.schedulers.base import Capabilities, SchedulerBackend
from hpcq.services.job_reader import JobReader
from hpcq.services.listing.wire import request_name
from hpcq.services.mail.sender import take_over_mails
from hpcq.services.mail.settings import MailSettings
from hpcq.services.monitoring.monitor import Monitor
from hpcq.services.programs.request import ProgramRequest
from hpcq.services.submission.attempt import IN_PROGRESS, SubmissionRunner
from hpcq.services.submission.dependencies import DependencyRequest, resolve
from hpcq.services.submission.paths import PathChecker
from hpcq.services.submission.quota import JobQuota
from hpcq.services.submission.recovery import SubmissionRecovery
from hpcq.storage.jobs import Claim, JobStore
from hpcq.storage.pending_writes import PendingWrites

__all__ = ["Submission", "SubmissionOutcome", "Submitter"]

_KEY_REUSED = (
    "This Idempotency-Key was used for another submission before. Send that one's body, or take a "
    "new key."
)
_ALWAYS_EXPRESSED = frozenset(
    {"name", "working_directory", "script_file", "args", "slots", "outputs"}
)
_MAIL_FIELDS = frozenset({"mail_to", "mail_on"})
_OPTIONAL_FIELDS = tuple(f.name for f in fields(JobSpec) if f.name not in _ALWAYS_EXPRESSED)


class SubmissionOutcome(StrEnum):
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
    def of_error(cls, error: Exception) -> "SubmissionOutcome":
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
    def outcome(self) -> SubmissionOutcome:
        """The same in one word."""
        if self.is_replay:
            return SubmissionOutcome.REPLAYED
        if self.record.native_id is None:
            return SubmissionOutcome.UNCLEAR
        return SubmissionOutcome.ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """Submits jobs of principals, each once for its idempotency key.

    Attributes:
        backend: the scheduler.
        store: holds the intents.
        pending: writes outcomes, now or later.
        runner: hands jobs over.
        recovery: knows whether another process may be about to do so.
        quota: bounds the jobs of each user.
        jobs: finds the jobs that have to come first.
        outcomes: how many requests to submit came to what.
    """

    backend: SchedulerBackend
    store: JobStore
    pending: PendingWrites
    runner: SubmissionRunner
    recovery: SubmissionRecovery
    quota: JobQuota
    jobs: JobReader
    monitor: Monitor
    paths: PathChecker
    sizes: SizeLimits
    mail: MailSettings
    clock: Callable[[], datetime]
    outcomes: Counter[SubmissionOutcome] = field(default_factory=Counter)

    @property
    def capabilities(self) -> Capabilities:
        """The scheduler's, and the mails where this service sends them."""
        known = self.backend.capabilities
        return replace(
            known, fields=known.fields | (_MAIL_FIELDS if self.mail.sends_mails else set())
        )

    async def submit(
        self,
        principal: Principal,
        spec: JobSpec,
        key_text: str | None = None,
        program: ProgramRequest | None = None,
        depends_on: Sequence[DependencyRequest] = (),
    ) -> Submission:
        """Hand a job to the scheduler; the intent is on disk before the scheduler is asked.

        Args:
            principal: whose job it is to be.
            spec: what is to run.
            key_text: names this submission of theirs, however often it has to be sent.
            program: gives the script and the arguments; they are not looked up again for a
                submission that was made before.
            depends_on: the jobs that have to come first; likewise.

        Raises:
            InvalidSpec: its content cannot be a job.
            UnsupportedCapability: this scheduler cannot express one of its fields.
            NotAuthorized: the principal has no account to submit in the name of.
            IdempotencyKeyReused: the key names something else.
            SubmissionInProgress: the same submission is under way at this moment.
            QuotaExceeded: the principal has as many jobs as there may be.
            SubmissionUnclear: the outcome is unknown, and could not be recorded.
            HpcqError: the scheduler surely did not take it; the key is free again.
        """
        try:
            with _field_of_script(spec):
                submitted = await self._submit(principal, spec, key_text, program, depends_on)
        except Exception as error:
            self.outcomes[SubmissionOutcome.of_error(error)] += 1
            raise
        self.outcomes[submitted.outcome] += 1
        return submitted

    async def _submit(
        self,
        principal: Principal,
        spec: JobSpec,
        key_text: str | None,
        program: ProgramRequest | None,
        depends_on: Sequence[DependencyRequest],
    ) -> Submission:
        if program is None:
            check_content(spec, self.sizes)
        key = None
        if key_text is not None:
            outside_spec = _outside_spec(program, depends_on)
            # A request that gives the default name is the same as one that gives none.
            named = replace(spec, name=spec.name or default_name(spec.working_directory))
            key = IdempotencyKey.of(key_text, named, outside_spec, principal.user)
            claim = await self.store.claim(key)
            if claim is not None:
                return await self._again(claim, key)
        # After the key, which names the same request whatever the settings say.
        spec = await self._complete(principal, spec, program, depends_on)
        record = submission.intent(
            JobUid.new(),
            spec,
            self.clock(),
            by=self.runner.me,
            is_promised=key is not None,
            principal=principal,
        )
        # What is on disk is handed over, even if the request has gone.
        handing_over = self.runner.keep(self._hand_over(principal, record, key))
        submitted = await asyncio.shield(handing_over)
        if submitted.record.native_id is None:
            self.monitor.wake()
        return submitted

    async def _hand_over(
        self, principal: Principal, record: JobRecord, key: IdempotencyKey | None
    ) -> Submission:
        with self.quota.place(principal, record.uid), self.runner.under_way(record.uid):
            claim = await self.store.create(record, key)
            if claim is None or key is None:
                return Submission(await self.runner.hand_over(record))
        return await self._again(claim, key)

    async def _again(self, claim: Claim, key: IdempotencyKey) -> Submission:
        if claim.fingerprint != key.fingerprint:
            raise IdempotencyKeyReused(_KEY_REUSED)
        # In this order: what is no longer under way, nor unwritten, is in the database.
        is_busy = self.runner.is_under_way(claim.uid) or self.pending.has_pending(claim.uid)
        record = self.runner.unwritten(claim.uid) or await self.store.by_uid(claim.uid)
        if record is None:
            raise JobNotFound(claim.uid)
        if record.native_id is None and (is_busy or self._is_in_progress(record)):
            raise SubmissionInProgress(IN_PROGRESS)
        return Submission(record, is_replay=True)

    def _is_in_progress(self, record: JobRecord) -> bool:
        if record.hand_over is None:
            # It was given up, and its key is being freed, unless its owner asked for that.
            return record.cancel_requested_at is None
        return self.recovery.may_go_on(record, record.hand_over)

    async def _complete(
        self,
        principal: Principal,
        spec: JobSpec,
        program: ProgramRequest | None,
        depends_on: Sequence[DependencyRequest],
    ) -> JobSpec:
        """Return the job as it can be handed to the scheduler. Raises as `submit` does."""
        if program is not None:
            spec = await program.complete(spec)
            check_content(spec, self.sizes)
        self._check_expressible(spec, depends_on)
        spec = take_over_mails(spec, self.mail)
        self.runner.check_available()
        run_as = await self.paths.account_of(principal.user)
        dependencies = await resolve(depends_on, partial(self.jobs.find, principal))
        return await self.paths.check(replace(spec, run_as=run_as, depends_on=dependencies))

    async def plan(
        self,
        principal: Principal,
        spec: JobSpec,
        program: ProgramRequest | None = None,
        depends_on: Sequence[DependencyRequest] = (),
    ) -> tuple[SubmissionPlan, JobSpec, bytes]:
        """Return what `submit` would run, and write and submit nothing.

        Returns:
            The command, the job with its variables, and the script; see `SubmissionRunner.plan`.
        """
        with _field_of_script(spec):
            if program is None:
                check_content(spec, self.sizes)
            return await self.runner.plan(
                await self._complete(principal, spec, program, depends_on)
            )

    def _check_expressible(self, spec: JobSpec, depends_on: Sequence[DependencyRequest]) -> None:
        expressible = self.capabilities.fields
        for name in _OPTIONAL_FIELDS:
            is_asked = is_set(getattr(spec, name)) or (name == "depends_on" and depends_on)
            if is_asked and name not in expressible:
                raise UnsupportedCapability(request_name(name), self.backend.name)


@contextlib.contextmanager
def _field_of_script(spec: JobSpec) -> Iterator[None]:
    """Name the field of a request in refusals of its script: ``script``, where that has its text.

    The schedulers' packages do not know where a script is from.
    """
    try:
        yield
    except InvalidSpec as error:
        if spec.script is None or error.field != "scriptFile":
            raise
        raise InvalidSpec(error.detail, field="script") from error


def _outside_spec(
    program: ProgramRequest | None, depends_on: Sequence[DependencyRequest]
) -> Mapping[str, object]:
    """Return the content of a submission that its `JobSpec` does not hold yet."""
    asked: dict[str, object] = {}
    if program is not None:
        asked["program"] = program.asked()
    if depends_on:
        asked["depends_on"] = [asdict(request) for request in depends_on]
    return asked
