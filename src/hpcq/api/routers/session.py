"""``/session``: who asks, and the session of a browser."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, cast

import structlog
from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import ConfigDict, Field

from hpcq.api.context import Context, ContextDependency, PrincipalDependency
from hpcq.api.guard import connection_of, headers_of
from hpcq.api.problems import problem_of, responses
from hpcq.api.requests import NoQuery, RequestModel
from hpcq.api.schemas import SessionOut
from hpcq.auth.connections import Connection
from hpcq.auth.sessions import LOGIN, LOGIN_SECONDS, SESSION, new_secret
from hpcq.domain.errors import NotAuthenticated, ProviderUnavailable
from hpcq.domain.principals import Method, Principal, Scope
from hpcq.domain.units import now

if TYPE_CHECKING:
    from hpcq.auth.oidc_login import OidcLogin

__all__ = ["router"]

router = APIRouter(prefix="/session", tags=["session"])
_log = structlog.get_logger("hpcq.session")


class LoginQuery(RequestModel):
    """A view of the page, for after the login."""

    view: str = Field(
        default="jobs",
        pattern=r"^[A-Za-z0-9_/-]*$",
        max_length=200,
        description="What stands behind `#/` in its address.",
    )


class CallbackQuery(RequestModel):
    """The answer of the provider; it may say more than is read here."""

    # The names are OAuth's.
    model_config = ConfigDict(alias_generator=None, extra="ignore")

    code: str | None = Field(default=None, max_length=4096)
    state: str | None = Field(default=None, max_length=200)
    iss: str | None = Field(default=None, max_length=2000)
    error: str | None = Field(default=None, max_length=200)
    error_description: str | None = Field(default=None, max_length=2000)


@router.get(
    "",
    operation_id="getSession",
    summary="Read who asks",
    responses=responses(429, 503),
)
async def get_session(
    context: ContextDependency,
    request: Request,
    response: Response,
    _query: Annotated[NoQuery, Query()],
) -> SessionOut:
    """Read as whom the service recognises this request, and what that one may do.

    It answers everybody, so that a page can show its login: nobody gets `user` null, and the ways
    to log in.
    """
    response.headers["Cache-Control"] = "no-store"
    principal = cast(Principal | None, getattr(request.state, "principal", None))
    if principal is None:
        _take_cookie(context, request, response)
    return _session(context, principal)


@router.post(
    "",
    status_code=201,
    operation_id="createSession",
    summary="Log a browser in",
    responses={
        200: {"description": "No cookie is needed", "model": SessionOut},
        **responses(401, 403, 429, 503),
    },
)
async def create_session(
    context: ContextDependency,
    principal: PrincipalDependency,
    request: Request,
    response: Response,
    _query: Annotated[NoQuery, Query()],
) -> SessionOut:
    """Make a cookie from the token of the `Authorization` header.

    The session has the rights of the token, and ends with it. Who needs no token, or asks with
    such a cookie, is answered 200 without another one.
    """
    response.headers["Cache-Control"] = "no-store"
    if principal.method not in (Method.TOKEN, Method.OIDC):
        response.status_code = 200
        return _session(context, principal)
    await _begin_session(context, principal, request, response)
    return _session(context, principal)


@router.delete(
    "",
    status_code=204,
    response_class=Response,
    operation_id="deleteSession",
    summary="Log a browser out",
    responses=responses(403, 429, 503),
)
async def delete_session(
    context: ContextDependency,
    request: Request,
    response: Response,
    _query: Annotated[NoQuery, Query()],
) -> None:
    """End the session of the cookie, on all replicas within 5 s. Without one nothing happens."""
    text = _take_cookie(context, request, response)
    if text is not None:
        await context.sessions.end(text)


@router.get(
    "/login",
    status_code=303,
    response_class=Response,
    operation_id="beginLogin",
    summary="Log in with the site's accounts",
    responses=responses(404, 429, 503),
)
async def begin_login(
    context: ContextDependency, request: Request, query: Annotated[LoginQuery, Query()]
) -> Response:
    """Lead a browser to the OpenID Connect provider, which leads it back to `/session/callback`."""
    secret = f"{new_secret()}.{query.view}"
    login = _oidc_login(context)
    try:
        url = await login.login_url(_callback_url(context, request), secret)
    except ProviderUnavailable:
        if not _is_page(request):
            raise
        return _to_page(context, request, f"{query.view}?problem=provider")
    return _redirect(context, request, url, secret, LOGIN_SECONDS)


@router.get(
    "/callback",
    status_code=303,
    response_class=Response,
    operation_id="finishLogin",
    summary="End a login with the site's accounts",
    responses=responses(401, 404, 429, 503),
)
async def finish_login(
    context: ContextDependency, request: Request, query: Annotated[CallbackQuery, Query()]
) -> Response:
    """Take a browser back from the provider: make a cookie, and lead it to the page."""
    login = _oidc_login(context)
    cookie = context.cookies.read(LOGIN, *_connection_and_headers(request))
    try:
        secret = login.check_answer(cookie, query.state, query.iss)
        if query.code is None:
            raise NotAuthenticated(
                "The OpenID Connect provider did not log you in: "
                f"{query.error_description or query.error or 'it does not say why'}."
            )
        user = await login.redeem(query.code, _callback_url(context, request), secret)
    except (NotAuthenticated, ProviderUnavailable) as error:
        answer = problem_of(error)
        request.state.login_status = answer.status_code
        _log.warning("session.login_failed", problem=error.detail)
        if _is_page(request):
            problem = "provider" if isinstance(error, ProviderUnavailable) else "login"
            return _to_page(context, request, f"jobs?problem={problem}")
        return answer
    principal = request.state.principal = context.authenticator.of_provider(user)
    response = _to_page(context, request, secret.rpartition(".")[2])
    await _begin_session(context, principal, request, response)
    return response


def _oidc_login(context: Context) -> "OidcLogin":
    if context.oidc_login is None:
        raise HTTPException(404)
    return context.oidc_login


def _connection_and_headers(request: Request) -> tuple[Connection, Mapping[str, str]]:
    return connection_of(request.scope), headers_of(request.scope)


def _callback_url(context: Context, request: Request) -> str:
    """Return the address to which the provider leads back: this one, as the browser knows it."""
    connection, headers = _connection_and_headers(request)
    scheme = "https" if context.cookies.is_secure(connection, headers) else "http"
    root = request.scope.get("root_path", "")
    if not headers.get("host"):
        raise HTTPException(400, "A login needs the name of this service in the header Host.")
    return f"{scheme}://{headers['host']}{root}/session/callback"


def _is_page(request: Request) -> bool:
    """Return whether a browser asks for something to show."""
    return "text/html" in request.headers.get("accept", "")


def _to_page(context: Context, request: Request, view: str) -> Response:
    """Return an answer that leads to a view of the page, and takes the secret of a login away."""
    return _redirect(context, request, f"{request.scope.get('root_path', '')}/#/{view}")


def _redirect(
    context: Context, request: Request, url: str, secret: str = "", seconds: int = 0
) -> Response:
    """Return an answer that leads elsewhere, and sets the secret of a login or takes it away."""
    # Strict would keep the cookie from coming back: it is the provider's page that leads here.
    cookie = context.cookies.header(
        LOGIN, secret, seconds, *_connection_and_headers(request), same_site="Lax"
    )
    headers = {"Location": url, "Set-Cookie": cookie, "Cache-Control": "no-store"}
    return Response(status_code=303, headers=headers)


async def _begin_session(
    context: Context, principal: Principal, request: Request, response: Response
) -> None:
    """Begin a session, in the place of the one that the browser has."""
    asked = _connection_and_headers(request)
    old = context.cookies.read(SESSION, *asked)
    if old is not None:
        await context.sessions.end(old)
    text, ends = await context.sessions.begin(principal)
    seconds = int((ends - now()).total_seconds())
    response.headers.append("Set-Cookie", context.cookies.header(SESSION, text, seconds, *asked))


def _take_cookie(context: Context, request: Request, response: Response) -> str | None:
    """Take the cookie away from the browser; return what it held, None if there was none."""
    text = context.cookies.read(SESSION, *_connection_and_headers(request))
    if text is not None:
        ended = context.cookies.header(SESSION, "", 0, *_connection_and_headers(request))
        response.headers.append("Set-Cookie", ended)
    return text


def _session(context: Context, principal: Principal | None) -> SessionOut:
    if principal is None:
        return SessionOut(logins=context.logins)
    ends = principal.expires_at
    return SessionOut(
        user=principal.user or None,
        role=principal.role,
        method=principal.method,
        login=principal.login,
        scopes=sorted(scope for scope in Scope if principal.may(scope)),
        expires_at=None if ends is None else context.wire.time(ends),
        logins=context.logins,
        service=context.service,
    )
