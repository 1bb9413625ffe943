"""The kinds of values that settings have, and how one is declared."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.config import JsonDict

from hpcq.domain.units import parse_size

__all__ = [
    "BYTES",
    "DAYS",
    "PATH",
    "PATH_OR_NOTHING",
    "PORT",
    "SECONDS",
    "AbsolutePath",
    "Bytes",
    "Days",
    "Port",
    "Seconds",
    "home_expanded",
    "lower",
    "setting",
    "upper",
]


def upper(value: object) -> object:
    """Return text in upper case without blanks around it, anything else as it is."""
    return value.strip().upper() if isinstance(value, str) else value


def lower(value: object) -> object:
    """Return text in lower case without blanks around it, anything else as it is."""
    return value.strip().lower() if isinstance(value, str) else value


def _size(value: object) -> object:
    return int(parse_size(value)) if isinstance(value, str) else value


def home_expanded(value: object) -> object:
    """Return a path with a leading ``~`` replaced by the home directory."""
    return os.path.expanduser(value) if isinstance(value, str) else value


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("it is not an absolute path")
    return path


Seconds = Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, le=10**5, allow_inf_nan=False)]
Bytes = Annotated[int, BeforeValidator(_size), Field(ge=1024, le=2**60)]
Port = Annotated[int, Field(ge=1, le=65535)]
AbsolutePath = Annotated[Path, BeforeValidator(home_expanded), AfterValidator(_absolute)]

SECONDS = "seconds, above 0"
DAYS = "days, above 0"
BYTES = "a size of at least 1K: bytes, or with a suffix (512K, 16M, 1G)"
PATH = "an absolute path"
PATH_OR_NOTHING = "an absolute path; or nothing, when the site does not have it"
PORT = "a whole number from 1 to 65535"


def setting(
    default: Any, description: str, *, allowed: str, example: str, shown: str | None = None
) -> Any:
    """Declare a field; all three texts go to the reference page, ``allowed`` to errors too."""
    extra: JsonDict = {"allowed": allowed, "default": str(default) if shown is None else shown}
    kind = "default_factory" if callable(default) else "default"
    return Field(
        **{kind: default}, description=description, examples=[example], json_schema_extra=extra
    )
