"""The wrapper, run by the machine's own shell as Slurm would run it."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcq.schedulers.slurm.wrapper_script import build_wrapper

PRINTS = b"""#!/usr/bin/env -S python3 -S
#SBATCH --time=1
import os, sys
def show(items):
    sys.stdout.buffer.write(b"".join(os.fsencode(item) + b"\\0" for item in items))
show(sys.argv[1:])
show(["--"])
show(f"{n}={v}" for n, v in os.environ.items())
"""


def run(
    folder: Path,
    environment: dict[str, str],
    *args: str,
    given: dict[str, str] | None = None,
    script: bytes = PRINTS,
    **outputs: str | bool,
) -> tuple[list[str], dict[str, str]]:
    path = folder / "slurm_script"
    path.write_bytes(build_wrapper(script, environment, **outputs))  # type: ignore[arg-type]
    path.chmod(0o700)
    done = subprocess.run(
        [str(path), *args],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), **(given or {})},
        capture_output=True,
        check=True,
        cwd=folder,
    )
    assert [file.name for file in folder.iterdir() if file.name.startswith("hpcq.")] == []
    shown, _, rest = os.fsdecode(done.stdout).partition("--\0")
    variables = (entry.partition("=")[::2] for entry in rest.split("\0") if entry)
    return shown.split("\0")[:-1], dict(variables)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a b",
        "'",
        '"',
        "$(touch x)`id`",
        "new\n#SBATCH --wait\nline",
        "a\r\nb",
        "\\n",
        "é😀",
        "-",
    ],
)
def test_wrapper_variable_bytes(tmp_path: Path, value: str) -> None:
    names = ("LD_LIBRARY_PATH", "SBATCH_PARTITION", "odd name", "SLURM_CLUSTERS", "é")
    wanted = dict.fromkeys(names, value)
    args, got = run(tmp_path, wanted, "a b", "", "new\nline")
    assert {name: got.get(name) for name in names} == wanted
    assert args == ["a b", "", "new\nline"]
    assert not [name for name in got if name.startswith("_hpcq")]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_wrapper_any_value(tmp_path: Path, value: str) -> None:
    assert run(tmp_path, {"SLURM_X": value, "LD_X": value})[1]["LD_X"] == value


def test_wrapper_variables_set_by_slurm(tmp_path: Path) -> None:
    wanted = {"SLURM_JOB_ID": "7", "SLURM_CONF": "/mine", "SLURM_CLUSTERS": "x"}
    got = run(tmp_path, wanted, given={"SLURM_JOB_ID": "12", "SLURM_CONF": "/site"})[1]
    assert (got["SLURM_JOB_ID"], got["SLURM_CONF"], got["SLURM_CLUSTERS"]) == ("12", "/mine", "x")


def test_wrapper_directives_first() -> None:
    lines = build_wrapper(PRINTS, {"LD_X": "\n#SBATCH --wait\n"}).split(b"\n")
    assert lines[:2] == [b"#!/bin/sh", b"#SBATCH --time=1"]
    assert lines[2:].index(b"#SBATCH --time=1") > 0
    assert b"#SBATCH --wait" not in lines
    assert b"\r" not in build_wrapper(PRINTS, {"LD_X": "a\r\nb"})


def test_wrapper_outputs_in_odd_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a\\b %j"
    folder.mkdir()
    script = b"#!/bin/sh\necho out; echo err >&2\n"
    pattern = f"{str(folder).replace('%', '%%')}/demo.o%j"
    given = {"SLURM_JOB_ID": "45"}
    run(tmp_path, {}, script=script, given=given, stdout=pattern, stderr=pattern)
    assert (folder / "demo.o45").read_text() == "out\nerr\n"


def test_wrapper_outputs_of_array_tasks(tmp_path: Path) -> None:
    given = {"SLURM_JOB_ID": "46", "SLURM_ARRAY_JOB_ID": "45", "SLURM_ARRAY_TASK_ID": "3"}
    script = b"#!/bin/sh\necho out; echo err >&2\n"
    patterns = {"stdout": f"{tmp_path}/o%j.%a", "stderr": f"{tmp_path}/e%j.%a"}
    run(tmp_path, {}, script=script, given=given, is_array=True, **patterns)
    assert (tmp_path / "o45.3").read_text() == "out\n"
    assert (tmp_path / "e45.3").read_text() == "err\n"
