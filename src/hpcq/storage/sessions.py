"""Sessions of browsers: whose they are, by the SHA-256 of their cookies."""

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from hpcq.domain.principals import Method, Role, Scope
from hpcq.storage.database import Database, Transaction
from hpcq.storage.schema import sessions, tokens
from hpcq.storage.tokens import scopes_of, scopes_text

__all__ = ["Session", "SessionStore"]

_MOST_OF_A_USER = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that logged in.

    Attributes:
        scopes: as of a token.
        through: the method of the login.
        token_id: the token that it was made from; None for one of a provider.
        created_at, expires_at: aware.
        is_revoked: whether that token was revoked.
    """

    user: str
    role: Role
    scopes: frozenset[Scope] | None
    through: Method
    token_id: str | None
    created_at: datetime
    expires_at: datetime
    is_revoked: bool = False


class SessionStore:
    """The sessions of one deployment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, session: Session, digest: str) -> None:
        """Write a new session down; delete those that are over, and the oldest of too many."""

        def do(transaction: Transaction) -> None:
            ours = sessions.c.deployment_id == transaction.deployment_id
            begun = session.created_at.timestamp()
            row = {
                "hash": digest,
                "deployment_id": transaction.deployment_id,
                "user": session.user,
                "role": session.role.value,
                "scopes": scopes_text(session.scopes),
                "through": session.through.value,
                "token_id": session.token_id,
                "created_at": begun,
                "expires_at": session.expires_at.timestamp(),
            }
            execute = transaction.connection.execute
            execute(sessions.insert(), row)
            execute(sessions.delete().where(ours, sessions.c.expires_at <= begun))
            kept = (
                sa.select(sessions.c.hash)
                .where(ours, sessions.c.user == session.user)
                .order_by(sessions.c.created_at.desc(), sessions.c.hash)
                .limit(_MOST_OF_A_USER)
            )
            kept_hashes = execute(kept).scalars().all()
            execute(
                sessions.delete().where(
                    ours, sessions.c.user == session.user, sessions.c.hash.not_in(kept_hashes)
                )
            )

        await self._database.write(do)

    async def find(self, digest: str) -> Session | None:
        """Return the session with this hash, one that is over too."""

        def read(connection: sa.Connection, deployment: int) -> Session | None:
            query = (
                sa.select(sessions, tokens.c.revoked_at)
                .outerjoin_from(sessions, tokens, sessions.c.token_id == tokens.c.id)
                .where(sessions.c.deployment_id == deployment, sessions.c.hash == digest)
            )
            row = connection.execute(query).one_or_none()
            return (
                None
                if row is None
                else Session(
                    user=row.user,
                    role=Role(row.role),
                    scopes=scopes_of(row.scopes),
                    through=Method(row.through),
                    token_id=row.token_id,
                    created_at=datetime.fromtimestamp(row.created_at, UTC),
                    expires_at=datetime.fromtimestamp(row.expires_at, UTC),
                    is_revoked=row.revoked_at is not None,
                )
            )

        return await self._database.read(read)

    async def count_open(self, at: datetime) -> int:
        """Return how many sessions are neither over nor made from a token that was revoked."""

        def read(connection: sa.Connection, deployment: int) -> int:
            query = (
                sa.select(sa.func.count())
                .select_from(sessions)
                .outerjoin(tokens, sessions.c.token_id == tokens.c.id)
                .where(
                    sessions.c.deployment_id == deployment,
                    sessions.c.expires_at > at.timestamp(),
                    tokens.c.revoked_at.is_(None),
                )
            )
            return connection.execute(query).scalar_one()

        return await self._database.read(read)

    async def delete(self, digest: str) -> None:
        """Delete a session, if there is one with this hash."""

        def do(transaction: Transaction) -> None:
            transaction.connection.execute(
                sessions.delete().where(
                    sessions.c.deployment_id == transaction.deployment_id,
                    sessions.c.hash == digest,
                )
            )

        await self._database.write(do)
