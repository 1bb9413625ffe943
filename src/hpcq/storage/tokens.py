"""Tokens of this service: whose they are, never what they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa

from hpcq.domain.principals import Role, Scope
from hpcq.domain.units import from_epoch
from hpcq.storage.database import Database, Transaction
from hpcq.storage.schema import tokens

__all__ = ["Token", "TokenStore", "scopes_of", "scopes_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that was made.

    Attributes:
        token_id: names it in lists and logs.
        scopes: what it is narrowed to; None for all that the role allows.
        expires_at, revoked_at: aware; None for never.
    """

    token_id: str
    user: str
    role: Role
    scopes: frozenset[Scope] | None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def ended_by(self, at: datetime) -> Literal["revoked", "expired"] | None:
        """Return why the token is worthless at a time; None while it is good."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= at else None


def scopes_text(scopes: frozenset[Scope] | None) -> str | None:
    """Return scopes as a column holds them."""
    return None if scopes is None else " ".join(sorted(scopes))


def scopes_of(text: str | None) -> frozenset[Scope] | None:
    """Return the scopes that a column holds."""
    return None if text is None else frozenset(map(Scope, text.split()))


class TokenStore:
    """The tokens of one deployment, by the SHA-256 of each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, token: Token, digest: str) -> None:
        """Write a new token down."""

        def do(transaction: Transaction) -> None:
            row = {
                "id": token.token_id,
                "deployment_id": transaction.deployment_id,
                "hash": digest,
                "user": token.user,
                "role": token.role.value,
                "scopes": scopes_text(token.scopes),
                "created_at": token.created_at.timestamp(),
                "expires_at": None if token.expires_at is None else token.expires_at.timestamp(),
            }
            transaction.connection.execute(tokens.insert(), row)

        await self._database.write(do)

    async def find(self, digest: str) -> Token | None:
        """Return the token with this hash, expired and revoked ones too."""
        found = await self._select(tokens.c.hash == digest)
        return found[0] if found else None

    async def all(self) -> Sequence[Token]:
        """Return all tokens, the oldest first."""
        return await self._select(sa.true())

    async def revoke(self, token_id: str, at: datetime) -> bool:
        """Make a token worthless; return whether there is one with this id."""

        def do(transaction: Transaction) -> bool:
            one = (tokens.c.deployment_id == transaction.deployment_id, tokens.c.id == token_id)
            found = transaction.connection.execute(sa.select(tokens.c.id).where(*one)).scalar()
            transaction.connection.execute(
                tokens.update()
                .where(*one, tokens.c.revoked_at.is_(None))
                .values(revoked_at=at.timestamp())
            )
            return found is not None

        return await self._database.write(do)

    async def _select(self, where: sa.ColumnElement[bool]) -> Sequence[Token]:
        def read(connection: sa.Connection, deployment: int) -> Sequence[Token]:
            query = sa.select(tokens).where(tokens.c.deployment_id == deployment, where)
            return [
                Token(
                    token_id=row.id,
                    user=row.user,
                    role=Role(row.role),
                    scopes=scopes_of(row.scopes),
                    created_at=datetime.fromtimestamp(row.created_at, UTC),
                    expires_at=from_epoch(row.expires_at),
                    revoked_at=from_epoch(row.revoked_at),
                )
                for row in connection.execute(query.order_by(tokens.c.created_at))
            ]

        return await self._database.read(read)
