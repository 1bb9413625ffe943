"""``/session``: who asks, and the session of a browser."""

from typing import Annotated, cast

from fastapi import APIRouter, Query, Request, Response

from hpcq.api.context import Context, ContextDependency, PrincipalDependency
from hpcq.api.guard import connection_of, headers_of
from hpcq.api.problems import responses
from hpcq.api.requests import NoQuery
from hpcq.api.schemas import SessionOut
from hpcq.auth.sessions import SESSION
from hpcq.domain.principals import Method, Principal, Scope
from hpcq.domain.units import now

__all__ = ["router"]

router = APIRouter(prefix="/session", tags=["session"])


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
    connection, headers = connection_of(request.scope), headers_of(request.scope)
    old = context.cookies.read(SESSION, connection, headers)
    if old is not None:
        await context.sessions.end(old)
    text, ends = await context.sessions.begin(principal)
    seconds = int((ends - now()).total_seconds())
    response.headers.append(
        "Set-Cookie", context.cookies.header(SESSION, text, seconds, connection, headers)
    )
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


def _take_cookie(context: Context, request: Request, response: Response) -> str | None:
    """Take the cookie away from the browser; return what it held, None if there was none."""
    connection, headers = connection_of(request.scope), headers_of(request.scope)
    text = context.cookies.read(SESSION, connection, headers)
    if text is not None:
        ended = context.cookies.header(SESSION, "", 0, connection, headers)
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
        scopes=sorted(scope for scope in Scope if principal.may(scope)),
        expires_at=None if ends is None else context.wire.time(ends),
        logins=context.logins,
        service=context.service,
    )
