"""The kinds of values that settings have, and how one is declared."""

import os
import re
import shlex
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
    "JobEnvironment",
    "Port",
    "Seconds",
    "home_expanded",
    "lower",
    "setting",
    "upper",
]


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


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


def _variables(value: object) -> object:
    """Return what a list of variables says: pairs of a name and a value, None for the service's."""
    if not isinstance(value, str):
        return value
    reader = shlex.shlex(value, posix=True, punctuation_chars=False)
    reader.whitespace_split = True
    reader.whitespace += ","
    reader.commenters = ""
    pairs = []
    for word in reader:
        name, is_given, text = word.partition("=")
        if _VARIABLE.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not the name of a variable")
        pairs.append((name, text if is_given else None))
    return tuple(pairs)


JobEnvironment = Annotated[tuple[tuple[str, str | None], ...], BeforeValidator(_variables)]
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
