"""A site's own catalogue of programs: a TOML file of patterns."""

import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from hpcq.domain.programs import Installation, Parameter, ParameterType
from hpcq.programs.catalogue_errors import (
    CatalogueError,
    Lines,
    describe,
    problem,
    syntax_problem,
)
from hpcq.programs.layouts import check_pattern

__all__ = ["CatalogueEntry", "CatalogueError", "load_catalogue"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = ("version", "path")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_WORD = 255


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A program of the catalogue.

    Attributes:
        name: the program's.
        pattern: where its versions lie, see `PatternLayout`.
        make: from a version and its path to what is installed there.
        definition: what the file says of it, to tell an entry from a changed one.
    """

    name: str
    pattern: str
    make: Callable[[str, str], Installation] = field(compare=False)
    definition: object


def _pattern(text: str) -> str:
    check_pattern(text)
    return _plain(text)


def _plain(text: str) -> str:
    if not text:
        raise ValueError("it is empty")
    if _CONTROL.search(text):
        raise ValueError("it holds a control character")
    return text


def _word(text: str) -> str:
    if len(text) > _LONGEST_WORD:
        raise ValueError(f"it is longer than {_LONGEST_WORD} characters")
    return _plain(text)


def _prefix(text: str) -> str:
    # Letters alone: the number after it must be told from it.
    if re.fullmatch(r"[A-Za-z]{1,16}", text) is None:
        raise ValueError("it has to be 1 to 16 letters")
    return text


def _template(text: str) -> str:
    for name in _PLACEHOLDER.findall(text):
        if name not in _PLACEHOLDERS:
            raise ValueError(f"{{{name}}} means nothing; there are {{version}} and {{path}}")
    if re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
        raise ValueError("it holds a { or } that belongs to no {version} or {path}")
    return _plain(text)


def _path_template(text: str) -> str:
    if not text.startswith(("/", "{path}")):
        raise ValueError("it is not an absolute path")
    if any(part in (".", "..") for part in text.split("/")):
        raise ValueError("it holds . or .. and may lead elsewhere")
    return _template(text)


def _command(value: object) -> object:
    """Return a script and its first words, before the arguments, each of them checked."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("it has to be text, or a list of texts")
    if not words:
        raise ValueError("it is empty; name a script")
    return [_path_template(words[0]), *map(_template, words[1:])]


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("it has to be a number")
    return value


def _value(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("it has to be text or a number")
    return str(value)


_PathTemplate = Annotated[str, AfterValidator(_path_template)]
_Word = Annotated[str, AfterValidator(_word)]
_Number = Annotated[int | float, BeforeValidator(_number)]
_Value = Annotated[str, BeforeValidator(_value)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Argument(_Table):
    name: _Word
    type: Literal["integer", "number", "text"] = "text"
    default: _Value | None = None
    default_from: Literal["reservedSlots"] | None = None
    minimum: _Number | None = None
    maximum: _Number | None = None
    choices: Annotated[list[_Value], Field(min_length=1)] | None = None
    description: str | None = None
    optional: bool = False

    @field_validator("choices")
    @classmethod
    def _each_once(cls, choices: list[str] | None) -> list[str] | None:
        for choice in choices or ():
            if (choices or []).count(choice) > 1:
                raise ValueError(f"{choice!r} is there twice")
        return choices

    def parameter(self) -> Parameter:
        return Parameter(
            name=self.name,
            type=ParameterType(self.type),
            default=self.default,
            is_slots=self.default_from is not None,
            is_optional=self.optional,
            minimum=self.minimum,
            maximum=self.maximum,
            choices=tuple(self.choices or ()),
            description=self.description,
        )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the keys whose values do not fit together, and why."""
        is_text = self.type == "text"
        if is_text and (self.minimum is not None or self.maximum is not None):
            yield "type", "text has no minimum and no maximum"
            return
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield "minimum", "it is above the maximum"
            return
        alone = replace(self.parameter(), choices=())
        for choice in self.choices or ():
            if not alone.takes(choice):
                yield "choices", f"{choice!r} is not {alone.wanted()}"
        if self.default_from is not None and (is_text or self.choices):
            yield "default_from", "reservedSlots is any whole number; choices and text are not"
        if self.optional and (self.default is not None or self.default_from is not None):
            yield "optional", "it is left out, or has a default, not both"
        if self.default is not None and self.default_from is not None:
            yield "default", "there is default_from already"
        elif self.default is not None and not self.parameter().takes(self.default):
            yield "default", f"it has to be {self.parameter().wanted()}"


class _Program(_Table):
    name: _Word
    id_prefix: Annotated[str, AfterValidator(_prefix)]
    versions: Annotated[str, AfterValidator(_pattern)]
    executable: Annotated[list[str], BeforeValidator(_command)]
    installation_directory: _PathTemplate | None = None
    default_version: _Word | None = None
    arguments: list[_Argument] = []

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the places in the table that do not fit together, and why."""
        names: set[str] = set()
        for number, argument in enumerate(self.arguments):
            if argument.name in names:
                yield ("arguments", number, "name"), f"{argument.name} is there twice"
            if number and self.arguments[number - 1].optional and not argument.optional:
                yield ("arguments", number, "name"), "it comes after an optional one"
            names.add(argument.name)
            for key, why in argument.problems():
                yield ("arguments", number, key), why

    def entry(self) -> CatalogueEntry:
        parameters = tuple(argument.parameter() for argument in self.arguments)

        def make(version: str, path: str) -> Installation:
            values = {"version": version, "path": path}
            script, *words = (_filled(word, values) for word in self.executable)
            directory = self.installation_directory
            if directory is None:
                directory = path if os.path.isdir(path) else os.path.dirname(path)
            default = self.default_version
            return Installation(
                id_prefix=self.id_prefix,
                name=self.name,
                version=version,
                directory=_filled(directory, values) if self.installation_directory else directory,
                script=script,
                words=tuple(words),
                parameters=parameters,
                is_default=None if default is None else version == default,
            )

        return CatalogueEntry(self.name, self.versions, make, self)


class _File(_Table):
    program: Annotated[list[_Program], Field(min_length=1)]

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        prefixes: dict[str, str] = {}
        for number, program in enumerate(self.program):
            owner = prefixes.get(program.id_prefix)
            if owner is not None:
                yield ("program", number, "id_prefix"), f"{owner} has this id_prefix already"
            prefixes[program.id_prefix] = program.name
            for place, why in program.problems():
                yield ("program", number, *place), why


def load_catalogue(path: Path) -> list[CatalogueEntry]:
    """Read a catalogue file.

    Raises:
        CatalogueError: it cannot be used; all that is wrong is in it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise CatalogueError([f"{path} cannot be read: {error.strerror}."]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CatalogueError([f"{path}, line {line}: it is not UTF-8 text."]) from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError([syntax_problem(path, text, error)]) from error
    try:
        file = _File.model_validate(content)
        problems = list(file.problems())
    except ValidationError as error:
        known = [*_File.model_fields, *_Program.model_fields, *_Argument.model_fields]
        problems = [(one["loc"], describe(one, known)) for one in error.errors()]
    if problems:
        lines = Lines(text)
        raise CatalogueError([problem(path, lines, place, why) for place, why in problems])
    return [program.entry() for program in file.program]


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)
