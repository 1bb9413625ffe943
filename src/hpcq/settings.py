"""Sections of settings: their base, the kinds of values, and how a setting is declared.

A section stands in the package that reads it. `hpcq.config` composes them all:

    class TorqueSettings(Section):
        torque_slots_per_node: Annotated[int, Field(ge=1)] | None = setting(
            None,
            "How many slots one host has.",
            allowed="a whole number from 1",
            example="24",
            shown="",
        )
"""

import os
import re
import shlex
import textwrap
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

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
    "Section",
    "details",
    "example_file",
    "home_expanded",
    "lower",
    "setting",
    "split_words",
    "table",
    "upper",
]


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def upper(value: object) -> object:
    """Return text in upper case without blanks around it, anything else as it is."""
    return value.strip().upper() if isinstance(value, str) else value


def lower(value: object) -> object:
    """Return text in lower case without blanks around it, anything else as it is."""
    return value.strip().lower() if isinstance(value, str) else value


def split_words(value: object) -> object:
    """Return the words of a text, which commas or blanks separate; anything else as it is.

    >>> split_words("ana, ben")
    ('ana', 'ben')
    """
    return tuple(re.split(r"[\s,]+", value.strip())) if isinstance(value, str) else value


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
            raise ValueError("it holds a word that is not the name of a variable")
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
    default: Any,
    description: str,
    *,
    allowed: str,
    example: str,
    shown: str | None = None,
    exported: bool = False,
    may_be_empty: bool = False,
    secret: bool = False,
) -> Any:
    """Declare a setting.

    Args:
        default: the value, or a function that makes it, where the variable is not set.
        description: for the reference page.
        allowed: the values that it takes, for the reference page and for errors.
        example: a value, for the reference page.
        shown: the default on the reference page, where that is not ``str(default)``.
        exported: whether the scheduler's commands get the variable, with the service's own value
            where the settings give none.
        may_be_empty: whether empty text is a value, and not the absence of one.
        secret: whether the value may hold a password, and is never shown.
    """
    extra: JsonDict = {
        "allowed": allowed,
        "default": str(default) if shown is None else shown,
        "exported": exported,
        "may_be_empty": may_be_empty,
        "secret": secret,
    }
    kind = "default_factory" if callable(default) else "default"
    return Field(
        **{kind: default}, description=description, examples=[example], json_schema_extra=extra
    )


def details(field: FieldInfo) -> JsonDict:
    """Return the arguments of `setting` beside the description and the example."""
    if not isinstance(field.json_schema_extra, dict):
        raise TypeError("a setting is not declared with hpcq.settings.setting()")
    return field.json_schema_extra


class Section(BaseModel):
    """Settings of one part. The variable of a field is its name in upper case, without a prefix."""

    # Sections are parts of one model, which alone is built.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset_where_that_is_possible(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields[info.field_name or ""]
        if value != "" or details(field)["may_be_empty"]:
            return value
        if type(None) in get_args(field.annotation):
            return None
        raise ValueError("it is empty; leave the variable out for its default")


def table(section: type[Section]) -> str:
    """Return the settings of a section as a Markdown table, in the order of their declaration."""
    lines = ["| Variable | Meaning | Allowed | Default | Example |\n|---|---|---|---|---|\n"]
    for name, field in section.model_fields.items():
        more = details(field)
        values = (more["default"], *(field.examples or ()))
        shown = (f"`{value}`" if value else "not set" for value in values)
        cells = (f"`{name.upper()}`", field.description, more["allowed"], *shown)
        escaped = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
        lines.append(f"| {' | '.join(escaped)} |\n")
    return "".join(lines)


def example_file(section: type[Section]) -> str:
    """Return a file of settings in which each is explained, and commented out."""
    settings = []
    for name, field in section.model_fields.items():
        more = details(field)
        meaning = _LINK.sub(r"\1", field.description or "")
        text = f"{meaning} Allowed: {more['allowed']}."
        lines = textwrap.wrap(
            text, 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
        )
        value = more["default"] or (field.examples or [""])[0]
        settings.append("\n".join((*lines, f"#{name.upper()}={value}\n")))
    return "\n".join(settings)
