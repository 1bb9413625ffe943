"""Principals: the people and programs that ask, and what each of them may see and do."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from hpcq.domain.jobs import JobRecord, OwnerName

__all__ = ["UNASKED", "Method", "Person", "Principal", "Role", "Scope"]


class Role(StrEnum):
    """The rights of a principal; each role has those of the one before."""

    VIEWER = "viewer"
    """Reads."""
    USER = "user"
    """Submits jobs, and changes its own."""
    OPERATOR = "operator"
    """Sees and changes all jobs."""


class Scope(StrEnum):
    """One kind of requests. A token may be narrowed to some of them."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    PROGRAMS_READ = "programs:read"
    EVENTS_READ = "events:read"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"


class Method(StrEnum):
    """The way in which a principal was recognised."""

    PEER = "peer"
    """The kernel named the account at the other end of a connection on this machine."""
    TOKEN = "token"  # noqa: S105
    """A token of this service."""
    OIDC = "oidc"
    """A token of an OpenID Connect provider."""
    SESSION = "session"
    """The cookie of a browser that logged in with one of the two."""
    CLIENT = "client"
    """The address of a client that the settings trust."""
    NONE = "none"
    """Nobody is asked (``AUTH=none``)."""


_READS = frozenset({Scope.JOBS_READ, Scope.PROGRAMS_READ, Scope.EVENTS_READ, Scope.METRICS_READ})
_SCOPES = {
    Role.VIEWER: _READS,
    Role.USER: _READS | {Scope.JOBS_WRITE},
    Role.OPERATOR: frozenset(Scope),
}


class Person(NamedTuple):
    """Somebody who may have jobs.

    Attributes:
        user: the name here, of those who submit here.
        account: the name in the scheduler, of those who submit elsewhere; None for none.
    """

    user: str
    account: str | None

    @property
    def names(self) -> tuple[OwnerName, ...]:
        """The names in `JobRecord.belongs_to` that are this person's."""
        here = OwnerName(self.user, is_account=False)
        if self.account is None:
            return (here,)
        return here, OwnerName(self.account, is_account=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody who asks.

    Attributes:
        user: the name; an account's for `Method.PEER`, empty for `Method.NONE`.
        scopes: what the request may do at most; None for all that the role allows.
        sees_all: whether it sees the jobs of others.
        account: the account in the scheduler; None for none.
        login: the method by which a session was begun; None without one.
        expires_at: the end of the token or session that was shown; None for none.
        token_id: names the token of this service that was shown, or the session's.
    """

    user: str
    role: Role
    method: Method
    sees_all: bool
    account: str | None = None
    scopes: frozenset[Scope] | None = None
    login: Method | None = None
    expires_at: datetime | None = None
    token_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Return whether requests of this kind are allowed."""
        return scope in _SCOPES[self.role] and (self.scopes is None or scope in self.scopes)

    @property
    def person(self) -> Person:
        """The one who asks, as jobs name their owners."""
        return Person(self.user, self.account)

    @property
    def view(self) -> Person | None:
        """The person whose jobs alone it sees; None for everybody's."""
        return None if self.sees_all else self.person

    def owns(self, record: JobRecord) -> bool:
        """Return whether the job is its own."""
        return self.method is not Method.NONE and record.belongs_to in self.person.names

    def may_see(self, record: JobRecord) -> bool:
        """Return whether it may know of the job."""
        return self.sees_all or self.owns(record)

    def may_read_results(self, record: JobRecord) -> bool:
        """Return whether it may read what the job wrote."""
        return self.role is Role.OPERATOR or self.owns(record)

    def may_change(self, record: JobRecord) -> bool:
        """Return whether it may end, hold or release the job."""
        return self.role is Role.OPERATOR or (self.role is Role.USER and self.owns(record))


UNASKED = Principal(user="", role=Role.OPERATOR, method=Method.NONE, sees_all=True)
"""The principal of every request where nobody is asked who they are (``AUTH=none``)."""
