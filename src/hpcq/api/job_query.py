"""Query parameters of the listing and of the summary of jobs."""

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from hpcq.api.requests import RequestModel
from hpcq.domain.job_filter import SORT_FIELDS, JobFilter, ProgramCommand, SortOrder, milliseconds
from hpcq.domain.principals import Principal
from hpcq.domain.programs import Program
from hpcq.domain.states import JobState, JobStatus
from hpcq.services.listing.pagination import AfterFound, Cursor, read_cursor
from hpcq.services.listing.search import Query
from hpcq.services.listing.wire import Job
from hpcq.services.programs.service import ProgramService
from hpcq.storage.finished_jobs import FINISHED_SORTS

__all__ = ["LONGEST_PAGE", "JobFilterQuery", "JobQuery", "OptionalTime", "criteria_of"]

LONGEST_PAGE = 1000
_ARCHIVED_PAGE = 100
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
# They change how the answer is shown, not which jobs are in it.
_SHOWN = frozenset({"limit", "cursor", "fields", "expand"})
_FIELDS = Job.__struct_encode_fields__


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


def _time(value: object) -> object:
    if value is None or value == "":
        return None
    try:
        if not isinstance(value, str) or _TIME.fullmatch(value) is None:
            raise ValueError
        return datetime.fromisoformat(value.upper())
    except ValueError:
        raise ValueError(
            "it has to be a time with its zone, as 2026-11-22T12:00:00Z or, with the + written as "
            "%2B, 2026-11-22T12:00:00%2B01:00"
        ) from None


_Text = Annotated[str | None, BeforeValidator(_empty_is_none)]
_Flag = Annotated[bool | None, BeforeValidator(_empty_is_none)]
OptionalTime = Annotated[
    datetime | None,
    BeforeValidator(_time),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "date-time"}, {"maxLength": 0}]}),
]
_SEVERAL = "Several are separated by commas."


def _several(words: Iterable[str]) -> JsonDict:
    """Return the schema of some of these words, separated by commas."""
    one = f"({'|'.join(words)}|)"
    return {"pattern": f"^{one}(,{one})*$"}


_LONGEST_TEXT = 4096


class JobFilterQuery(RequestModel):
    """Filters of jobs. All that are given have to fit; an empty value is no filter."""

    state: _Text = Field(
        default=None,
        description=_SEVERAL,
        examples=["QUEUED,QUEUED_HELD"],
        json_schema_extra=_several(JobState),
    )
    status: _Text = Field(
        default=None,
        description=_SEVERAL,
        examples=["RUNNING"],
        json_schema_extra=_several(JobStatus),
    )
    owner: _Text = Field(
        default=None, max_length=_LONGEST_TEXT, description=_SEVERAL, examples=["ana"]
    )
    queue: _Text = Field(
        default=None, max_length=_LONGEST_TEXT, description=_SEVERAL, examples=["batch"]
    )
    name: _Text = Field(
        default=None,
        max_length=_LONGEST_TEXT,
        description="The whole name; each `*` stands for any text.",
        examples=["pmo-*"],
    )
    program: _Text = Field(
        default=None,
        max_length=_LONGEST_TEXT,
        description="The name or the `programId` of a program of `GET /programs`: jobs that run "
        "its script with its first arguments.",
        examples=["NEWAVE"],
    )
    working_directory: _Text = Field(default=None, max_length=_LONGEST_TEXT)
    array_job_id: _Text = Field(
        default=None, max_length=_LONGEST_TEXT, description="The tasks of this array."
    )
    submitted_after: OptionalTime = Field(
        default=None, description="RFC 3339; this time is included."
    )
    submitted_before: OptionalTime = Field(default=None, description="RFC 3339; not included.")
    ended_after: OptionalTime = Field(default=None, description="RFC 3339; this time is included.")
    ended_before: OptionalTime = Field(default=None, description="RFC 3339; not included.")
    text: _Text = Field(
        default=None,
        max_length=_LONGEST_TEXT,
        description="A part of the name, the directory, the script or an id, in small or capital "
        "letters.",
    )
    active: _Flag = Field(
        default=None, description="true: jobs that are not `DONE` or `FAILED`; false: the others."
    )

    @field_validator("state", "status")
    @classmethod
    def _are_known(cls, text: str | None, info: Any) -> str | None:
        known = JobState if info.field_name == "state" else JobStatus
        for word in _words(text) or ():
            if word not in known.__members__:
                raise ValueError(f"{word!r:.100} is none; there are {', '.join(known)}")
        return text

    def criteria(self) -> JobFilter:
        """Return the filter, but for `program`, which has to be looked up."""
        states = _words(self.state)
        chosen = None if states is None else frozenset(map(JobState, states))
        if self.active is not None:
            fitting = frozenset(s for s in JobState if s.is_final is not self.active)
            chosen = fitting if chosen is None else chosen & fitting
        statuses = _words(self.status)
        return JobFilter(
            states=chosen,
            statuses=None if statuses is None else frozenset(map(JobStatus, statuses)),
            owners=_words(self.owner),
            queues=_words(self.queue),
            name=self.name,
            working_directory=self.working_directory,
            array_job_id=self.array_job_id,
            submitted_after=_bound(self.submitted_after),
            submitted_before=_bound(self.submitted_before),
            ended_after=_bound(self.ended_after),
            ended_before=_bound(self.ended_before),
            text=self.text,
        )

    def commands(self, programs: Sequence[Program]) -> frozenset[ProgramCommand]:
        """Return the commands of the installed programs that `program` names."""
        return frozenset(
            ProgramCommand(found.installation.script, " ".join(found.installation.words))
            for found in programs
            if self.program in (found.program_id, found.installation.name)
        )

    def given(self) -> Mapping[str, str]:
        """Return the parameters that were given, as they stand in a URL."""
        values = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in values.items()
        }

    def _query(
        self, principal: Principal, criteria: JobFilter, order: SortOrder, *, archived: bool
    ) -> Query:
        return Query(
            name=self.query_name,
            criteria=criteria,
            order=order,
            with_archived=archived,
            person=principal.view,
        )

    @functools.cached_property
    def query_name(self) -> str:
        """A word for what is asked for, whichever page of it, and however it is shown."""
        if self.model_fields_set <= _SHOWN:
            return ""
        given = {name: value for name, value in self.given().items() if name not in _SHOWN}
        document = msgspec.json.encode(given, order="sorted")
        return hashlib.blake2b(document, digest_size=6).hexdigest() if given else ""

    def summary(self, principal: Principal, criteria: JobFilter) -> Query:
        """Return the question for the jobs in memory."""
        return self._query(principal, criteria, SortOrder(), archived=False)


async def criteria_of(programs: ProgramService, query: JobFilterQuery) -> JobFilter:
    """Return the filter of a query; the program that it names is looked up."""
    criteria = query.criteria()
    if query.program is None:
        return criteria
    found = (await programs.catalogue()).programs
    return replace(criteria, commands=query.commands(found))


class JobQuery(JobFilterQuery):
    """The query parameters of a listing."""

    sort: _Text = Field(
        default=None,
        description="The field to sort by, with `-` before it for the greatest first: "
        + ", ".join(f"`{field}`" for field in SORT_FIELDS)
        + ". Null is greater than all else. Default: the first to come stand first; "
        "`-submitTime` or `-endTime` with `archived`.",
        examples=["-endTime"],
        json_schema_extra={"pattern": f"^-?({'|'.join(SORT_FIELDS)})$|^$"},
    )
    archived: _Flag = Field(
        default=None,
        description="true: also jobs that ended too long ago to be listed, in pages of 100 unless "
        "`limit` is given. Default: true with a filter by time, else false.",
    )
    fields: _Text = Field(
        default=None,
        max_length=_LONGEST_TEXT,
        description="Answer with these fields of each job alone, separated by commas.",
        examples=["jobId,state"],
        json_schema_extra=_several(_FIELDS),
    )
    expand: Literal["resourceUsage"] | None = None
    limit: int | None = Field(
        default=None,
        ge=1,
        le=LONGEST_PAGE,
        description="Answer with at most so many jobs; `Link` leads to the next ones.",
    )
    cursor: str | None = Field(
        default=None,
        max_length=16_000,
        description="Where the page begins: part of the URL in a `Link` header, nothing to make "
        "up or to keep.",
    )

    @field_validator("sort")
    @classmethod
    def _can_be_sorted_by(cls, text: str | None) -> str | None:
        if text is not None and text.removeprefix("-") not in SORT_FIELDS:
            raise ValueError(f"it has to be one of {', '.join(SORT_FIELDS)}, or - and one of them")
        return text

    @field_validator("fields")
    @classmethod
    def _are_fields(cls, text: str | None) -> str | None:
        for name in _words(text) or ():
            if name not in _FIELDS:
                raise ValueError(f"a job has no field {name!r:.100}")
        return text

    @field_validator("cursor")
    @classmethod
    def _can_be_read(cls, text: str | None) -> str | None:
        if text is not None:
            read_cursor(text)
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        order, place = self.order, self.place
        if self.looks_in_archive and order.field not in FINISHED_SORTS:
            raise ValueError(
                f"sort={order.field} is for listed jobs alone; with archived ones, which a filter "
                f"by time asks for too, sort by {' or '.join(FINISHED_SORTS)}, or give "
                "archived=false"
            )
        if place is not None and self.is_search is not isinstance(place, AfterFound):
            raise ValueError("the cursor is of another query; take it from this one's Link header")
        if isinstance(place, AfterFound) and (
            place.query != self.query_name or not order.is_key(place.key)
        ):
            raise ValueError("the cursor is of another query; take it from this one's Link header")
        return self

    @property
    def is_search(self) -> bool:
        """True when anything but the plain listing is asked for."""
        return bool(self.query_name)

    @property
    def looks_in_archive(self) -> bool:
        """True when all finished jobs are looked at."""
        if self.archived is not None:
            return self.archived
        times = (self.submitted_after, self.submitted_before, self.ended_after, self.ended_before)
        return any(time is not None for time in times)

    @property
    def order(self) -> SortOrder:
        """The order of the answer."""
        if self.sort is not None:
            return SortOrder(self.sort.removeprefix("-"), self.sort.startswith("-"))
        if not self.looks_in_archive:
            return SortOrder()
        ended = self.ended_after or self.ended_before
        submitted = self.submitted_after or self.submitted_before
        return SortOrder("submitTime" if submitted and not ended else "endTime", descending=True)

    @property
    def place(self) -> Cursor | None:
        """The beginning of the page; None for the first."""
        return None if self.cursor is None else read_cursor(self.cursor)

    @property
    def length(self) -> int | None:
        """The most jobs that a page may hold; None when the whole listing was asked for."""
        if self.limit is not None:
            return self.limit
        if self.looks_in_archive:
            return _ARCHIVED_PAGE
        return None if self.cursor is None else LONGEST_PAGE

    @property
    def shown_fields(self) -> frozenset[str] | None:
        """The fields to answer with; None for all."""
        return _words(self.fields)

    def search(self, principal: Principal, criteria: JobFilter) -> Query:
        """Return the question for what is asked for."""
        return self._query(principal, criteria, self.order, archived=self.looks_in_archive)


def _words(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    return frozenset(word for word in text.split(",") if word) or None


def _bound(moment: datetime | None) -> int | None:
    """Return a bound of times of whole milliseconds."""
    if moment is None:
        return None
    return milliseconds(moment) + (moment.microsecond % 1000 > 0)
