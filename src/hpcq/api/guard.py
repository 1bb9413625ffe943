"""The guard before everything: who asks, under which name, from which site, and may they?"""

import contextlib
import http
import time
from collections.abc import Mapping
from typing import cast

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpcq.api.access import (
    FILE,
    FOR_NOBODY_TOO,
    LOGINS,
    UNCOUNTED,
    AccessRules,
    Names,
    Target,
    is_foreign_site,
    tells_its_site,
)
from hpcq.api.context import Context
from hpcq.api.problems import plain_problem, problem_of
from hpcq.api.rate_limit import RateLimit
from hpcq.api.requests import below_root
from hpcq.auth.authenticator import PEER
from hpcq.auth.connections import Connection, client_address
from hpcq.auth.sessions import SESSION
from hpcq.auth.settings import AuthSettings
from hpcq.domain.errors import (
    HpcqError,
    NotAuthenticated,
    NotAuthorized,
    SessionEnded,
    TooManyRequests,
)
from hpcq.domain.jobs import JobUid, NativeId
from hpcq.domain.principals import Method, Principal, Role
from hpcq.domain.units import format_time, now
from hpcq.services.listing.job_table import JobTable

__all__ = ["Guard", "connection_of", "headers_of", "principal_now"]

_ENCODED_SLASH = b"%2f"
_HARMLESS = ("GET", "HEAD", "OPTIONS")
_REFUSALS = (401, 403, 421)
# A login without a need (200) is none.
_LOGIN_OUTCOMES: Mapping[object, str] = {
    201: "success",
    303: "success",
    401: "refused",
    429: "limited",
    503: "unavailable",
}
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


class Guard:
    """ASGI middleware: lets a request pass if somebody who may asks.

    It denies by default. It sees the path as the routes see it: decoded and with single slashes.
    The principal of a request is in its ``state``.

    Args:
        app: what it guards.
        settings: who is trusted.
        rules: of the routes.
        names: of the service.
        rate_limit: of each user but operators.
        failed_logins: the limit of each address.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: AuthSettings,
        rules: AccessRules,
        names: Names,
        rate_limit: RateLimit,
        failed_logins: RateLimit,
    ) -> None:
        self._app = app
        self._settings = settings
        self._rules = rules
        self._names = names
        self._rate_limit = rate_limit
        self._failed_logins = failed_logins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"no rule of access for {scope['type']}")
        context = cast(Context, scope["app"].state.context)
        headers, connection = headers_of(scope), connection_of(scope)
        target = self._rules.target(scope["method"], below_root(scope))
        state = scope.setdefault("state", {})
        state["operation"] = target.operation
        answered: dict[str, object] = {}
        stale: list[tuple[bytes, bytes]] = []

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = dict(message["headers"])
                more = [*_HEADERS, *(() if _POLICY[0] in answer else (_POLICY,)), *stale]
                message = {**message, "headers": [*message["headers"], *more]}
                answered.update(status=message["status"], location=answer.get(b"location"))
            await send(message)

        try:
            if not target.is_open:
                self._check_request(scope, headers)
                principal = await self._principal(context, connection, headers, target)
                if principal is not None:
                    state["principal"] = principal
                    self._check_principal(principal, scope["method"], headers, target)
            if _ENCODED_SLASH in scope.get("raw_path", b"").lower():
                # The routes would take it for a slash, and what stands before may not.
                raise HTTPException(
                    404, "The path holds an encoded slash (%2F); no path here has one."
                )
            if scope["path"].endswith("\n") and target.operation != FILE:
                # The routes would take it for the path without it; a proxy's rules would not.
                raise HTTPException(
                    404, "The path ends with a line break (%0A); only the name of a file may."
                )
        except HpcqError as error:
            if isinstance(error, SessionEnded):
                # The browser's next request is its connection's again.
                ended = context.cookies.header(SESSION, "", 0, connection, headers)
                stale.append((b"set-cookie", ended.encode()))
            await problem_of(error)(scope, receive, send_and_note)
        except HTTPException as error:
            await plain_problem(error.status_code, error.detail)(scope, receive, send_and_note)
        else:
            user = state["principal"].user if "principal" in state else None
            with structlog.contextvars.bound_contextvars(**({"user": user} if user else {})):
                await self._app(scope, receive, send_and_note)
        finally:
            # The answer to a login of a browser leads to the page, also if it failed.
            status = answered["status"] = state.get("login_status", answered.get("status"))
            login = LOGINS.get(target.operation or "")
            if login is not None and status in _LOGIN_OUTCOMES:
                context.sessions.logins[login, _LOGIN_OUTCOMES[status]] += 1
            if login is not None and status == http.HTTPStatus.UNAUTHORIZED:
                with contextlib.suppress(TooManyRequests):
                    from_where = self._address(connection, headers) or ""
                    self._failed_logins.count(from_where, time.monotonic())
            if login is not None or scope["method"] not in _HARMLESS or status in _REFUSALS:
                address = self._address(connection, headers)
                context.audit.write(_audit_entry(scope, address, target, answered, context.table))

    async def _principal(
        self,
        context: Context,
        connection: Connection,
        headers: Mapping[str, str],
        target: Target,
    ) -> Principal | None:
        """Return who asks; None for nobody, where that is allowed."""
        if target.operation in LOGINS:
            self._failed_logins.check(self._address(connection, headers) or "", time.monotonic())
        try:
            return await context.authenticator.identify(connection, headers)
        except NotAuthenticated:
            if target.operation in FOR_NOBODY_TOO:
                return None
            raise

    def _address(self, connection: Connection, headers: Mapping[str, str]) -> str | None:
        return client_address(connection, headers, self._settings.trusted_proxies)

    def _check_principal(
        self, principal: Principal, method: str, headers: Mapping[str, str], target: Target
    ) -> None:
        if principal.role is not Role.OPERATOR and target.operation not in UNCOUNTED:
            self._rate_limit.count(principal.user, time.monotonic())
        is_change = method not in _HARMLESS
        if is_change and principal.method is Method.SESSION and not tells_its_site(headers):
            raise NotAuthorized(
                "A change with the cookie of a session has to come from a browser, which sends "
                "`Origin`. Programs send the header `Authorization: Bearer TOKEN`."
            )
        _check_scope(principal, target)

    def _check_request(self, scope: Scope, headers: Mapping[str, str]) -> None:
        server = scope.get("server")
        host = headers.get("host", "")
        if not self._names.include(host, server[0] if server else None):
            raise HTTPException(
                421,
                f"This service is not {host!r}. If clients are to reach it under this name, add it "
                "to ALLOWED_HOSTS.",
            )
        is_change = scope["method"] not in _HARMLESS
        if is_change and is_foreign_site(headers, self._settings.allowed_origins):
            raise NotAuthorized(
                "A page of another web site made this request. If it is to use this service, add "
                "its origin to ALLOWED_ORIGINS."
            )


async def principal_now(scope: Scope, context: Context) -> Principal:
    """Return who asks, once more: of a request whose answer takes long.

    Raises:
        NotAuthenticated: nobody that this service knows any more.
    """
    principal = await context.authenticator.identify(connection_of(scope), headers_of(scope))
    _check_scope(principal, Target(scope["state"]["operation"]))
    return principal


def _audit_entry(
    scope: Scope,
    address: str | None,
    target: Target,
    answered: Mapping[str, object],
    table: JobTable,
) -> Mapping[str, object]:
    principal: Principal | None = scope["state"].get("principal")
    job_id = target.job_id
    if target.operation in ("submitJob", "firecrestSubmitJob"):
        location = cast(bytes, answered.get("location") or b"").decode("latin-1")
        job_id = location.rpartition("/")[2] or None
    return {
        "time": format_time(now()),
        "request": scope["state"].get("request_id"),
        "user": principal and principal.user,
        "role": principal and principal.role.value,
        "through": principal and principal.method.value,
        "client": address,
        "action": target.operation or f"{scope['method']} {scope['path'][:200]}",
        "job": job_id,
        "account": _account(job_id, table),
        # An answer that never began is a defect's.
        "status": answered["status"] or http.HTTPStatus.INTERNAL_SERVER_ERROR,
    }


def _account(job_id: str | None, table: JobTable) -> str | None:
    """Return the account in whose name a job was submitted, if it was not the service's own."""
    for kind in (JobUid, NativeId):
        with contextlib.suppress(ValueError):
            entry = table.entry(kind(job_id or ""))
            return None if entry is None else entry.record.run_as
    return None


def _check_scope(principal: Principal, target: Target) -> None:
    scope = target.scope
    if scope is not None and not principal.may(scope):
        raise NotAuthorized(
            f"This needs the scope {scope.value}, which "
            + (
                f"the role {principal.role.value} does not have."
                if principal.scopes is None
                else "the token was not given."
            )
        )


def headers_of(scope: Scope) -> Mapping[str, str]:
    """Return the headers by their names in lower case; of equal ones all, separated by commas."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def connection_of(scope: Scope) -> Connection:
    """Return the way by which a request came."""
    client, server = scope.get("client"), scope.get("server")
    return Connection(
        client=None if client is None else (client[0], client[1]),
        server=None if server is None or server[1] is None else (server[0], server[1]),
        peer=scope.get("extensions", {}).get(PEER, {}).get("user_id"),
        scheme=scope["scheme"],
    )
