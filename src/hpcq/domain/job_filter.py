"""Filters and sort orders of listings.

They work on the facts of jobs alone, so that jobs in memory and jobs in the database give the same
answer to the same question.
"""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from hpcq.domain.jobs import JobRecord, JobSpec, NativeId, Observation
from hpcq.domain.states import JobState, JobStatus

__all__ = [
    "NEVER",
    "SORT_FIELDS",
    "JobFacts",
    "JobFilter",
    "ProgramCommand",
    "SortKey",
    "SortOrder",
    "facts_of",
    "milliseconds",
]

_T = TypeVar("_T")

NEVER = 2**53
"""The time of what has not happened: later than any that can be written."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Longer ones say nothing more about the program that runs.
_ARGUMENTS_KEPT = 200
_NOTHING_ASKED = JobSpec(name="", working_directory="", script_file="")
_NOTHING_SEEN = Observation(native_id=NativeId("0"), state=JobState.UNDETERMINED)


class JobFacts(NamedTuple):
    """The facts about a job by which listings are filtered and sorted, as its JSON tells them.

    Attributes:
        submitted_at, started_at, ended_at: epoch milliseconds; `NEVER` for null.
        arguments: with blanks between them; the first 200 characters.
        belongs_to: the name of whose job it is.
        arrived_at: when this service first knew of it, epoch microseconds.
    """

    uid: str
    native_id: str
    state: JobState
    status: JobStatus
    submitted_at: int
    ended_at: int
    name: str | None
    owner: str | None
    queue: str | None
    working_directory: str | None
    script_file: str | None
    arguments: str
    array_job_id: str | None
    belongs_to: str | None
    started_at: int = NEVER
    arrived_at: int = 0


def milliseconds(moment: datetime | None) -> int:
    """Return a time as epoch milliseconds, which is what JSON shows of it; `NEVER` for None."""
    return NEVER if moment is None else (moment - _EPOCH) // _MILLISECOND


def facts_of(record: JobRecord) -> JobFacts:
    """Return the facts of a job."""
    spec, seen = record.spec or _NOTHING_ASKED, record.seen or _NOTHING_SEEN
    args = spec.args if record.submitted_here else seen.args or ()
    return JobFacts(
        uid=str(record.uid),
        native_id=str(record.native_id or ""),
        state=record.state,
        status=record.status,
        submitted_at=milliseconds(record.submit_time),
        ended_at=milliseconds(seen.end_time),
        name=spec.name or seen.name,
        owner=seen.owner,
        queue=seen.queue or spec.queue,
        working_directory=spec.working_directory or seen.working_directory,
        script_file=spec.script_file or seen.script_file,
        arguments=" ".join(args)[:_ARGUMENTS_KEPT],
        array_job_id=seen.array_job_id,
        belongs_to=record.belongs_to and record.belongs_to.name,
        started_at=milliseconds(seen.start_time),
        arrived_at=(record.created_at - _EPOCH) // timedelta.resolution,
    )


class ProgramCommand(NamedTuple):
    """The command of an installed program: its script, and the first arguments with blanks."""

    script: str
    first_arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """The jobs that are asked for; None asks for nothing.

    Attributes:
        name: of the job; each ``*`` stands for any text.
        commands: of programs, one of which it runs.
        submitted_after, ended_after: epoch milliseconds, included.
        submitted_before, ended_before: epoch milliseconds, not included.
        text: part of the name, the directory, the script or an id, in small or capital letters.
    """

    states: frozenset[JobState] | None = None
    statuses: frozenset[JobStatus] | None = None
    owners: frozenset[str] | None = None
    queues: frozenset[str] | None = None
    name: str | None = None
    commands: frozenset[ProgramCommand] | None = None
    working_directory: str | None = None
    array_job_id: str | None = None
    submitted_after: int | None = None
    submitted_before: int | None = None
    ended_after: int | None = None
    ended_before: int | None = None
    text: str | None = None

    def equal_values(self) -> Mapping[str, str]:
        """Return the facts that have to have exactly one value."""
        name = None if self.name is None or "*" in self.name else self.name
        values = {
            "array_job_id": self.array_job_id,
            "working_directory": self.working_directory,
            "name": name,
            "owner": _only(self.owners),
            "queue": _only(self.queues),
            "state": _only(self.states),
        }
        return {fact: value for fact, value in values.items() if value is not None}

    def select(self, jobs: Sequence[_T], facts: Callable[[_T], JobFacts]) -> Sequence[_T]:
        """Return those that are asked for, in the order in which they come.

        Args:
            jobs: to choose from.
            facts: returns those of a job.
        """
        for is_asked_for in self._tests():
            jobs = [job for job in jobs if is_asked_for(facts(job))]
        return jobs

    def _tests(self) -> list[Callable[[JobFacts], bool]]:
        tests: list[Callable[[JobFacts], bool]] = [
            _is_in(attrgetter(fact), values)
            for fact, values in (
                ("array_job_id", _one(self.array_job_id)),
                ("working_directory", _one(self.working_directory)),
                ("owner", self.owners),
                ("queue", self.queues),
                ("state", self.states),
                ("status", self.statuses),
            )
            if values is not None
        ]
        times = (self.submitted_after, self.submitted_before, self.ended_after, self.ended_before)
        if any(time is not None for time in times):
            tests.append(self._is_of_the_time)
        if self.name is not None:
            tests.append(_has_name(self.name))
        if self.commands is not None:
            tests.append(_runs(self.commands))
        if self.text is not None:
            tests.append(_holds(self.text.casefold()))
        return tests

    def _is_of_the_time(self, job: JobFacts) -> bool:
        return _is_between(
            job.submitted_at, self.submitted_after, self.submitted_before
        ) and _is_between(job.ended_at, self.ended_after, self.ended_before)


def _one(value: str | None) -> frozenset[str] | None:
    return None if value is None else frozenset({value})


def _only(values: frozenset[Any] | None) -> str | None:
    return None if values is None or len(values) != 1 else str(*values)


def _is_in(fact: Callable[[JobFacts], Any], values: frozenset[Any]) -> Callable[[JobFacts], bool]:
    return lambda job: fact(job) in values


def _is_between(time: int, start: int | None, end: int | None) -> bool:
    if start is None and end is None:
        return True
    return (start or -NEVER) <= time < (NEVER if end is None else min(end, NEVER))


def _has_name(pattern: str) -> Callable[[JobFacts], bool]:
    if "*" not in pattern:
        return lambda job: job.name == pattern
    # Other than by regular expressions of our own, many stars take no more time than few.
    literal = re.sub(r"[?\[]", lambda found: f"[{found[0]}]", pattern)
    matches = re.compile(fnmatch.translate(literal)).match
    return lambda job: job.name is not None and matches(job.name) is not None


def _runs(commands: frozenset[ProgramCommand]) -> Callable[[JobFacts], bool]:
    first_arguments: dict[str | None, list[str]] = {}
    for script, first in commands:
        first_arguments.setdefault(script, []).append(f"{first} " if first else "")

    def test(job: JobFacts) -> bool:
        given = f"{job.arguments} "
        return any(map(given.startswith, first_arguments.get(job.script_file, ())))

    return test


def _holds(needle: str) -> Callable[[JobFacts], bool]:
    def test(job: JobFacts) -> bool:
        texts = (job.name, job.native_id, job.working_directory, job.script_file, job.uid)
        return any(text is not None and needle in text.casefold() for text in texts)

    return test


SortKey = tuple[Any, ...]
"""The place of a job in a sorted listing; the last part is its uid."""


def _by_text(fact: str) -> Callable[[JobFacts], SortKey]:
    def key(job: JobFacts) -> SortKey:
        text = getattr(job, fact)
        return text is None, text or "", job.uid

    return key


def _by_time(fact: str) -> Callable[[JobFacts], SortKey]:
    value = attrgetter(fact)
    return lambda job: (value(job), job.uid)


_SORT_KEYS: Mapping[str | None, Callable[[JobFacts], SortKey]] = {
    None: lambda job: (job.arrived_at, len(job.native_id), job.native_id, job.uid),
    "jobId": lambda job: (len(job.native_id), job.native_id, job.uid),
    "name": _by_text("name"),
    "owner": _by_text("owner"),
    "queue": _by_text("queue"),
    "state": _by_text("state"),
    "status": _by_text("status"),
    "workingDirectory": _by_text("working_directory"),
    "submitTime": _by_time("submitted_at"),
    "startTime": _by_time("started_at"),
    "endTime": _by_time("ended_at"),
}
SORT_FIELDS = tuple(field for field in _SORT_KEYS if field is not None)
"""The fields in JSON by which listings can be sorted."""
_ANY_JOB = JobFacts(
    uid="",
    native_id="",
    state=JobState.DONE,
    status=JobStatus.STOPPED,
    submitted_at=0,
    ended_at=0,
    name="",
    owner="",
    queue="",
    working_directory="",
    script_file="",
    arguments="",
    array_job_id="",
    belongs_to="",
)


@dataclass(frozen=True, slots=True)
class SortOrder:
    """The order of a listing. What is null counts as greater than all else.

    Attributes:
        field: one of `SORT_FIELDS`; None for the order in which the jobs came.
        descending: whether the greatest comes first.
    """

    field: str | None = None
    descending: bool = False

    def key(self, job: JobFacts) -> SortKey:
        """Return the place of a job; no other has the same."""
        return _SORT_KEYS[self.field](job)

    def is_key(self, parts: SortKey) -> bool:
        """Return whether these could be the parts of a key in this order."""
        expected = self.key(_ANY_JOB)
        return len(parts) == len(expected) and all(
            isinstance(one, type(part)) for one, part in zip(expected, parts, strict=True)
        )

    def is_before(self, one: SortKey, other: SortKey) -> bool:
        """Return whether the job with the one key comes before that with the other."""
        return one > other if self.descending else one < other
