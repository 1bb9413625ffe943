"""Jobs that name a program instead of a script: the script and its arguments are made here."""

import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec
from hpcq.domain.programs import Parameter, Program
from hpcq.services.programs.service import Catalogue, ProgramService

__all__ = ["ProgramRequest", "split_legacy_command"]

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRequest:
    """A program, as a submission names it.

    Attributes:
        programs: where it is looked up.
        program_id: its id; or its name, and the version unless it has a default or only one.
        values: of its arguments, by name, as JSON gives them.
    """

    programs: ProgramService
    program_id: str | None = None
    name: str | None = None
    version: str | None = None
    values: Mapping[str, Any]

    def asked(self) -> Mapping[str, Any]:
        """Return the content of this request, to compare it with another one."""
        program = {"id": self.program_id, "name": self.name, "version": self.version}
        return {**program, "values": dict(self.values)}

    async def complete(self, spec: JobSpec) -> JobSpec:
        """Return the job with the program's script and arguments.

        Raises:
            InvalidSpec: there is no such program, or it does not take these arguments.
        """
        catalogue = await self.programs.catalogue()
        installation = self._chosen(catalogue).installation
        arguments = _arguments(installation.parameters, self.values, spec.slots)
        return replace(
            spec, script_file=installation.script, args=(*installation.words, *arguments)
        )

    def _chosen(self, catalogue: Catalogue) -> Program:
        named = [p for p in catalogue.programs if self._is_named(p)]
        if not named:
            asked, field = (
                (f"the programId {self.program_id!r}", "programId")
                if self.program_id is not None
                else (f"the name {self.name!r}", "program")
            )
            raise InvalidSpec(_missing(f"No program has {asked}.", catalogue), field=field)
        fitting = [p for p in named if self.version in (None, p.installation.version)]
        if not fitting:
            known = _enumerated([p.installation.version for p in named])
            what = named[0].installation.name
            text = f"{what} has no version {self.version!r}; it has {known}."
            raise InvalidSpec(_missing(text, catalogue), field="version")
        defaults = [p for p in fitting if p.installation.is_default]
        chosen = fitting if len(fitting) == 1 else defaults
        if len(chosen) != 1:
            raise self._ambiguous(chosen or fitting)
        return chosen[0]

    def _ambiguous(self, fitting: Sequence[Program]) -> InvalidSpec:
        versions = list(dict.fromkeys(program.installation.version for program in fitting))
        if len(versions) == 1:
            ids = _enumerated([program.program_id for program in fitting])
            what = f"{self.name} {versions[0]}"
            return InvalidSpec(f"{what} is there as {ids}: name its programId.", field="program")
        return InvalidSpec(
            f"{self.name} has several versions and none is its default: name one of "
            f"{_enumerated(versions)}.",
            field="version",
        )

    def _is_named(self, program: Program) -> bool:
        return self.program_id in (None, program.program_id) and self.name in (
            None,
            program.installation.name,
        )


def _missing(text: str, catalogue: Catalogue) -> str:
    if not catalogue.problems:
        return text
    return f"{text} Not everything could be read: {catalogue.problems[0]}"


def _enumerated(words: Sequence[str]) -> str:
    more = [f"{len(words) - _MOST_NAMED} more"] if len(words) > _MOST_NAMED else []
    return ", ".join([*map(repr, words[:_MOST_NAMED]), *more])


def _arguments(
    parameters: Sequence[Parameter], values: Mapping[str, Any], slots: int
) -> tuple[str, ...]:
    names = [parameter.name for parameter in parameters]
    for name in values:
        if name not in names:
            expected = _enumerated(names) if names else "none"
            raise InvalidSpec(
                f"The program has no argument {name!r}; it expects {expected}.",
                field=f"programArgs.{name}",
            )
    arguments: list[str] = []
    left_out = None
    for parameter in parameters:
        value = values.get(parameter.name)
        if value is None and parameter.is_optional:
            left_out = left_out or parameter.name
        elif left_out is not None:
            raise InvalidSpec(
                f"The program takes {parameter.name!r} only after {left_out!r}, which is missing.",
                field=f"programArgs.{left_out}",
            )
        else:
            arguments.append(_argument(parameter, value, slots))
    return tuple(arguments)


def _argument(parameter: Parameter, value: object, slots: int) -> str:
    """Return one argument as the script gets it; a value that is None was not given."""
    field = f"programArgs.{parameter.name}"
    if value is None and parameter.is_slots:
        value = slots
    if value is None and parameter.default is not None:
        return parameter.default
    if value is None:
        raise InvalidSpec(
            f"{field} is missing; the program needs {parameter.wanted()}.", field=field
        )
    if not parameter.takes(value):
        raise InvalidSpec(
            f"{field} is {value!r:.100}; it has to be {parameter.wanted()}.", field=field
        )
    return str(value)


def split_legacy_command(spec: JobSpec, mode_of: Callable[[str], int | None]) -> JobSpec:
    """Return the job with a script path that is a path.

    ``executablePath`` of ``GET /programs`` may be a script and, after a blank, its first argument
    (the version). Older clients submit it as it is, as ``scriptFile``: the service that they were
    written for pasted it into a command line, where it fell apart. Here it is taken apart only
    when surely nothing has that name, blank included, and a file has the name up to a blank.

    Args:
        spec: the job as it was submitted.
        mode_of: the mode of what a path leads to (``st_mode``), 0 when it leads nowhere, None when
            that cannot be said.
    """
    path = spec.script_file
    if " " not in path or mode_of(path) != 0:
        return spec
    for found in re.finditer(" ", path):
        script, first = path[: found.start()], path[found.end() :]
        if first and stat.S_ISREG(mode_of(script) or 0):
            return replace(spec, script_file=script, args=(first, *spec.args))
    return spec
