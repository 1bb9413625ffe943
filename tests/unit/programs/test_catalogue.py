import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcq.programs.catalogue import CatalogueError, load_catalogue
from hpcq.programs.layouts import PatternLayout
from hpcq.programs.scanner import Scan, Scanner

COMPLETE = """\
# programs of the site
[[program]]
name = "GROMACS"
id_prefix = "GX"
versions = "ROOT/gromacs/gromacs-{version}/bin/gmx*"
executable = ["/jobs/gromacs.job", "{version}", "{path}"]
installation_directory = "ROOT/gromacs/gromacs-{version}"
default_version = "2024.1"

[[program.arguments]]
name = "N_PROC"
type = "integer"
default_from = "reservedSlots"
minimum = 1
maximum = 128
description = \"\"\"
[[program]]
name = "not a key"
\"\"\"

[[program.arguments]]
name = "precision"
choices = ["single", "double"]
default = "double"

[[program]]
name = "TOOL"
id_prefix = "T"
versions = "ROOT/tools/*/tool_{version}"
executable = "{path}"
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], list[Scan]]:
    """Write a catalogue whose ROOT is the test's folder, and read all its programs."""

    def write_and_read(text: str) -> list[Scan]:
        file = tmp_path / "programs.toml"
        file.write_text(text.replace("ROOT", str(tmp_path)))
        return [
            Scanner(entry.name, PatternLayout(entry.name, entry.pattern, entry.make), 10).scan()
            for entry in load_catalogue(file)
        ]

    return write_and_read


def make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_catalogue_pattern(read: Callable[[str], list[Scan]], tmp_path: Path) -> None:
    make(tmp_path / "gromacs" / "gromacs-2024.1" / "bin" / "gmx_mpi")
    make(tmp_path / "gromacs" / "gromacs-2023" / "bin" / "gmx")
    make(tmp_path / "gromacs" / "gromacs-2022" / "bin" / "README")
    make(tmp_path / "gromacs" / "other-2021" / "bin" / "gmx")
    make(tmp_path / "gromacs" / "gromacs-file")

    gromacs, tool = read(COMPLETE)

    assert gromacs.problems == ()
    assert [(p.version, p.executable_path, p.directory) for p in gromacs.installations] == [
        (
            version,
            f"/jobs/gromacs.job {version} {tmp_path}/gromacs/gromacs-{version}/bin/{name}",
            f"{tmp_path}/gromacs/gromacs-{version}",
        )
        for version, name in (("2023", "gmx"), ("2024.1", "gmx_mpi"))
    ]
    assert [p.is_default for p in gromacs.installations] == [False, True]
    slots, precision = gromacs.installations[0].parameters
    assert (slots.name, slots.is_slots, slots.minimum, slots.maximum) == ("N_PROC", True, 1, 128)
    assert (precision.default, precision.choices) == ("double", ("single", "double"))
    assert tool.installations == ()
    assert tool.problems == (
        f"The folder {tmp_path}/tools of TOOL cannot be read: No such file or directory.",
    )


def test_catalogue_file_as_version(read: Callable[[str], list[Scan]], tmp_path: Path) -> None:
    make(tmp_path / "tools" / "a" / "tool_1")
    make(tmp_path / "tools" / "b" / "tool_2")
    make(tmp_path / "tools" / ".hidden" / "tool_3")
    (tmp_path / "tools" / "b" / "tool_4").symlink_to("missing")
    make(tmp_path / "tools" / "b" / "tool_1")

    tool = read(COMPLETE)[1]

    assert [(p.version, p.executable_path, p.directory) for p in tool.installations] == [
        ("1", f"{tmp_path}/tools/a/tool_1", f"{tmp_path}/tools/a"),
        ("2", f"{tmp_path}/tools/b/tool_2", f"{tmp_path}/tools/b"),
    ]
    assert tool.installations[0].is_default is None
    assert tool.problems == (
        f"The version 1 of TOOL is there twice; {tmp_path}/tools/b/tool_1 is left out.",
    )


def test_catalogue_pattern_ambiguous(read: Callable[[str], list[Scan]], tmp_path: Path) -> None:
    for name in ("gmx", "gmx_mpi"):
        make(tmp_path / "gromacs" / "gromacs-1" / "bin" / name)

    gromacs = read(COMPLETE)[0]

    assert gromacs.installations == ()
    assert gromacs.problems == (
        f"{tmp_path}/gromacs/gromacs-1 of GROMACS fits 2 times; it is left out.",
    )


def test_catalogue_version_not_accessible(
    read: Callable[[str], list[Scan]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "gromacs" / "gromacs-1" / "bin" / "gmx")
    make(tmp_path / "gromacs" / "gromacs-2" / "bin" / "gmx")
    stat = os.stat

    def refuse(path: str, **how: bool) -> os.stat_result:
        if str(path).endswith("gromacs-1/bin"):
            raise PermissionError(13, "Permission denied")
        return stat(path, **how)

    monkeypatch.setattr(os, "stat", refuse)
    gromacs = read(COMPLETE)[0]

    assert [p.version for p in gromacs.installations] == ["2"]
    assert gromacs.problems == (
        f"{tmp_path}/gromacs/gromacs-1/bin of GROMACS cannot be read: Permission denied.",
    )


TEXTS = ((2, "name"), (3, "id_prefix"))
PROGRAM = """\
[[program]]
name = "X"
id_prefix = "X"
versions = "/x/{version}"
executable = "/x.job"
"""


ARGUMENT = PROGRAM + "[[program.arguments]]\nname = 'N'\n"


# What the file holds after a good program of five lines, or instead of it; what is said.
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[program]\n", ["line 1: it is not TOML: "]),
        ("name = 'x\n", ["line 1: it is not TOML: "]),
        (PROGRAM + 'name = "Y"\n', ["line 6: it is not TOML: "]),
        ("", ["line 1: program: it is missing."]),
        ("program = []\n", ["line 1: program: it is empty."]),
        (
            PROGRAM.replace("[[program]]", "[program]"),
            ["line 1: program: it has to be a list of tables; write [[program]]."],
        ),
        (
            PROGRAM + "[program.arguments]\nname = 'N'\n",
            ["line 6: arguments: it has to be a list of tables; write [[program.arguments]]."],
        ),
        ("program = [1]\n", ["line 1: program: it has to be a table"]),
        ("colour = 'red'\n" + PROGRAM, ["line 1: colour: there is no such key."]),
        (PROGRAM + "[other]\n", ["line 6: other: there is no such key."]),
        (PROGRAM + "colour = 'red'\n", ["line 6: colour: there is no such key."]),
        (
            ARGUMENT + "tpye = 'text'\n",
            ["line 8: tpye: there is no such key; did you mean type?"],
        ),
        (PROGRAM.replace('name = "X"\n', ""), ["line 1: name: it is missing."]),
        (PROGRAM + "\n" + PROGRAM, ["line 9: id_prefix: X has this id_prefix already."]),
        (PROGRAM.replace('"X"', "5"), [f"line {n}: {key}: it has to be text." for n, key in TEXTS]),
        (PROGRAM.replace('name = "X"', 'name = ""'), ["line 2: name: it is empty."]),
        (
            PROGRAM.replace('name = "X"', 'name = "X\\n"'),
            ["line 2: name: it holds a control character."],
        ),
        (
            PROGRAM.replace('name = "X"', f'name = "{"X" * 300}"'),
            ["line 2: name: it is longer than 255 characters."],
        ),
        (
            PROGRAM.replace('id_prefix = "X"', 'id_prefix = "X1"'),
            ["line 3: id_prefix: it has to be 1 to 16 letters."],
        ),
        (PROGRAM.replace('"/x/{', '"x/{'), ["line 4: versions: it is not an absolute path."]),
        (PROGRAM.replace("{version}", "v"), ["line 4: versions: it has to hold {version} once."]),
        (
            PROGRAM.replace("{version}", "{version}/{version}"),
            ["line 4: versions: it has to hold {version} once."],
        ),
        (PROGRAM.replace("/x/", "/x/../"), ["line 4: versions: it holds an empty part"]),
        (PROGRAM.replace("/x/", "/x//"), ["line 4: versions: it holds an empty part"]),
        (PROGRAM.replace("/x/", "/x[ab/"), ["line 4: versions: it holds a [ without its ]."]),
        (PROGRAM.replace("/x/", "/x[]/"), ["line 4: versions: it holds a [ without its ]."]),
        (PROGRAM.replace("/x/", "/x[!]/"), ["line 4: versions: it holds a [ without its ]."]),
        (PROGRAM.replace("/x/", "/x/**/"), ["line 4: versions: ** means no more than *: "]),
        (
            PROGRAM.replace("/x.job", "/{versoin}"),
            ["line 5: executable: {versoin} means nothing; there are {version} and {path}."],
        ),
        (
            PROGRAM.replace("/x.job", "/{version"),
            ["line 5: executable: it holds a { or } that belongs to no {version} or {path}."],
        ),
        (
            PROGRAM.replace('"/x.job"', "[]"),
            ["line 5: executable: it is empty; name a script."],
        ),
        (PROGRAM.replace('"/x.job"', '["x"]'), ["line 5: executable: it is not an absolute path."]),
        (PROGRAM.replace('"/x.job"', '["/x", ""]'), ["line 5: executable: it is empty."]),
        (
            PROGRAM.replace('"/x.job"', '["/x", 5]'),
            ["line 5: executable: it has to be text, or a list of texts."],
        ),
        (
            PROGRAM.replace("/x.job", "{path}/../../bin/sh"),
            ["line 5: executable: it holds . or .. and may lead elsewhere."],
        ),
        (
            PROGRAM + 'installation_directory = "{version}"\n',
            ["line 6: installation_directory: it is not an absolute path."],
        ),
        (PROGRAM + 'default_version = ""\n', ["line 6: default_version: it is empty."]),
        (
            ARGUMENT + "[[program.arguments]]\nname = 'N'\n",
            ["line 9: name: N is there twice."],
        ),
        (PROGRAM + 'arguments = [{type = "text"}]\n', ["line 6: name: it is missing."]),
        (
            ARGUMENT + "type = 'float'\n",
            ["line 8: type: it has to be 'integer', 'number' or 'text'."],
        ),
        (ARGUMENT + "maximum = 3\n", ["line 6: type: text has no minimum and no maximum."]),
        (
            ARGUMENT + "type = 'integer'\nminimum = 4\nmaximum = 3\n",
            ["line 9: minimum: it is above the maximum."],
        ),
        (
            ARGUMENT + "type = 'number'\nminimum = '4'\nmaximum = nan\n",
            ["line 9: minimum: it has to be a number.", "line 10: maximum: it has to be a number."],
        ),
        (
            ARGUMENT + "type = 'integer'\nmaximum = 3\ndefault = 4\n",
            ["line 10: default: it has to be a whole number, at most 3."],
        ),
        (
            ARGUMENT + "choices = ['a', 'b']\ndefault = 'c'\n",
            ["line 9: default: it has to be one of 'a', 'b'."],
        ),
        (ARGUMENT + "default = true\n", ["line 8: default: it has to be text or a number."]),
        (
            ARGUMENT + "optional = true\ndefault = 'a'\n",
            ["line 8: optional: it is left out, or has a default, not both."],
        ),
        (
            ARGUMENT + "optional = true\n[[program.arguments]]\nname = 'more'\n",
            ["line 10: name: it comes after an optional one."],
        ),
        (ARGUMENT + "choices = []\n", ["line 8: choices: it is empty."]),
        (ARGUMENT + "choices = ['a', 'a']\n", ["line 8: choices: 'a' is there twice."]),
        (
            ARGUMENT + "type = 'integer'\nmaximum = 3\nchoices = [1, 'x', 5]\n",
            [f"line 10: choices: '{x}' is not a whole number, at most 3." for x in ("x", 5)],
        ),
        (
            ARGUMENT + "type = 'integer'\ndefault = 1\ndefault_from = 'reservedSlots'\n",
            ["line 9: default: there is default_from already."],
        ),
        (
            ARGUMENT + "default_from = 'reservedSlots'\n",
            ["line 8: default_from: reservedSlots is any whole number; "],
        ),
        (ARGUMENT + "default_from = 'slots'\n", ["line 8: default_from: it has to be "]),
    ],
)
def test_catalogue_errors_name_line_and_key(
    text: str, said: list[str], read: Callable[[str], list[Scan]], tmp_path: Path
) -> None:
    with pytest.raises(CatalogueError) as caught:
        read(text)

    assert len(caught.value.problems) == len(said), caught.value.problems
    for problem, beginning in zip(caught.value.problems, said, strict=True):
        place, _, rest = problem.partition(", ")
        assert place == f"{tmp_path}/programs.toml"
        assert rest.startswith(beginning)
        assert rest.endswith((".", "?"))


def test_catalogue_file_not_text(tmp_path: Path) -> None:
    (tmp_path / "programs.toml").write_bytes(PROGRAM.encode() + b"# \xe9\n")

    with pytest.raises(CatalogueError, match="line 6: it is not UTF-8 text"):
        load_catalogue(tmp_path / "programs.toml")


def test_catalogue_file_missing(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot be read: No such file or directory"):
        load_catalogue(tmp_path / "programs.toml")


def test_catalogue_numbers(tmp_path: Path) -> None:
    (tmp_path / "programs.toml").write_text(
        ARGUMENT + "type = 'number'\nminimum = 1\nchoices = [1, 2.5]\ndefault = 1\n"
    )

    (entry,) = load_catalogue(tmp_path / "programs.toml")
    (argument,) = entry.make("1", "/x/1").parameters

    assert (argument.choices, argument.default, argument.minimum) == (("1", "2.5"), "1", 1)
