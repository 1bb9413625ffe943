"""Sessions of browsers: made from a login, and recognised by a cookie."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from hpcq.auth.connections import Connection, is_encrypted
from hpcq.auth.settings import AuthSettings
from hpcq.auth.tokens import Remembered, digest_of
from hpcq.domain.errors import SessionEnded, StoreUnavailable
from hpcq.domain.principals import Method, Principal
from hpcq.storage.sessions import Session, SessionStore

__all__ = ["LOGIN", "LOGIN_SECONDS", "SESSION", "Cookies", "Sessions", "new_secret"]

SESSION = "session"
"""The purpose of the cookie that holds a session."""
LOGIN = "login"
"""The purpose of the cookie that holds the secret of a login at the provider."""
LOGIN_SECONDS = 600
"""The longest time that a person may take to log in at the provider."""

_RANDOM_BYTES = 32
_COUNTED_EVERY_SECONDS = 15.0


def new_secret() -> str:
    """Return a secret of one login: its time, and what only the browser and the service know."""
    return f"{int(time.time())}.{secrets.token_urlsafe(_RANDOM_BYTES)}"


class Cookies:
    """The service's cookies: their names, attributes and values.

    A cookie of an encrypted connection has a name that browsers accept from no other, RFC 6265bis
    4.1.3. Browsers send cookies to all ports of a host, so the cluster is part of the name.

    Args:
        settings: name the proxies.
        root_path: the path below which the service is reached; empty for none.
        cluster_id: of this service.
    """

    def __init__(self, settings: AuthSettings, root_path: str, cluster_id: str) -> None:
        self._proxies = settings.trusted_proxies
        self._path = root_path or "/"
        self._cluster = digest_of(cluster_id)[:8]

    def is_secure(self, connection: Connection, headers: Mapping[str, str]) -> bool:
        """Return whether the browser speaks https."""
        return is_encrypted(connection, headers, self._proxies)

    def read(self, purpose: str, connection: Connection, headers: Mapping[str, str]) -> str | None:
        """Return the value of a cookie of a request; None without one."""
        sent = headers.get("cookie")
        if sent is None:
            return None
        name = self._name(purpose, self.is_secure(connection, headers))
        pairs = (pair.strip().partition("=") for pair in sent.split(";"))
        return next((value for known, _, value in pairs if known == name), None)

    def header(
        self,
        purpose: str,
        value: str,
        seconds: int,
        connection: Connection,
        headers: Mapping[str, str],
        *,
        same_site: Literal["Strict", "Lax"] = "Strict",
    ) -> str:
        """Return the ``Set-Cookie`` of an answer.

        Args:
            purpose: of the cookie.
            value: its content; safe in a header.
            seconds: its life; 0 takes it away.
            connection: the way by which the request came.
            headers: of the request.
            same_site: whether it is sent when a page of another site leads here.
        """
        is_secure = self.is_secure(connection, headers)
        return (
            f"{self._name(purpose, is_secure)}={value}; Max-Age={seconds}; Path={self._path}; "
            f"HttpOnly; SameSite={same_site}{'; Secure' if is_secure else ''}"
        )

    def _name(self, purpose: str, is_secure: bool) -> str:
        guarded = "__Host-" if self._path == "/" else "__Secure-"
        return f"{guarded if is_secure else ''}hpcq-{purpose}-{self._cluster}"


class Sessions:
    """Begins, recognises and ends sessions; what the records say of one is remembered for 5 s.

    Args:
        store: knows the hashes of the cookies.
        settings: the methods of logins, and the longest life of a session.
        clock: the present, aware.

    Attributes:
        logins: how many logins of browsers there were, by method and outcome.
        open: how many sessions were open a few seconds ago; None if the records do not say.
    """

    def __init__(
        self, store: SessionStore, settings: AuthSettings, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._settings = settings
        self._now = clock
        self._sessions = Remembered(store.find)
        self.logins: Counter[tuple[Method, str]] = Counter()
        self.open: int | None = None

    async def keep_counting(self) -> None:
        """Count the open sessions again and again, until cancelled."""
        while True:
            try:
                self.open = await self._store.count_open(self._now())
            except StoreUnavailable:
                self.open = None
            await asyncio.sleep(_COUNTED_EVERY_SECONDS)

    async def begin(self, principal: Principal) -> tuple[str, datetime]:
        """Begin a session of somebody who logged in; return its cookie and its end."""
        begun = self._now()
        ends = begun + self._longest(principal.method)
        if principal.expires_at is not None:
            ends = min(ends, principal.expires_at)
        text = secrets.token_urlsafe(_RANDOM_BYTES)
        session = Session(
            user=principal.user,
            role=principal.role,
            scopes=principal.scopes,
            through=principal.method,
            token_id=principal.token_id,
            created_at=begun,
            expires_at=ends,
        )
        await self._store.add(session, digest_of(text))
        return text, ends

    def _longest(self, method: Method) -> timedelta:
        hours = self._settings.session_hours
        if method is Method.OIDC:
            hours = min(hours, self._settings.oidc_session_hours)
        return timedelta(hours=hours)

    async def verify(self, text: str) -> Session:
        """Return the session of a cookie.

        Raises:
            SessionEnded: there is none such, or it is over.
            StoreUnavailable: it cannot be looked up.
        """
        session = await self._sessions.find(digest_of(text))
        is_good = (
            session is not None
            and not session.is_revoked
            and session.expires_at > self._now()
            # It may have been begun when the settings allowed more.
            and session.created_at + self._longest(session.through) > self._now()
            and session.through in self._settings.auth
        )
        if session is None or not is_good:
            raise SessionEnded("Your session has ended. Log in again.")
        return session

    async def end(self, text: str) -> None:
        """End the session of a cookie, if there is one."""
        await self._store.delete(digest_of(text))
        self._sessions.forget(digest_of(text))
