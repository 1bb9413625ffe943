"""Submit, find and read jobs."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

from hpcq.domain import identity
from hpcq.domain.errors import (
    InvalidSpec,
    JobNotFound,
    SchedulerError,
    SchedulerUnavailable,
    UnsupportedCapability,
)
from hpcq.domain.ids import read_id
from hpcq.domain.jobs import Dependency, JobRecord, JobSpec, JobUid, NativeId, Usage
from hpcq.domain.outputs import default_name
from hpcq.domain.principals import Principal, Role
from hpcq.domain.submission import IdempotencyKey, is_set
from hpcq.domain.validation import SizeLimits, check_content
from hpcq.schedulers.base import Capabilities, SchedulerBackend, SubmissionPlan
from hpcq.services.listing.job_entry import JobEntry, entries_of
from hpcq.services.listing.job_lookup import JobLookup
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.wire import WireFormat, request_name
from hpcq.services.mail.recipients import take_over_mails
from hpcq.services.mail.settings import MailSettings
from hpcq.services.monitoring.job_details import DetailsReader, UsageReader
from hpcq.services.monitoring.monitor import Monitor
from hpcq.services.programs.request import ProgramRequest
from hpcq.services.submission.attempt import SubmissionRunner
from hpcq.services.submission.dependencies import DependencyRequest, resolve
from hpcq.services.submission.paths import PathChecker
from hpcq.services.submission.submitter import Outcome, Submission, Submitter
from hpcq.storage.jobs import JobStore

__all__ = ["JobService"]

_ALWAYS_EXPRESSED = frozenset(
    {"name", "working_directory", "script_file", "args", "slots", "outputs"}
)
_MAIL_FIELDS = frozenset({"mail_to", "mail_on"})
_OPTIONAL_FIELDS = tuple(f.name for f in fields(JobSpec) if f.name not in _ALWAYS_EXPRESSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobService:
    """Submits, finds and reads jobs of one scheduler, each time on behalf of a principal.

    All methods that take an id accept the scheduler's own or the permanent uid, and raise
    `JobNotFound` when there is no such job, or none that the principal may see.

    Attributes:
        outcomes: how many requests to submit came to what.
    """

    backend: SchedulerBackend
    store: JobStore
    table: JobTable
    monitor: Monitor
    runner: SubmissionRunner
    submitter: Submitter
    usage: UsageReader
    lookup: JobLookup
    details_reader: DetailsReader
    wire: WireFormat
    paths: PathChecker
    sizes: SizeLimits
    mail: MailSettings
    outcomes: Counter[Outcome] = field(default_factory=Counter)

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
            IdempotencyKeyReused, SubmissionInProgress: see `Submitter.known`.
            SchedulerError: the scheduler surely did not take it.
        """
        try:
            with _field_of_script(spec):
                submission = await self._submit(principal, spec, key_text, program, depends_on)
        except Exception as error:
            self.outcomes[Outcome.of_error(error)] += 1
            raise
        self.outcomes[submission.outcome] += 1
        return submission

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
        outside_spec = _outside_spec(program, depends_on)
        key = None
        if key_text is not None:
            key = IdempotencyKey.of(key_text, _named(spec), outside_spec, principal.user)
        known = None if key is None else await self.submitter.known(key)
        if known is not None:
            return known
        # After the key, which names the same request whatever the settings say.
        spec = await self._complete(principal, spec, program, depends_on)
        submission = await self.submitter.submit(principal, spec, key)
        if submission.record.native_id is None:
            self.monitor.wake()
        return submission

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
        spec = replace(spec, run_as=await self.paths.account_of(principal.user))
        spec = replace(spec, depends_on=await self._resolve(principal, depends_on))
        return await self.paths.check(spec)

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
        asked = {name for name in _OPTIONAL_FIELDS if is_set(getattr(spec, name))}
        if depends_on:
            asked.add("depends_on")
        for name in _OPTIONAL_FIELDS:
            if name in asked and name not in expressible:
                raise UnsupportedCapability(request_name(name), self.backend.name)

    async def _resolve(
        self, principal: Principal, depends_on: Sequence[DependencyRequest]
    ) -> tuple[Dependency, ...]:
        async def find(job_id: str) -> JobRecord:
            return (await self.find(principal, job_id)).record

        return await resolve(depends_on, find)

    async def read(self, principal: Principal, job_id: str) -> JobEntry:
        """Return a job with its details; the first reader waits while they are fetched."""
        entry = await self.find(principal, job_id)
        await self.details_reader.complete(entry.record)
        return self.table.entry(entry.record.uid) or entry

    async def find(self, principal: Principal, job_id: str) -> JobEntry:
        """Return a job, from memory when it is in the queue or ended lately."""
        parsed, is_array = self._parse_id(job_id)
        entry = self.table.entry(parsed)
        if entry is None:
            found = await self._find_elsewhere(parsed, is_array=is_array)
            (entry,) = await entries_of([found], self.store, self.wire)
        else:
            self.usage.mark_viewed(entry.record.uid)
        if is_array and not entry.record.is_array:
            raise JobNotFound(job_id)
        if not principal.may_see(entry.record):
            raise JobNotFound(job_id)
        return entry

    def is_theirs(self, principal: Principal, record: JobRecord) -> bool:
        """Return whether a job is a principal's own; every job is an operator's."""
        if principal.role is Role.OPERATOR:
            return True
        # A name that users share with an account need not be the same person's.
        return principal.owns(record) and (
            record.submitted_here or self.paths.is_account_of(principal.user, record.belongs_to)
        )

    def _parse_id(self, text: str) -> tuple[JobUid | NativeId, bool]:
        """Return an id, and whether it was written as only a whole array's is."""
        with contextlib.suppress(ValueError):
            return JobUid(text), False
        with contextlib.suppress(ValueError):
            return read_id(text, self.backend.capabilities.id_forms)
        raise JobNotFound(text)

    async def usage_over_time(self, principal: Principal, job_id: str) -> list[Usage]:
        """Return the samples of what a job used while it ran, oldest first.

        Only jobs that were submitted through this service have any.
        """
        record = (await self.find(principal, job_id)).record
        return await self.store.samples(record.uid) if record.submitted_here else []

    async def _find_elsewhere(
        self, job_id: JobUid | NativeId, *, is_array: bool = False
    ) -> JobRecord:
        left = self.table.recently_left(job_id)
        if left is not None and left.native_id is not None:
            # It is the newest with this id; accounting may be late or away.
            with contextlib.suppress(SchedulerError):
                record = await self.lookup.look_up(left.native_id)
                if record is not None and (
                    record.seen is None or identity.same_job(left, record.seen)
                ):
                    return record
            return left
        if is_array and isinstance(job_id, NativeId):
            record = await self.lookup.find_array(job_id)
        else:
            record = await self.lookup.find(job_id)
        if record is not None:
            return record
        if not self.monitor.has_seen_queue:
            raise SchedulerUnavailable(
                "The scheduler has not answered since this service started, so this service cannot "
                f"say whether there is a job {str(job_id)!r}. Try again in a moment."
            )
        raise JobNotFound(job_id)


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


def _named(spec: JobSpec) -> JobSpec:
    """Return the job as if it had been given the name that is the default."""
    return replace(spec, name=spec.name or default_name(spec.working_directory))


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
