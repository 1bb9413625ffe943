"""Tokens of this service: made once, shown once, and recognised by their hash."""

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from hpcq.domain.errors import NotAuthenticated
from hpcq.domain.principals import Role, Scope
from hpcq.storage.tokens import Token, TokenStore

__all__ = [
    "PREFIX",
    "Remembered",
    "TokenVerifier",
    "create_token",
    "digest_of",
    "keep_operator_token",
]

_log = structlog.get_logger("hpcq.auth")

PREFIX = "hpcq_"
"""The beginning of every token, by which secret scanners and people know one."""

_RANDOM_BYTES = 32
_REMEMBERED_SECONDS = 5.0
_REMEMBERED = 10_000

_T = TypeVar("_T")


def _random_text() -> str:
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest_of(token: str) -> str:
    """Return the hash by which the records know a token."""
    # The token is random and long: a slow hash would protect nothing more.
    return hashlib.sha256(token.encode()).hexdigest()


async def create_token(
    store: TokenStore,
    *,
    user: str,
    role: Role,
    at: datetime,
    scopes: frozenset[Scope] | None = None,
    expires_at: datetime | None = None,
    text: str | None = None,
) -> str:
    """Make a token and return it; only its hash is kept.

    Args:
        store: keeps the hash.
        user: whose it is.
        role: what they may do.
        at: now, aware.
        scopes: narrow it; None for all that the role allows.
        expires_at: aware; None for never.
        text: the token, if it is there already; None for a random one.
    """
    text = text or _random_text()
    token = Token(
        token_id=secrets.token_hex(4),
        user=user,
        role=role,
        scopes=scopes,
        created_at=at,
        expires_at=expires_at,
    )
    await store.add(token, digest_of(text))
    return text


async def keep_operator_token(store: TokenStore, path: Path, at: datetime) -> None:
    """Make the operator's token and its file, unless they are there and good.

    Args:
        store: keeps the hash.
        path: the file, for this account alone.
        at: now, aware.

    Raises:
        OSError: the file cannot be read or written.
    """
    text = await asyncio.to_thread(_read_or_make, path)
    token = await store.find(digest_of(text))
    ended = None if token is None else token.ended_by(at)
    if ended is not None:
        _log.warning(f"The operator's token in {path} is {ended}; a new one takes its place.")
        text, token = await asyncio.to_thread(_replace, path), None
    if token is None:
        await create_token(store, user="operator", role=Role.OPERATOR, at=at, text=text)


def _read_or_make(path: Path) -> str:
    new = _write_beside(path)
    with contextlib.suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
    return path.read_text().strip()


def _replace(path: Path) -> str:
    _write_beside(path).replace(path)
    return path.read_text().strip()


def _write_beside(path: Path) -> Path:
    """Write a new token; whole or not at all: a service that dies meanwhile leaves no empty one."""
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(f"{_random_text()}\n")
    return new


class Remembered(Generic[_T]):
    """Findings of the records by their hash, each remembered for 5 s.

    Args:
        find: asks the records.
    """

    def __init__(self, find: Callable[[str], Awaitable[_T | None]]) -> None:
        self._find = find
        self._known: OrderedDict[str, tuple[_T, float]] = OrderedDict()

    async def find(self, digest: str) -> _T | None:
        """Return what has this hash; None where there is nothing such, which is not remembered.

        Raises:
            StoreUnavailable: it cannot be looked up.
        """
        found, good_until = self._known.get(digest, (None, 0.0))
        if found is None or time.monotonic() > good_until:
            found = await self._find(digest)
            if found is None:
                return None
            self._known[digest] = found, time.monotonic() + _REMEMBERED_SECONDS
            self._known.move_to_end(digest)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found

    def forget(self, digest: str) -> None:
        """Ask the records the next time."""
        self._known.pop(digest, None)


class TokenVerifier:
    """Recognises tokens.

    Args:
        store: knows the hashes.
        clock: the present, aware.
    """

    def __init__(self, store: TokenStore, clock: Callable[[], datetime]) -> None:
        self._tokens = Remembered(store.find)
        self._now = clock

    async def verify(self, text: str) -> Token:
        """Return whose token this is.

        Raises:
            NotAuthenticated: there is none such, or it is not good any more.
            StoreUnavailable: it cannot be looked up.
        """
        token = await self._tokens.find(digest_of(text))
        if token is None:
            raise NotAuthenticated(
                "This service made no such token. `hpcq token create` makes one."
            )
        ended = token.ended_by(self._now())
        if ended is not None:
            raise NotAuthenticated(f"This token is {ended}. `hpcq token create` makes another.")
        return token
