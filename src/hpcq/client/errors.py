"""The errors of the client: one class for each kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
from httpx_sse import SSEError

__all__ = [
    "KINDS",
    "ClientError",
    "Conflict",
    "Gone",
    "InvalidRequest",
    "NotAllowed",
    "NotAuthenticated",
    "NotFound",
    "Problem",
    "ProfileError",
    "SchedulerRefused",
    "SchedulerTimeout",
    "ServiceDefect",
    "TooMany",
    "Unavailable",
    "Unreachable",
    "Unreadable",
    "Unsupported",
    "errors_told",
    "problem_of",
]


class ClientError(Exception):
    """Any error of the client. Its text is a sentence that a person can act on.

    Attributes:
        is_temporary: whether the same request may succeed in a moment.
    """

    is_temporary = False


class ProfileError(ClientError):
    """The service's address or token cannot be read from the profile file or the environment."""


class Unreachable(ClientError):
    """No answer came: nothing listens there, or the connection broke and did so again."""

    is_temporary = True


class Unreadable(ClientError):
    """The answer is not one of this service: something else listens at the address."""


class Problem(ClientError):
    """The service's answer is an error (RFC 9457).

    Attributes:
        status: the HTTP status.
        code: names the cause and never changes; ``docs/errors.md`` lists all.
        type: the code as a URN.
        title: the words of the code.
        detail: a sentence about this one case.
        field: the field or parameter of the request that is wrong, if one is.
        retry_after: the seconds after which the same request may succeed; None if it cannot.
        scheduler_message: the words of the scheduler's command, where it said something.
    """

    def __init__(self, status: int, fields: dict[str, Any]) -> None:
        self.status = status
        self.code: str = fields.get("code", "http_error")
        self.type: str = fields.get("type", "about:blank")
        self.title: str = fields.get("title", "")
        self.detail: str = fields.get("detail", "") or self.title
        self.field: str | None = fields.get("field")
        self.retry_after: float | None = fields.get("retryAfter")
        self.is_temporary = self.retry_after is not None
        self.scheduler_message: str | None = fields.get("schedulerMessage")
        super().__init__(self.detail)


class InvalidRequest(Problem):
    """The request's content or shape is wrong (400, 413, 422 and others); `field` says where."""


class NotAuthenticated(Problem):
    """The service does not know who asks (401)."""


class NotAllowed(Problem):
    """The role, the token's scopes or the scheduler do not allow this (403)."""


class NotFound(Problem):
    """There is no such job, queue or file (404)."""


class Conflict(Problem):
    """The job's state does not allow this (409)."""


class Gone(Problem):
    """The events are kept no longer (410)."""


class TooMany(Problem):
    """A limit of the site was reached, or requests came too quickly (429)."""


class Unsupported(Problem):
    """The scheduler cannot do this (501); `field` says which part."""


class SchedulerRefused(Problem):
    """The scheduler refused, or its answer is unreadable (502)."""


class Unavailable(Problem):
    """The scheduler or a part of the service is away (503)."""


class SchedulerTimeout(Problem):
    """The scheduler did not answer in time (504)."""


class ServiceDefect(Problem):
    """The service has a defect (500)."""


KINDS: dict[int, type[Problem]] = {
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: TooMany,
    500: ServiceDefect,
    501: Unsupported,
    502: SchedulerRefused,
    503: Unavailable,
    504: SchedulerTimeout,
}
_decoder = msgspec.json.Decoder(dict[str, Any])


def problem_of(answer: httpx.Response) -> ClientError:
    """Return the error that an answer tells of; its body has been read."""
    if answer.headers.get("content-type") == "application/problem+json":
        kind = KINDS.get(answer.status_code, InvalidRequest)
        return kind(answer.status_code, _decoder.decode(answer.content))
    return Unreadable(
        f"{answer.url} answered {answer.status_code} {answer.reason_phrase}, and not as this "
        "service does. Check the address, and what stands in front of the service."
    )


@contextmanager
def errors_told(url: str) -> Iterator[None]:
    """Turn the errors of connections to the service at a URL into the client's own."""
    try:
        yield
    except SSEError as error:
        raise Unreadable(f"{url} sent no stream of events: {error}.") from None
    except (httpx.RequestError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(f"The service at {url} cannot be reached: {reason}.") from error
