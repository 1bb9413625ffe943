"""Readers of requests: what is unknown, given twice, absent, or a number written as text."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Annotated, Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import (
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

__all__ = [
    "MANDATORY",
    "Argument",
    "Number",
    "RequestModel",
    "WholeNumber",
    "is_unknown_ignored",
    "refuse_repeated",
    "require",
    "unknown_ignored",
]

MANDATORY = "mandatory"
"""The type of the error about a mandatory field without content."""

_WHOLE = re.compile(r"-?[0-9]{1,18}(?:\.0+)?")
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_ignores_unknown = ContextVar("ignores_unknown", default=False)


class RequestModel(BaseModel):
    """A part of a request. An unknown name in it is refused, unless they are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_alone(cls, content: object) -> object:
        if not is_unknown_ignored() or not isinstance(content, dict):
            return content
        known = cls.names()
        return {name: value for name, value in content.items() if name in known}

    @classmethod
    def names(cls) -> set[str]:
        """Return the names that are known, as clients write them."""
        return {info.alias or name for name, info in cls.model_fields.items()}


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
