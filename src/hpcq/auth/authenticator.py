"""The principal behind a request."""

import asyncio
import concurrent.futures
import os
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from hpcq.auth.connections import Connection, client_address, is_in
from hpcq.auth.peer import groups_of, loopback_peer
from hpcq.auth.sessions import SESSION, Cookies, Sessions
from hpcq.auth.settings import AuthSettings
from hpcq.auth.tokens import PREFIX, TokenVerifier
from hpcq.domain.errors import NotAuthenticated, ProviderUnavailable
from hpcq.domain.principals import UNASKED, Method, Principal, Role, Scope
from hpcq.execution.accounts import Accounts, account_name

if TYPE_CHECKING:
    from hpcq.auth.oidc import OidcUser, OidcVerifier

__all__ = ["PEER", "Authenticator"]

PEER = "hpcq.peer"
"""The ASGI extension in which the server names the account at the other end (``user_id``)."""

_ACCOUNTS_KEPT_SECONDS = 60.0
_ACCOUNTS_KEPT = 10_000
_DIRECTORY_SECONDS = 10.0
# A directory that hangs keeps one thread for each account that asks.
_MOST_LOOKS = 64
_FORWARDED = ("forwarded", "via", "x-real-ip")


class Authenticator:
    """Recognises who asks.

    A request that shows a token is whose token it is, and nobody's if the token is not good. One
    that shows the cookie of a session is the session's, and nobody's if that has ended. For one
    without either its connection speaks.

    Args:
        settings: the methods, and who is trusted.
        tokens: recognises tokens of this service.
        oidc: recognises those of an OpenID Connect provider; None without one.
        sessions: recognises browsers that logged in.
        cookies: hold the names of the sessions' cookies.
        accounts: know the account of each user; None where jobs are the service's own, and a user
            is the account of the same name.
    """

    def __init__(
        self,
        settings: AuthSettings,
        tokens: TokenVerifier,
        oidc: "OidcVerifier | None",
        sessions: Sessions,
        cookies: Cookies,
        accounts: Accounts | None = None,
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._oidc = oidc
        self._sessions = sessions
        self._cookies = cookies
        self._accounts_of_users = accounts
        self._own = os.geteuid()
        self._accounts: dict[int, tuple[Principal | None, float]] = {}
        self._looks: dict[int, concurrent.futures.Future[Principal | None]] = {}

    async def identify(self, connection: Connection, headers: Mapping[str, str]) -> Principal:
        """Return who asks.

        Args:
            connection: the way by which the request came.
            headers: of the request, names in lower case.

        Raises:
            NotAuthenticated: nobody that this service knows.
            SessionEnded: its cookie is of a session that is over.
            StoreUnavailable: the tokens or sessions cannot be looked up.
            ProviderUnavailable: what knows the tokens or the accounts does not answer.
        """
        methods = self._settings.auth
        if Method.NONE in methods:
            return UNASKED
        authorization = headers.get("authorization")
        if authorization is not None:
            return await self._by_token(authorization)
        cookie = self._cookies.read(SESSION, connection, headers)
        if cookie is not None:
            session = await self._sessions.verify(cookie)
            return self._principal(
                session.user,
                session.role,
                Method.SESSION,
                session.scopes,
                login=session.through,
                expires_at=session.expires_at,
                token_id=session.token_id,
            )
        is_forwarded = any(
            name in _FORWARDED or name.startswith("x-forwarded-") for name in headers
        )
        proxies = self._settings.trusted_proxies
        address = client_address(connection, headers, proxies)
        for trusted in self._settings.trusted_clients:
            if address is not None and is_in(address, [trusted.network]):
                return self._principal(trusted.user, trusted.role, Method.CLIENT)
        hint = ""
        if Method.PEER in methods and not is_forwarded:
            client, server, user_id = connection.client, connection.server, connection.peer
            if client is not None and is_in(client[0], proxies):
                user_id = None
            elif user_id is None and client is not None and server is not None:
                user_id = loopback_peer(client, server)
            if user_id is not None:
                found = await self._account(user_id)
                if found is not None:
                    return found
                hint = f" The account with the user id {user_id} is not in PEER_ACCOUNTS."
        raise NotAuthenticated(
            "This service does not know who asks: send the header `Authorization: Bearer TOKEN`. "
            "`hpcq token create --user NAME --role user`, on the machine of the service, makes a "
            f"token.{hint}"
        )

    async def _by_token(self, authorization: str) -> Principal:
        kind, _, text = authorization.partition(" ")
        text = text.strip()
        if kind.lower() != "bearer" or not text:
            raise NotAuthenticated(
                "The Authorization header has to read `Bearer TOKEN`; no other kind is known here."
            )
        methods = self._settings.auth
        if text.startswith(PREFIX) and Method.TOKEN in methods:
            token = await self._tokens.verify(text)
            return self._principal(
                token.user,
                token.role,
                Method.TOKEN,
                token.scopes,
                expires_at=token.expires_at,
                token_id=token.token_id,
            )
        if self._oidc is not None and not text.startswith(PREFIX):
            found = await self._oidc.verify(text)
            return self.of_provider(found, found.expires_at)
        raise NotAuthenticated("This service takes no tokens of this kind; see its setting AUTH.")

    async def _account(self, user_id: int) -> Principal | None:
        """Return what an account of this machine may do; None when it may do nothing."""
        known, good_until = self._accounts.get(user_id, (None, 0.0))
        if time.monotonic() > good_until:
            known = await self._looked_up(user_id)
            if len(self._accounts) >= _ACCOUNTS_KEPT:
                self._accounts.clear()
            self._accounts[user_id] = known, time.monotonic() + _ACCOUNTS_KEPT_SECONDS
        return known

    async def _looked_up(self, user_id: int) -> Principal | None:
        """Look an account up in a thread of its own: those of the loop are for everybody."""
        look = self._looks.get(user_id)
        if look is None and len(self._looks) < _MOST_LOOKS:
            look = self._looks[user_id] = concurrent.futures.Future()
            # Whoever no longer waits for it does not end it.
            look.set_running_or_notify_cancel()

            def work(look: "concurrent.futures.Future[Principal | None]" = look) -> None:
                try:
                    look.set_result(self._look_up(user_id))
                except BaseException as error:
                    look.set_exception(error)
                finally:
                    del self._looks[user_id]

            threading.Thread(target=work, name="hpcq-accounts", daemon=True).start()
        try:
            if look is not None:
                async with asyncio.timeout(_DIRECTORY_SECONDS):
                    return await asyncio.wrap_future(look)
        except TimeoutError:
            pass
        raise ProviderUnavailable(
            f"The machine's directory of accounts does not say who the user id {user_id} is."
        )

    def _look_up(self, user_id: int) -> Principal | None:
        name = account_name(user_id)
        if user_id in (0, self._own):
            return self._principal(name or str(user_id), Role.OPERATOR, Method.PEER)
        if name is None:
            return None
        groups = {f"@{group}" for group in groups_of(name)}
        for who, role in self._settings.peer_accounts:
            if who == "*" or who == name or who in groups:
                return self._principal(name, role, Method.PEER)
        return None

    def of_provider(self, found: "OidcUser", expires_at: datetime | None = None) -> Principal:
        """Return a user of the provider as a principal.

        Args:
            found: the user.
            expires_at: the end of the token that was shown; None after a login.
        """
        return self._principal(found.user, found.role, Method.OIDC, expires_at=expires_at)

    def _principal(
        self,
        user: str,
        role: Role,
        method: Method,
        scopes: frozenset[Scope] | None = None,
        *,
        login: Method | None = None,
        expires_at: datetime | None = None,
        token_id: str | None = None,
    ) -> Principal:
        sees_all = role is Role.OPERATOR or self._settings.job_visibility == "all"
        accounts = self._accounts_of_users
        return Principal(
            user=user,
            role=role,
            method=method,
            sees_all=sees_all,
            account=user if accounts is None else accounts.name_of(user),
            scopes=scopes,
            login=login,
            expires_at=expires_at,
            token_id=token_id,
        )
