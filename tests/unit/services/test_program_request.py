import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec
from hpcq.domain.programs import Installation, Parameter, ParameterType, Program
from hpcq.programs.layouts import DESSEM
from hpcq.services.programs.request import ProgramRequest, split_legacy_command
from hpcq.services.programs.service import Catalogue, ProgramService

pytestmark = pytest.mark.anyio

SPEC = JobSpec(name="study", working_directory="/w", script_file="", slots=16)
N_PROC = Parameter(name="N_PROC", type=ParameterType.INTEGER, is_slots=True, minimum=1)
FIRST, SECOND = (Parameter(name=name, is_optional=True) for name in ("first", "second"))


def installed(
    name: str, version: str, *parameters: Parameter, default: bool | None = None
) -> Installation:
    return Installation(
        id_prefix=name[:2],
        name=name,
        version=version,
        directory="/x",
        script=f"/jobs/{name}",
        words=(version,),
        parameters=parameters,
        is_default=default,
    )


PROGRAMS = (
    Program("NE0", installed("NEWAVE", "v1", N_PROC)),
    Program("NE1", installed("NEWAVE", "v2", N_PROC)),
    Program("DE0", installed("DECOMP", "v2")),
    Program("DS0", installed("DESSEM", "19", *DESSEM.parameters)),
    Program("OP0", installed("OPTIONS", "1", replace(N_PROC, is_slots=False), FIRST, SECOND)),
    Program("GR0", installed("GROMACS", "1", default=False)),
    Program("GR1", installed("GROMACS", "2", default=True)),
)


@dataclass
class Known:
    programs: Sequence[Program] = PROGRAMS
    problems: Sequence[str] = ()

    async def catalogue(self) -> Catalogue:
        return Catalogue(self.programs, self.problems)


async def completed(known: Known | None = None, **asked: Any) -> JobSpec:
    programs = cast(ProgramService, known or Known())
    return await ProgramRequest(programs=programs, **{"values": {}, **asked}).complete(SPEC)


# What is asked for; the script and its arguments.
@pytest.mark.parametrize(
    ("asked", "command"),
    [
        ({"program_id": "NE1"}, ("/jobs/NEWAVE", "v2", "16")),
        ({"name": "NEWAVE", "version": "v1"}, ("/jobs/NEWAVE", "v1", "16")),
        ({"program_id": "NE0", "name": "NEWAVE"}, ("/jobs/NEWAVE", "v1", "16")),
        ({"name": "DECOMP"}, ("/jobs/DECOMP", "v2")),
        ({"name": "DESSEM"}, ("/jobs/DESSEM", "19")),
        ({"name": "DESSEM", "values": {"N_PROC": 4}}, ("/jobs/DESSEM", "19", "4")),
        ({"name": "DESSEM", "values": {"N_PROC": "8"}}, ("/jobs/DESSEM", "19", "8")),
        ({"name": "DESSEM", "values": {"N_PROC": None}}, ("/jobs/DESSEM", "19")),
        ({"name": "OPTIONS", "values": {"N_PROC": 2}}, ("/jobs/OPTIONS", "1", "2")),
        (
            {"name": "OPTIONS", "values": {"N_PROC": 2, "first": "a", "second": "b"}},
            ("/jobs/OPTIONS", "1", "2", "a", "b"),
        ),
        ({"name": "GROMACS"}, ("/jobs/GROMACS", "2")),
        ({"name": "GROMACS", "version": "1"}, ("/jobs/GROMACS", "1")),
    ],
)
async def test_program_script_and_arguments(
    asked: dict[str, Any], command: tuple[str, ...]
) -> None:
    spec = await completed(**asked)

    assert (spec.script_file, *spec.args) == command
    assert (spec.name, spec.working_directory, spec.slots) == ("study", "/w", 16)


# What is asked for; the field that is wrong, and a part of the reason.
@pytest.mark.parametrize(
    ("asked", "field", "reason"),
    [
        ({"program_id": "NW9"}, "programId", "No program has the programId 'NW9'."),
        ({"name": "newave"}, "program", "No program has the name 'newave'."),
        ({"program_id": "NE0", "name": "DECOMP"}, "programId", "No program"),
        ({"name": "NEWAVE", "version": "1"}, "version", "it has 'v1', 'v2'."),
        ({"program_id": "NE0", "version": "v2"}, "version", "NEWAVE has no version 'v2'"),
        ({"name": "NEWAVE"}, "version", "name one of 'v1', 'v2'"),
    ],
)
async def test_program_unknown_or_ambiguous(asked: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        await completed(**asked)

    assert caught.value.field == field
    assert reason in caught.value.detail


async def test_program_args_optional_without_earlier() -> None:
    with pytest.raises(InvalidSpec, match="'second' only after 'first'") as caught:
        await completed(name="OPTIONS", values={"N_PROC": 2, "second": "b"})
    assert caught.value.field == "programArgs.first"


async def test_program_args_invalid_processor_count() -> None:
    for value in (0, "many", 1.5):
        with pytest.raises(InvalidSpec, match="a whole number, at least 1") as caught:
            await completed(name="DESSEM", values={"N_PROC": value})
        assert caught.value.field == "programArgs.N_PROC"


async def test_program_version_duplicate() -> None:
    known = Known([Program(id_, installed("NEWAVE", "v1")) for id_ in ("NE0", "NW0")])

    with pytest.raises(InvalidSpec, match="NEWAVE v1 is there as 'NE0', 'NW0': name its programId"):
        await completed(known, name="NEWAVE", version="v1")
    assert (await completed(known, program_id="NW0")).script_file == "/jobs/NEWAVE"


async def test_program_missing_with_unreadable_folder() -> None:
    with pytest.raises(InvalidSpec, match=r"Not everything could be read: NEWAVE hangs\."):
        await completed(Known((), ("NEWAVE hangs.",)), name="NEWAVE")


INTEGER, NUMBER, TEXT = ParameterType.INTEGER, ParameterType.NUMBER, ParameterType.TEXT


# A parameter, the value given, and what the script gets; None for a refusal.
@pytest.mark.parametrize(
    ("parameter", "value", "told"),
    [
        (N_PROC, None, "16"),
        (N_PROC, 64, "64"),
        (N_PROC, "64", "64"),
        (N_PROC, 0, None),
        (N_PROC, 1.5, None),
        (N_PROC, True, None),
        (N_PROC, "", None),
        (N_PROC, "64; rm -rf /", None),
        (N_PROC, "6\n4", None),
        (N_PROC, "٣", None),
        (N_PROC, 10**30, None),
        (Parameter(name="X", type=INTEGER, maximum=8), 8, "8"),
        (Parameter(name="X", type=INTEGER, maximum=8), 9, None),
        (Parameter(name="X", type=NUMBER, minimum=0, maximum=1), 0.25, "0.25"),
        (Parameter(name="X", type=NUMBER, minimum=0, maximum=1), "1e-3", "1e-3"),
        (Parameter(name="X", type=NUMBER, minimum=0, maximum=1), 1.01, None),
        (Parameter(name="X", type=NUMBER), "nan", None),
        (Parameter(name="X", type=NUMBER), "1e999", None),
        (Parameter(name="X", type=NUMBER), float("inf"), None),
        (Parameter(name="X", default="fast"), None, "fast"),
        (Parameter(name="X", default="fast"), "", ""),
        (Parameter(name="X"), None, None),
        (Parameter(name="X"), "a b $HOME `id`", "a b $HOME `id`"),
        (Parameter(name="X"), 5, None),
        (Parameter(name="X", choices=("a", "b")), "b", "b"),
        (Parameter(name="X", choices=("a", "b")), "c", None),
        (Parameter(name="X", type=INTEGER, choices=("1", "2")), 2, "2"),
    ],
)
async def test_program_args_values(parameter: Parameter, value: object, told: str | None) -> None:
    known = Known([Program("P0", installed("P", "1", parameter))])
    values = {} if value is None else {parameter.name: value}
    if told is not None:
        assert (await completed(known, program_id="P0", values=values)).args == ("1", told)
        return
    with pytest.raises(InvalidSpec) as caught:
        await completed(known, program_id="P0", values=values)
    assert caught.value.field == f"programArgs.{parameter.name}"


async def test_program_args_unknown() -> None:
    with pytest.raises(InvalidSpec, match=r"no argument 'n'; it expects 'N_PROC'") as caught:
        await completed(program_id="NE0", values={"n": 1})
    assert caught.value.field == "programArgs.n"


FILE, FOLDER = stat.S_IFREG, stat.S_IFDIR


# What is there, by its mode (None: that cannot be said), what was submitted as the script; the
# script and its arguments.
@pytest.mark.parametrize(
    ("there", "script_file", "command"),
    [
        ({"/j/x.job": FILE}, "/j/x.job 28.16", ("/j/x.job", "28.16", "64")),
        ({"/j/x.job": FILE}, "/j/x.job  28 beta", ("/j/x.job", " 28 beta", "64")),
        ({"/my j/x.job": FILE}, "/my j/x.job 28", ("/my j/x.job", "28", "64")),
        ({"/my": FOLDER, "/my j/x.job": FILE}, "/my j/x.job 28", ("/my j/x.job", "28", "64")),
        ({"/my": FOLDER}, "/my j/x.job", ("/my j/x.job", "64")),
        (
            {"/j/x.job": FILE, "/j/x.job 28.16": FILE},
            "/j/x.job 28.16",
            ("/j/x.job 28.16", "64"),
        ),
        (
            {"/j/x.job": FILE, "/j/x.job 28.16": FOLDER},
            "/j/x.job 28.16",
            ("/j/x.job 28.16", "64"),
        ),
        ({"/j/x": FILE, "/j/x y/z.job": None}, "/j/x y/z.job", ("/j/x y/z.job", "64")),
        ({"/j/x.job": FILE}, "/j/x.job ", ("/j/x.job ", "64")),
        ({"/j/x.job": FILE}, "/j/x.job", ("/j/x.job", "64")),
        ({}, "/j/x.job 28.16", ("/j/x.job 28.16", "64")),
    ],
)
def test_legacy_command_with_argument(
    there: dict[str, int | None], script_file: str, command: tuple[str, ...]
) -> None:
    spec = JobSpec(name="s", working_directory="/w", script_file=script_file, args=("64",))

    done = split_legacy_command(spec, lambda path: there.get(path, 0))

    assert (done.script_file, *done.args) == command
