"""Readers of requests: what is unknown, given twice, absent, or a number written as text."""

import asyncio
import contextlib
import functools
import re
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Annotated, Any

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from hpcq.domain.errors import Overloaded

__all__ = [
    "MANDATORY",
    "MOST_TOLD",
    "Argument",
    "BodyPace",
    "BodyRoute",
    "NoQuery",
    "Number",
    "RequestModel",
    "WholeNumber",
    "below_root",
    "is_unknown_ignored",
    "refuse_repeated",
    "require",
    "unknown_ignored",
]

MANDATORY = "mandatory"
"""The type of the error about a mandatory field without content."""
MOST_TOLD = 20
"""The most problems of one request that an answer tells."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SHORT_BYTES = 8 * 1024
_BYTES_PER_SECOND = 8 * 2**20
_LONGEST_WAIT_SECONDS = 10.0
# No part of a request is nested deeper than three levels.
_DEEPEST = 16
_WHOLE = re.compile(r"-?[0-9]{1,18}(?:\.0+)?")
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_ignores_unknown = ContextVar("ignores_unknown", default=False)


class RequestModel(BaseModel):
    """A part of a request. An unknown name in it is refused, unless they are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_alone(cls, content: object) -> object:
        if not isinstance(content, dict):
            return content
        known = cls.names()
        if is_unknown_ignored():
            return {name: value for name, value in content.items() if name in known}
        untold = set([name for name in content if name not in known][MOST_TOLD + 1 :])
        return {name: value for name, value in content.items() if name not in untold}

    @classmethod
    @functools.cache
    def names(cls) -> frozenset[str]:
        """Return the names that are known, as clients write them."""
        found: set[str] = set()
        for name, info in cls.model_fields.items():
            known = info.validation_alias
            choices = known.choices if isinstance(known, AliasChoices) else [info.alias or name]
            found |= {choice for choice in choices if isinstance(choice, str)}
        return frozenset(found)


class NoQuery(RequestModel):
    """A route that takes no query parameters and says so."""


class BodyRoute(APIRoute):
    """A route with a body whose size is checked before its shape.

    Checking the shape of a value costs far more than reading it: a body of 1 MB can hold half a
    million values, which would hold up all other requests for seconds.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_checked(request: Request) -> Response:
            checked = _CheckedRequest(request.scope, request.receive)
            try:
                size_bytes = len(await checked.body())
            except ClientDisconnect:
                raise HTTPException(400, "The body of the request did not arrive.") from None
            await request.app.state.body_pace.turn(size_bytes)
            try:
                return await handle(checked)
            except Exception as error:
                # Frames and errors refer to each other, and would keep the body until some later
                # garbage collection.
                traceback.clear_frames(error.__traceback__)
                raise

        return handle if self.body_field is None else handle_checked


class BodyPace:
    """The pace at which long bodies are read, so that others have their turn between two of them.

    A body of 1 MB keeps the event loop busy for some 30 ms; short ones are read at once.
    """

    def __init__(self) -> None:
        self._free_at = 0.0

    async def turn(self, size_bytes: int) -> None:
        """Wait until a body of this size may be read.

        Raises:
            Overloaded: too many long ones wait.
        """
        if size_bytes < _SHORT_BYTES:
            return
        now = asyncio.get_running_loop().time()
        begin = max(now, self._free_at)
        if begin - now > _LONGEST_WAIT_SECONDS:
            raise Overloaded("Too many long requests wait here.")
        self._free_at = begin + size_bytes / _BYTES_PER_SECOND
        await asyncio.sleep(begin - now)


class _CheckedRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            raw, most_values = await self.body(), self.app.state.max_request_values
            # Counted before they are decoded, where there are many.
            if raw.count(b",") > most_values and _STRING.sub(b"", raw).count(b",") > most_values:
                raise _too_many(most_values)
            try:
                body = await super().json()
            except RecursionError:
                raise _too_deep() from None
            _check_size(body, most_values)
        return self._json


def _check_size(body: object, most_values: int) -> None:
    """Refuse a body with too many values, or nested too deep.

    Raises:
        HTTPException: it is.
    """
    values, level = 0, [body]
    for _ in range(_DEEPEST):
        inner = [
            list(part.values()) if isinstance(part, dict) else part
            for part in level
            if isinstance(part, dict | list)
        ]
        values += sum(map(len, inner))
        if values > most_values:
            raise _too_many(most_values)
        level = [value for part in inner for value in part]
        if not level:
            return
    raise _too_deep()


def _too_many(most_values: int) -> HTTPException:
    return HTTPException(
        413,
        f"The request body holds more than {most_values} values, the limit here "
        "(MAX_REQUEST_VALUES).",
    )


def _too_deep() -> HTTPException:
    return HTTPException(400, f"The request body is nested deeper than {_DEEPEST} levels.")


@contextlib.contextmanager
def unknown_ignored() -> Iterator[None]:
    """Leave what is not known out of what is read meanwhile."""
    token = _ignores_unknown.set(True)
    try:
        yield
    finally:
        _ignores_unknown.reset(token)


def is_unknown_ignored() -> bool:
    """Return whether what is not known in a request is left out."""
    return _ignores_unknown.get()


def below_root(scope: Scope) -> str:
    """Return the path of a request as the routes match it: without the root path."""
    root, path = scope.get("root_path", ""), str(scope["path"])
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


async def refuse_repeated(request: Request) -> None:
    """Refuse a query parameter that is given twice: one of both would be ignored.

    Raises:
        RequestValidationError: one is.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated and is_unknown_ignored():
        query = request.scope["route"].dependant.query_params
        models = [parameter.field_info.annotation for parameter in query]
        known = set().union(*(model.names() for model in models))
        repeated = [name for name in repeated if name in known]
    if repeated:
        raise RequestValidationError(
            [
                {"type": "repeated", "loc": ("query", name), "msg": "it is given more than once"}
                for name in repeated
            ]
        )


def require(value: object) -> object:
    """Return a mandatory value.

    Raises:
        PydanticCustomError: there is none; absent, null and empty are one.
    """
    if value is None or value == "":
        raise PydanticCustomError(MANDATORY, "this field is mandatory and cannot be empty")
    return value


def _whole(value: object) -> object:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _number(value: object) -> object:
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _argument(value: Any) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    # As Python writes it: 64 is 64 and 64.0 is 64.0.
    return str(value) if abs(value) < float("inf") else value


WholeNumber = Annotated[StrictInt, BeforeValidator(_whole)]
"""A whole number, also written as ``4.0`` or ``"4"``; a boolean is none."""
Number = Annotated[float, Field(strict=True), BeforeValidator(_number)]
"""A number, also written as text (``"1.5"``); a boolean is none."""
Argument = Annotated[StrictStr, BeforeValidator(_argument)]
"""Text, or a number that stands for its text; a boolean is neither."""
