"""The script's own options, and where they put its output."""

from pathlib import Path

import pytest

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec
from hpcq.domain.outputs import UNKNOWN
from hpcq.schedulers.sge.outputs import place_outputs
from hpcq.schedulers.sge.script import ScriptOptions, read_options

ACCOUNT = {"HOME": "/home/100%", "USER": "alice", "PATH": "/bin"}


def test_read_options_all() -> None:
    script = b"""#!/bin/bash
#$ -N case -j yes # a comment
#$ -t 1-10 -tc 2
echo work
#$ -o "/logs/a b" -e err.txt
#$ -pe mpi 4-8 -S /bin/bash -V
#$ -p -100 -l h_rt=1:0:0 -hold_jid 7 -m be -cwd
"""
    assert read_options(script) == ScriptOptions(
        name="case",
        stdout="/logs/a b",
        stderr="err.txt",
        joins=True,
        is_array=True,
        parallel_environment="mpi",
        interpreter="/bin/bash",
        takes_environment=True,
    )


def test_read_options_without_directives() -> None:
    assert read_options(b"#!/bin/sh\n# $ -N x\n #$ -N x\necho '#$ -N x'\n") == ScriptOptions()


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("#$ -sync y", "-sync y"),
        ("#$ -N x -verify", "-verify"),
        ("#$ -w v", "-w v"),
        ("#$ -b y", "-b y"),
        ("#$ -A mine", "-A mine"),
        ("#$ -sc a=b", "-sc a=b"),
        ("#$ -ac hpcq_key=hpcq-x", "-ac hpcq_key=hpcq-x"),
        ("#$ -@ options.txt", "-@ options.txt"),
    ],
)
def test_directive_unsupported(line: str, option: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        read_options(f"#!/bin/sh\n\n{line}\n".encode())
    assert refused.value.field == "scriptFile"
    assert f"'{option}' (line 3)" in refused.value.detail


@pytest.mark.parametrize(
    "line", ["-sync n", "-b n", "-w e", "-ac x=y", "-h", "-hold_jid 3", "-r y"]
)
def test_directive_supported(line: str) -> None:
    assert read_options(f"#$ {line}\n".encode()) == ScriptOptions()


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        (None, "case.o%j"),
        ("/logs/out", "/logs/out"),
        ("logs/$JOB_NAME.$JOB_ID", "logs/case.%j"),
        ("$HOME/50%/$USER", "/home/100%%/50%%/alice"),
        ("a$$b$$HOME", "a$b$HOME"),
        (":/logs/a:b", "/logs/a:b"),
        ("/logs/", "/logs/case.o%j"),
        ("$TASK_ID", "0"),
        ("node7:/logs/out", UNKNOWN),
        ("$HOSTNAME.txt", UNKNOWN),
        ("/a,/b", UNKNOWN),
        ("${HOME}/x$ARC", "${HOME}/x$ARC"),  # as it is, on 8.1.9
    ],
)
def test_output_path_of_script(path: str | None, pattern: str) -> None:
    spec = JobSpec(name="", working_directory="/nonexistent", script_file="/job.sh")
    stdout, _ = place_outputs(spec, "case", ScriptOptions(stdout=path), ACCOUNT)
    assert stdout == pattern


def test_output_path_existing_directory(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    spec = JobSpec(name="", working_directory=str(tmp_path), script_file="/job.sh")
    options = ScriptOptions(stdout="logs", stderr=str(tmp_path / "logs"))
    assert place_outputs(spec, "case", options, ACCOUNT) == (
        "logs/case.o%j",
        f"{tmp_path}/logs/case.e%j",
    )


def test_output_path_of_array_task() -> None:
    spec = JobSpec(name="", working_directory="/w", script_file="/job.sh")
    options = ScriptOptions(is_array=True, stderr="$JOB_ID.$TASK_ID")
    assert place_outputs(spec, "case", options, ACCOUNT) == ("case.o%j.%a", "%j.%a")


@pytest.mark.parametrize(
    ("asked", "stderr"),
    [
        ({}, "case.o%j"),
        ({"stdout_path": "/w/50%"}, "/w/50%%"),
        ({"stderr_path": "/w/e"}, "/w/e"),
    ],
)
def test_output_joined(asked: dict[str, str], stderr: str) -> None:
    spec = JobSpec(name="", working_directory="/w", script_file="/job.sh", **asked)  # type: ignore[arg-type]
    assert place_outputs(spec, "case", ScriptOptions(joins=True), ACCOUNT)[1] == stderr
