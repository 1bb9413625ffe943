"""A site's own catalogue of programs: a TOML file of patterns."""

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hpcq.domain.parameters import Parameter, ParameterType
from hpcq.domain.programs import Installation
from hpcq.programs.patterns import check_pattern
from hpcq.programs.toml_lines import Lines

__all__ = ["CatalogueEntry", "CatalogueError", "load_catalogue"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = ("version", "path")


class CatalogueError(Exception):
    """A catalogue file cannot be used.

    Attributes:
        problems: a sentence for each, with the file and the line.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A program of the catalogue.

    Attributes:
        name: the program's.
        pattern: where its versions lie, see `PatternReader`.
        make: from a version and its path to what is installed there.
    """

    name: str
    pattern: str
    make: Callable[[str, str], Installation]


def _pattern(text: str) -> str:
    check_pattern(text)
    return text


def _template(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("it is empty, or holds a NUL character")
    for name in _PLACEHOLDER.findall(text):
        if name not in _PLACEHOLDERS:
            raise ValueError(f"{{{name}}} means nothing; there are {{version}} and {{path}}")
    return text


def _path_template(text: str) -> str:
    if not text.startswith(("/", "{path}")):
        raise ValueError("it is not an absolute path")
    return _template(text)


_PathTemplate = Annotated[str, AfterValidator(_path_template)]
_Word = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Argument(_Table):
    name: _Word
    type: Literal["integer", "number", "text"] = "text"
    default: str | int | float | None = None
    default_from: Literal["reservedSlots"] | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    choices: list[str] = []
    description: str | None = None

    def parameter(self) -> Parameter:
        return Parameter(
            name=self.name,
            type=ParameterType(self.type),
            default=None if self.default is None else str(self.default),
            is_slots=self.default_from is not None,
            minimum=self.minimum,
            maximum=self.maximum,
            choices=tuple(self.choices),
            description=self.description,
        )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Say what does not fit together: the key, and why."""
        parameter = self.parameter()
        ranged = self.minimum is not None or self.maximum is not None
        if ranged and self.type == "text":
            yield "type", "text has no minimum and no maximum"
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield "minimum", "it is above the maximum"
        if self.default is not None and self.default_from is not None:
            yield "default", "there is default_from already"
        if self.default is not None and not parameter.takes(self.default):
            yield "default", f"it has to be {parameter.wanted()}"


class _Program(_Table):
    name: _Word
    # Letters alone: the number after it must be told from it.
    id_prefix: Annotated[str, Field(pattern=r"^[A-Za-z]{1,16}$")]
    versions: Annotated[str, AfterValidator(_pattern)]
    executable: _PathTemplate | list[Annotated[str, AfterValidator(_template)]]
    installation_directory: _PathTemplate | None = None
    default_version: str | None = None
    arguments: list[_Argument] = []

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Say what does not fit together: the place in the table, and why."""
        if isinstance(self.executable, list):
            if not self.executable:
                yield ("executable",), "it is empty; name a script"
            elif not self.executable[0].startswith(("/", "{path}")):
                yield ("executable",), "its first word, the script, is not an absolute path"
        names: set[str] = set()
        for number, argument in enumerate(self.arguments):
            if argument.name in names:
                yield ("arguments", number, "name"), f"{argument.name} is there twice"
            names.add(argument.name)
            for key, why in argument.problems():
                yield ("arguments", number, key), why

    def entry(self) -> CatalogueEntry:
        command = [self.executable] if isinstance(self.executable, str) else self.executable
        parameters = tuple(argument.parameter() for argument in self.arguments)

        def make(version: str, path: str) -> Installation:
            values = {"version": version, "path": path}
            script, *words = (_filled(word, values) for word in command)
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

        return CatalogueEntry(self.name, self.versions, make)


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
        raise CatalogueError([f"{path} is not UTF-8 text."]) from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError([_syntax(path, text, str(error))]) from error
    lines = Lines(text)

    def problem(place: Sequence[str | int], why: str) -> str:
        return f"{path}, line {lines.of(tuple(place))}: {_named(place)}{why}."

    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise CatalogueError(
            [problem(one["loc"], _in_words(one)) for one in error.errors()]
        ) from None
    if problems := [problem(place, why) for place, why in file.problems()]:
        raise CatalogueError(problems)
    return [program.entry() for program in file.program]


def _syntax(path: Path, text: str, message: str) -> str:
    found = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = found[1] if found else str(max(1, len(text.splitlines())))
    return f"{path}, line {line}: it is not TOML: {message.partition(' (at ')[0]}."


def _named(place: Sequence[str | int]) -> str:
    names = [part for part in place if isinstance(part, str)]
    keys = [name for name in names if name not in ("program", "arguments")]
    return f"{keys[0]}: " if keys else ""


def _in_words(one: Any) -> str:
    if one["type"] == "extra_forbidden":
        return "there is no such key"
    if one["type"] == "missing":
        return "it is missing"
    message = str(one["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)
