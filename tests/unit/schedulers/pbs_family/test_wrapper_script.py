"""Wrapper scripts: what a shell on the node makes of them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpcq.schedulers.pbs_family.wrapper_script import ARRAY_INDEX, JOB_NUMBER, build_wrapper
from hpcq.schedulers.testing.contract.hostile import values
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

SHELLS = ["/bin/sh", "/bin/bash"]
RECORD = """#!/usr/bin/python3 -I
import os, sys
open("argv", "wb").write(b"".join(os.fsencode(arg) + b"\\0" for arg in sys.argv[1:]))
open("environ", "wb").write(open("/proc/self/environ", "rb").read())
"""
NAMES = ["PLAIN", "LD_PRELOAD_X", "PWD_", "OPTIND", "RANDOM", "UID", "IFS", "PS4", "BASH_FUNC"]


def _run(
    tmp_path: Path,
    wrapper: bytes,
    *,
    shell: str = "/bin/sh",
    by: str = "file",
    **variables: str,
) -> subprocess.CompletedProcess[bytes]:
    path = tmp_path / "45.SC"
    path.write_bytes(wrapper)
    path.chmod(0o700)
    argv, stdin = {
        "file": ([shell, str(path)], b""),
        "stdin": ([shell], wrapper),
        "name": ([shell], f"{path}\n".encode()),
    }[by]
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "PBS_JOBID": "45.vm"}
    environment |= variables
    return subprocess.run(
        argv,
        input=stdin,
        env=environment,
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def _study(tmp_path: Path) -> Path:
    study = tmp_path / "the $(study)\n"
    study.mkdir()
    return study


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("by", ["file", "stdin", "name"])
def test_wrapper_arguments_and_variables(tmp_path: Path, shell: str, by: str) -> None:
    study = _study(tmp_path)
    canary = tmp_path / "canary"
    args = ["", *values(str(canary)), "\n\n", "it's", "", "é" * 9000, "y" * 100_000, ""]
    environment = dict.fromkeys(NAMES, "odd 'value'\n") | {
        f"V{n}": value for n, value in enumerate(values(str(canary)))
    }
    wrapper = build_wrapper(RECORD.encode(), args, environment, directory=str(study))
    done = _run(tmp_path, wrapper, shell=shell, by=by)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (study / "argv").read_bytes().decode().split("\0")[:-1] == args
    arrived = (study / "environ").read_bytes().decode().split("\0")
    for name, value in environment.items():
        assert f"{name}={value}" in arrived
    assert not canary.exists()


def test_wrapper_no_injected_directives(tmp_path: Path) -> None:
    odd = "x\n#PBS -o /tmp/x\r\n" + "é"
    wrapper = build_wrapper(RECORD.encode(), [odd], {"ODD": odd}, directory=f"/{odd}")
    assert wrapper.isascii()
    assert b"\r" not in wrapper
    assert not [line for line in wrapper.split(b"\n")[1:] if line.startswith(b"#")]
    assert max(map(len, wrapper.split(b"\n"))) < 1100


def test_wrapper_script_unchanged(tmp_path: Path) -> None:
    script = b"#!/bin/cat\n#PBS -l nodes=1\n\n#PBS -m abe\ntrue\n"
    wrapper = build_wrapper(script, [], {}, directory="/")
    assert b"\n#PBS" not in wrapper
    assert _run(tmp_path, wrapper).stdout == script


@pytest.mark.parametrize(
    ("default", "variables", "said"),
    [
        ("/bin/bash", {}, b"bash"),
        ("/bin/sh", {"SHELL": "/bin/bash"}, b""),
        (None, {"SHELL": "/bin/bash"}, b"bash"),
        (None, {}, b""),
    ],
)
def test_wrapper_script_without_interpreter(
    tmp_path: Path, default: str | None, variables: dict[str, str], said: bytes
) -> None:
    script = b'#PBS -S /bin/tcsh\nprintf "${BASH_VERSION:+bash}"\n'
    wrapper = build_wrapper(script, [], {}, directory="/", default_shell=default)
    assert _run(tmp_path, wrapper, **variables).stdout == said


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (b"exit 3\n", 3),
        (b"", 0),
        (b"#!/no/such/interpreter\nexit 3\n", 127),
        (b"#!/usr/bin/env python3\nimport sys; sys.exit(len(sys.argv))\n", 2),
        (b"#! /bin/sh -e \nfalse\n", 1),
        (b"#!/bin/sh\r\nexit 4\n", 4),
        (b"read line; exit $?", 1),
        (b"kill -9 $$", -9),
    ],
)
def test_wrapper_script_as_kernel(tmp_path: Path, script: bytes, status: int) -> None:
    done = _run(tmp_path, build_wrapper(script, ["a"], {}, directory="/"))
    assert done.returncode == status


def test_wrapper_program(tmp_path: Path) -> None:
    program = Path("/bin/echo").read_bytes()
    done = _run(tmp_path, build_wrapper(program, ["a", ""], {"A": "b"}, directory="/"))
    assert (done.returncode, done.stdout) == (0, b"a \n")


@pytest.mark.parametrize("shell", SHELLS)
def test_wrapper_hyphens(tmp_path: Path, shell: str) -> None:
    args = ["é" + "-n" * 300, "é" + "x" + "-n" * 300, "-é"]
    script = b"printf '%s\\n' \"$@\" # " + b"-" * 600
    done = _run(tmp_path, build_wrapper(script, args, {}, directory="/"), shell=shell)
    assert (done.stdout.decode().splitlines(), done.stderr) == (args, b"")


def test_wrapper_no_files_left(tmp_path: Path) -> None:
    script = f"#!{sys.executable}\nimport os\nos.kill(os.getpid(), 9)\n".encode()
    _run(tmp_path, build_wrapper(script, [], {}, directory="/"))
    assert [path.name for path in tmp_path.iterdir()] == ["45.SC"]


def test_wrapper_outputs_named_after_job(tmp_path: Path) -> None:
    study = _study(tmp_path)
    wrapper = build_wrapper(
        b"echo out; echo err >&2",
        [],
        {},
        directory=str(study),
        stdout_path=f"o 'é'.o{JOB_NUMBER}",
        stderr_path=f"{tmp_path}/err",
    )
    assert _run(tmp_path, wrapper).returncode == 0
    assert (study / "o 'é'.o45").read_text() == "out\n"
    assert (tmp_path / "err").read_text() == "err\n"


def test_wrapper_outputs_of_array(
    tmp_path: Path,
) -> None:
    study, home = _study(tmp_path), tmp_path / "home"
    home.mkdir()
    wrapper = build_wrapper(
        b"echo out\n",
        (),
        {},
        directory=str(study),
        stdout_path=f"run.o{JOB_NUMBER}-{ARRAY_INDEX}",
        stderr_path=f"odd path{ARRAY_INDEX}{JOB_NUMBER}",
        task_variable="PBS_ARRAYID",
        sweeps_home=True,
    )
    path = tmp_path / "45.SC"
    path.write_bytes(wrapper)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PBS_JOBID": "45[7].vm"}
    environment |= {"PBS_ARRAYID": "7"}
    with (home / "run.o45-7").open("wb") as out, (home / "run.e45-7").open("wb") as err:
        err.write(b"said before")
        err.flush()
        subprocess.run(["/bin/sh", path], env=environment, stdout=out, stderr=err, check=True)
    assert (study / "run.o45-7").read_text() == "out\n"
    assert (study / "odd path745").read_text() == ""
    assert [path.name for path in home.iterdir()] == ["run.e45-7"]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_wrapper_large_program(tmp_path: Path, shell: str) -> None:
    wrapper = build_wrapper(b"exit 6\n" + bytes(1_000_000), (), {}, directory=str(tmp_path))
    path = tmp_path / "wrapper"
    path.write_bytes(wrapper)
    limited = ["/bin/sh", "-c", f"ulimit -s 256; exec {shell} {path}"]
    assert subprocess.run(limited, env={"PATH": "/usr/bin:/bin"}, check=False).returncode == 6


@pytest.mark.parametrize(("directory", "stdout"), [("/no/such", None), ("/", "/no/such/out")])
def test_wrapper_directory_or_output_not_accessible(
    tmp_path: Path, directory: str, stdout: str | None
) -> None:
    wrapper = build_wrapper(b"echo ran", [], {}, directory=directory, stdout_path=stdout)
    done = _run(tmp_path, wrapper)
    assert done.returncode != 0
    assert b"ran" not in done.stdout


def test_wrapper_outputs_of_each_task(tmp_path: Path) -> None:
    wrapper = build_wrapper(
        b"echo out; echo err >&2\n",
        [],
        {},
        directory=str(tmp_path),
        stdout_path=f"my $out.{ARRAY_INDEX}",
        stderr_path=f"e{JOB_NUMBER}.{ARRAY_INDEX}",
        task_variable="PBS_ARRAY_INDEX",
    )
    environment = {"PATH": "/usr/bin:/bin", "PBS_JOBID": "45[2].vm", "PBS_ARRAY_INDEX": "2"}
    subprocess.run(
        ["/bin/sh"], input=wrapper, env=environment, check=True, timeout=PATIENCE_SECONDS
    )
    assert (tmp_path / "my $out.2").read_text() == "out\n"
    assert (tmp_path / "e45.2").read_text() == "err\n"


def _watched(
    tmp_path: Path, script: bytes, awk: str | None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a wrapper that tells signals, as Torque does: by a shell that reads its name."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("mktemp", "chmod", "rm", "readlink"):
        (commands / name).symlink_to(shutil.which(name) or name)
    if awk is not None:
        (commands / "awk").symlink_to(awk)
    path = tmp_path / "45.SC"
    path.write_bytes(build_wrapper(script, ["a b"], {"V": "x\ny"}, directory="/", signal_offset=34))
    path.chmod(0o700)
    return subprocess.run(
        ["/bin/sh"],
        input=f"{path}\n".encode(),
        env={"PATH": str(commands), "TMPDIR": str(tmp_path), "PBS_JOBID": "45.vm", **variables},
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        start_new_session=True,
    )


_AWKS = [awk for awk in map(shutil.which, ("gawk", "mawk")) if awk is not None]
_DIES = b"#!/bin/sh\nulimit -c 0\nprintf '%%s' \"$1$V\"\nkill -%d $$\n"


@pytest.mark.parametrize("awk", [*_AWKS, None])
@pytest.mark.parametrize("status", [0, 3, 126, 128, 137, 143, 255])
def test_wrapper_exit_status(tmp_path: Path, awk: str | None, status: int) -> None:
    script = b"printf '%%s' \"$1$V\"; [ ! -e /proc/self/fd/8 ] || exit 9; exit %d\n" % status
    done = _watched(tmp_path, script, awk)
    assert (done.returncode, done.stdout) == (status, b"a bx\ny")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["45.SC", "commands"]


@pytest.mark.parametrize("awk", _AWKS)
@pytest.mark.parametrize("number", [1, 6, 9, 10, 11, 15])
def test_wrapper_signal_not_exit_status(tmp_path: Path, awk: str, number: int) -> None:
    done = _watched(tmp_path, _DIES % number, awk)
    assert (done.returncode, done.stdout) == (-(34 + number), b"a bx\ny")


@pytest.mark.parametrize(("awk", "variables"), [(None, {}), (_AWKS[0], {"POSIXLY_CORRECT": ""})])
def test_wrapper_signal_as_shell(
    tmp_path: Path, awk: str | None, variables: dict[str, str]
) -> None:
    assert _watched(tmp_path, _DIES % 9, awk, **variables).returncode == 137


def test_wrapper_first_process(tmp_path: Path) -> None:
    path = tmp_path / "45.SC"
    path.write_bytes(build_wrapper(_DIES % 9, ["a"], {}, directory="/", signal_offset=34))
    done = subprocess.run(
        ["/bin/sh", path],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout) == (-9, b"a")
