"""Every error as RFC 9457 ``application/problem+json``; HTTP codes are chosen here alone."""

import http
import json
from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from hpcq.api.requests import MANDATORY, MOST_TOLD, below_root
from hpcq.domain import errors

__all__ = [
    "MEDIA_TYPE",
    "PROBLEMS",
    "TITLES",
    "Problem",
    "add_handlers",
    "plain_problem",
    "problem_of",
    "problem_response",
    "responses",
    "wrong_shape",
]

_log = structlog.get_logger("hpcq.api")

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_SECONDS = 5
_LONGEST_NAME = 200
_LONGEST_DETAIL = 10_000

# From the particular to the general: the first class that fits is the one.
PROBLEMS: tuple[tuple[type[errors.HpcqError], int, str, str], ...] = (
    (errors.InvalidSpec, 400, "invalid_content", "The request's content cannot be a job"),
    (errors.InvalidWebhook, 400, "invalid_webhook", "The request's content cannot be a webhook"),
    (errors.NotAuthenticated, 401, "not_authenticated", "It is not known who asks"),
    (errors.ProviderUnavailable, 503, "provider_unavailable", "The identity provider is away"),
    (errors.NotAuthorized, 403, "not_authorized", "Not allowed"),
    (errors.JobNotFound, 404, "job_not_found", "No such job"),
    (errors.WebhookNotFound, 404, "webhook_not_found", "No such webhook"),
    (errors.EventsGone, 410, "events_gone", "These events are kept no longer"),
    (errors.QueueNotFound, 404, "queue_not_found", "No such queue"),
    (errors.NoSuchFile, 404, "no_such_file", "The job has no such file"),
    (errors.SubmissionInProgress, 409, "in_progress", "The same submission is under way"),
    (
        errors.IdempotencyKeyReused,
        422,
        "idempotency_key_reused",
        "The idempotency key names another submission",
    ),
    (errors.WrongState, 409, "wrong_state", "The job's state does not allow this"),
    (errors.PartlyChanged, 502, "partly_changed", "Some of the changes were made"),
    (errors.QuotaExceeded, 429, "quota_exceeded", "A limit of the site was reached"),
    (errors.TooManyRequests, 429, "too_many_requests", "Too many requests in a second"),
    (errors.UnsupportedCapability, 501, "unsupported", "The scheduler cannot do this"),
    (errors.SubmissionUnclear, 504, "submission_unclear", "The job may or may not exist"),
    (errors.CommandTimedOut, 504, "scheduler_timeout", "The scheduler did not answer in time"),
    (errors.SchedulerUnavailable, 503, "scheduler_unavailable", "The scheduler is away"),
    (errors.OutputParseError, 502, "scheduler_unreadable", "The scheduler's answer is unreadable"),
    (errors.SchedulerError, 502, "scheduler_refused", "The scheduler refused"),
    (errors.Overloaded, 503, "overloaded", "The service is at its limit"),
    (
        errors.AccountUnavailable,
        503,
        "account_unavailable",
        "The service cannot act in the name of the account",
    ),
    (errors.PathUnavailable, 503, "path_unavailable", "A file system does not answer"),
    (errors.StoreUnavailable, 503, "store_unavailable", "The records cannot be used"),
)
TITLES = {
    400: ("invalid_content", "The request's content is invalid"),
    404: ("not_found", "No such route"),
    405: ("method_not_allowed", "The route does not know this method"),
    408: ("request_timeout", "The request did not arrive in time"),
    416: ("range_not_satisfiable", "The range lies outside the file"),
    421: ("wrong_host", "The service does not have this name"),
    413: ("body_too_large", "The request body is too large"),
    414: ("url_too_long", "The URL is too long"),
    422: ("wrong_shape", "The request has the wrong shape"),
    431: ("headers_too_large", "The request's headers are too large"),
    500: ("internal_error", "This service has a defect"),
    503: ("not_ready", "The service is not ready"),
}


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    model_config = ConfigDict(populate_by_name=True)

    type: str = Field(examples=["urn:hpcq:problem:job_not_found"])
    title: str = Field(examples=["No such job"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no job '155' in this cluster."])
    code: str = Field(examples=["job_not_found"], description="Stable; see the error reference.")
    field: str | None = Field(default=None, examples=["workingDirectory"])
    retry_after: int | None = Field(default=None, alias="retryAfter", description="Seconds.")
    scheduler_message: str | None = Field(default=None, alias="schedulerMessage")
    circuits: dict[str, dict[str, Any]] | None = Field(
        default=None, description="Of `/health/ready`: as in its answer when all is well."
    )


def problem_response(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    **more: object,
) -> Response:
    """Return an error; members of ``more`` that are None are left out."""
    body: dict[str, object] = {
        "type": f"urn:hpcq:problem:{code}",
        "title": title,
        "status": status,
        "detail": _shortened(detail, _LONGEST_DETAIL),
        "code": code,
    }
    body.update({name: value for name, value in more.items() if value is not None})
    return Response(
        json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def plain_problem(
    status: int, detail: str, *, headers: dict[str, str] | None = None, **more: object
) -> Response:
    """Return an error that has no exception of its own; ``more`` as in `problem_response`."""
    fallback = ("http_error", http.HTTPStatus(status).phrase)
    code, title = TITLES.get(status, fallback)
    return problem_response(status, code, title, detail, headers=headers, **more)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route's documentation says about these error codes."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": _meaning(status), "model": Problem, "content": content}
        for status in sorted({*statuses, 422})
    }


def _meaning(status: int) -> str:
    if status == 422:
        # Every route has it, the one that knows idempotency keys another one besides.
        return TITLES[422][1]
    titles = [title for _, number, _, title in PROBLEMS if number == status]
    return titles[0] if titles else TITLES[status][1]


def add_handlers(app: FastAPI, routes: Sequence[APIRoute]) -> None:
    """Turn every exception that reaches the edge into a problem.

    Args:
        app: the application.
        routes: all that are documented, to tell which methods a path takes.
    """
    app.state.documented_routes = routes
    app.add_exception_handler(errors.HpcqError, _on_ours)
    app.add_exception_handler(RequestValidationError, wrong_shape)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_defect)


async def _on_ours(_request: Request, error: Exception) -> Response:
    return problem_of(error)


def problem_of(error: Exception) -> Response:
    """Return one of our own errors as a problem."""
    status, code, title = next(
        ((s, c, t) for kind, s, c, t in PROBLEMS if isinstance(error, kind)),
        (500, *TITLES[500]),
    )
    transient = bool(getattr(error, "transient", False)) and status in (409, 429, 503)
    wait = getattr(error, "retry_after_seconds", None) or _RETRY_AFTER_SECONDS
    headers = {"Retry-After": str(wait)} if transient else {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="hpc-queue-api"'
    return problem_response(
        status,
        code,
        title,
        str(getattr(error, "detail", error)),
        headers=headers,
        field=getattr(error, "field", None),
        retryAfter=wait if transient else None,
        schedulerMessage=getattr(error, "scheduler_message", None),
    )


async def wrong_shape(_request: Request, error: Exception) -> Response:
    """Return what FastAPI finds wrong with a request as a problem."""
    found: Sequence[Any] = error.errors() if isinstance(error, RequestValidationError) else ()
    first = found[0] if found else {"loc": (), "type": "unreadable"}
    where = _where(first)
    problems = "; ".join(_in_words(one) for one in found[:MOST_TOLD]) or "it cannot be read"
    if len(found) > MOST_TOLD:
        problems += "; and others"
    if found and all(one["type"] == MANDATORY for one in found):
        _, status, code, title = PROBLEMS[0]
    else:
        status, (code, title) = 422, TITLES[422]
    return problem_response(status, code, title, f"{problems}.", field=where or None)


def _where(one: Any) -> str:
    if one["type"] == "json_invalid":
        return ""
    where = ".".join(str(part) for part in one["loc"] if part not in ("body", "query", "path"))
    return _shortened(where, _LONGEST_NAME)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def _in_words(one: Any) -> str:
    if one["type"] == "json_invalid":
        return f"The body is not valid JSON: {one.get('ctx', {}).get('error', one['msg'])}"
    where = _where(one)
    message = {
        "extra_forbidden": "this field is not known; check its spelling",
        "missing": "this field is mandatory",
        "model_attributes_type": "The body has to be a JSON object, sent with "
        "`Content-Type: application/json`",
    }.get(one["type"], str(one["msg"]).removeprefix("Value error, "))
    return f"{where}: {message}" if where else message


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    detail = {
        404: "There is nothing here. /docs lists the routes.",
        405: "This route does not know the method. /docs lists the routes.",
    }.get(error.status_code, str(error.detail))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = _methods(request)
    return plain_problem(error.status_code, detail, headers=headers)


def _methods(request: Request) -> str:
    """Return all methods that a path takes; each of its routes knows its own alone."""
    path = below_root(request.scope)
    routes: Sequence[APIRoute] = request.app.state.documented_routes
    found = [route for route in routes if route.path_regex.match(path)]
    # `/jobs/summary` is no job, whose routes come behind it. The documentation is not documented.
    same = [route.methods or set() for route in found if route.path == found[0].path]
    methods = set().union(*same) or {"GET"}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


async def _on_defect(_request: Request, error: Exception) -> Response:
    _log.error("request.defect", exc_info=error)
    return plain_problem(
        500, "This service has a defect; its log, under this answer's X-Request-ID, says which."
    )
