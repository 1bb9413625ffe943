"""Directives of a script beside a request: who wins, and what is refused."""

from dataclasses import replace
from itertools import pairwise

import pytest

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import (
    ArrayRange,
    Dependency,
    DependencyCondition,
    JobSpec,
    JobUid,
    NativeId,
    SubmissionKey,
)
from hpcq.domain.outputs import UNKNOWN
from hpcq.schedulers.pbs import submit
from hpcq.schedulers.pbs.script import choose
from hpcq.schedulers.pbs_family.choices import Choices

_KEY = SubmissionKey("hpcq-00000000000000000000000000000001")
_SILENT = JobSpec(name="", working_directory="/study/case", script_file="/study/s.sh")
_SELECT = "select=1:ncpus={slots}{memory}"
_ENVIRONMENT = {"HOME": "/home/ana"}


def _choose(directives: str, spec: JobSpec = _SILENT, resources: str = _SELECT) -> Choices:
    script = f"#!/bin/sh\n{directives}\necho\n".encode()
    return choose(spec, script, resources, _ENVIRONMENT)


def _argv(directives: str, spec: JobSpec = _SILENT) -> list[str]:
    choices = _choose(directives, spec)
    return list(submit.build_qsub(spec, choices, _KEY, key_is_account=False))


def _all(argv: list[str], option: str) -> list[str]:
    return [value for word, value in pairwise(argv) if word == option]


# ---- what the script says stands where the request is silent


@pytest.mark.parametrize(
    ("directive", "options"),
    [
        ("#PBS -N mine", ["-N", "mine"]),
        ("#PBS -q long", ["-q", "long"]),
        ("#PBS -A p1", ["-A", "p1"]),
        ("#PBS -p -5", ["-p", "-5"]),
        ("#PBS -h", ["-h"]),
        ("#PBS -J 1-4:3%2", ["-J", "1-4:3%2"]),
        ("#PBS -l walltime=1:00:00", ["-l", "walltime=1:00:00"]),
        ("#PBS -l place=scatter:excl", ["-l", "place=scatter:excl"]),
        ("#PBS -W depend=afterok:1.s:2.s,afterany:3", ["-W", "depend=afterok:1.s:2.s,afterany:3"]),
        ("#PBS -W group_list=g,umask=022", ["-W", "group_list=g", "-W", "umask=022"]),
        ("#PBS -m abe -M ana@example.org", ["-m", "abe", "-M", "ana@example.org"]),
        ("#PBS -r n", ["-r", "n"]),
        ("#PBS -o out.txt", ["-o", "/study/case/out.txt"]),
        ("#PBS -e /x/err.txt", ["-e", "/x/err.txt"]),
        ("#PBS -j oe", ["-j", "oe"]),
        ("  #PBS -Nmine", ["-N", "mine"]),
        ("#PBS -N mine # the name", ["-N", "mine"]),
        ("#PBS -A 'acc \"ount'", ["-A", 'acc "ount']),
        ("#PBS \\\n#PBS -N mine", ["-N", "mine"]),
        ("# a comment\n\n: not a command\n#PBS -N mine", ["-N", "mine"]),
    ],
)
def test_script_option_kept(directive: str, options: list[str]) -> None:
    assert f" {' '.join(options)} " in f" {' '.join(_argv(directive))} "


@pytest.mark.parametrize(
    ("directive", "request_", "option", "values"),
    [
        ("#PBS -N mine", replace(_SILENT, name="theirs"), "-N", ["theirs"]),
        ("#PBS -q long", replace(_SILENT, queue="short"), "-q", ["short"]),
        ("#PBS -A p1", replace(_SILENT, account="p2"), "-A", ["p2"]),
        ("#PBS -p 5", replace(_SILENT, priority=0), "-p", ["0"]),
        ("#PBS -J 1-9", replace(_SILENT, array=ArrayRange(first=1, last=2)), "-J", ["1-2"]),
        (
            "#PBS -l walltime=9:00:00",
            replace(_SILENT, wall_time_limit_seconds=60),
            "-l",
            ["select=1:ncpus=1", "walltime=0:01:00"],
        ),
        (
            "#PBS -l mem=9gb",
            replace(_SILENT, memory_limit_bytes=1 << 30),
            "-l",
            ["select=1:ncpus=1:mem=1048576kb"],
        ),
        ("#PBS -o a.txt", replace(_SILENT, stdout_path="/b.txt"), "-o", ["/b.txt"]),
        ("#PBS -e a.txt", replace(_SILENT, stderr_path="/b.txt"), "-e", ["/b.txt"]),
        (
            "#PBS -W depend=afterok:1,umask=022",
            replace(
                _SILENT,
                depends_on=(
                    Dependency(
                        native_id=NativeId("7"),
                        uid=JobUid.new(),
                        condition=DependencyCondition.ANY,
                    ),
                ),
            ),
            "-W",
            ["depend=afterany:7", "umask=022"],
        ),
    ],
)
def test_script_option_overridden_by_request(
    directive: str, request_: JobSpec, option: str, values: list[str]
) -> None:
    assert _all(_argv(directive, request_), option) == values


# ---- what cannot be honoured is named


@pytest.mark.parametrize(
    ("directive", "named"),
    [
        ("#PBS -I", "#PBS -I"),
        ("#PBS -I -X", "#PBS -I"),
        ("#PBS -W block=true", "#PBS -W block=true"),
        ("#PBS -W umask=022,block=true", "#PBS -W umask=022,block=true"),
        ("#PBS -C '#X'", "#PBS -C '#X'"),
        ("#PBS -W nothing", "#PBS -W nothing"),
        ("#PBS -j both", "#PBS -j both"),
        ("#PBS -t 1-4", "-t"),
        ("#PBS --version", "--version"),
        ("#PBS -N", "-N"),
        ("#PBS -l walltime=1 s.sh", "s.sh"),
        ("#PBS -v NOT_SET_ANYWHERE", "#PBS -v NOT_SET_ANYWHERE"),
        ("#PBS -v =x", "#PBS -v =x"),
        ("#PBS -S bash", "#PBS -S bash"),
        ("#PBS -l mem=lots", "#PBS -l mem=lots"),
        ("#PBS -l select=2:ncpus=4:ngpus=1", "#PBS -l select=2:ncpus=4:ngpus=1"),
    ],
)
def test_script_option_unsupported(directive: str, named: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        _choose(f"# first\n{directive}")
    assert caught.value.field == "scriptFile"
    assert repr(named) in str(caught.value)
    assert "line 3" in str(caught.value)


def test_script_quotation_unclosed() -> None:
    with pytest.raises(InvalidSpec) as caught:
        _choose("#PBS -N 'mine")
    assert caught.value.field == "scriptFile"
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize("directive", ["#PBS -f", "#PBS -z", "#PBS -V", "#PBS -W block=false"])
def test_script_option_for_qsub_ignored(directive: str) -> None:
    assert _argv(directive) == _argv("")


@pytest.mark.parametrize("late", ["echo\n#PBS -I", "true; #PBS -I", "#!/bin/sh\nexit\n#PBS -I"])
def test_script_directive_after_command(late: str) -> None:
    assert _argv(late) == _argv("")


def test_script_directive_prefix_of_account() -> None:
    script = b"#!/bin/sh\n#X -N mine\n#PBS -N other\n"
    assert choose(_SILENT, script, _SELECT, {"PBS_DPREFIX": "#X"}).named_by_script == "mine"


# ---- variables and the interpreter


@pytest.mark.parametrize(
    ("directive", "variables"),
    [
        ("#PBS -v A=1,B=2", {"A": "1", "B": "2"}),
        ("#PBS -v A='x,y',B=\"it's\"", {"A": "x,y", "B": "it's"}),
        ("#PBS -v A='x y',B=", {"A": "x y", "B": ""}),
        ("#PBS -v HOME", {"HOME": "/home/ana"}),
        ("#PBS -v A=1\n#PBS -v B=2", {"A": "1", "B": "2"}),
        ("#PBS -v A=a=b", {"A": "a=b"}),
    ],
)
def test_script_variables(directive: str, variables: dict[str, str]) -> None:
    assert _choose(directive).variables == variables


def test_script_variable_overridden_by_request() -> None:
    spec = replace(_SILENT, environment={"A": "theirs", "C": "3"})
    assert _choose("#PBS -v A=mine,B=2,C", spec).variables == {"B": "2"}


def test_script_shell_directive() -> None:
    script = b"#PBS -S /bin/csh\necho $0\n"
    choices = choose(_SILENT, script, _SELECT, {})
    argv = submit.build_qsub(_SILENT, choices, _KEY, key_is_account=False)
    assert "-S" not in argv
    assert b"'/bin/csh'" in submit.build_stdin(_SILENT, choices, script)


def test_script_without_interpreter() -> None:
    choices = choose(_SILENT, b"echo\n", _SELECT, {})
    assert b'"${SHELL:-/bin/sh}"' in submit.build_stdin(_SILENT, choices, b"echo\n")
    assert b"'/bin/bash'" in submit.build_stdin(_SILENT, choices, b"echo\n", "/bin/bash")
    with_one = submit.build_stdin(_SILENT, choices, b"#!/bin/ksh\n", "/bin/bash")
    assert b"'/bin/ksh'" in with_one
    assert b"/bin/bash" not in with_one


@pytest.mark.parametrize(
    ("login_shell", "told"), [("/bin/tcsh", True), ("/bin/bash", False), (None, False)]
)
def test_wrapper_shell_by_login_shell(login_shell: str | None, told: bool) -> None:
    choices = _choose("")
    argv = submit.build_qsub(_SILENT, choices, _KEY, key_is_account=False, login_shell=login_shell)
    assert (("-S", "/bin/sh") in pairwise(argv)) is told


# ---- slots and memory


@pytest.mark.parametrize(
    ("directive", "slots", "requests"),
    [
        ("-l select=2:ncpus=4", 8, ["select=2:ncpus=4"]),
        ("-l select=2:ncpus=4:mem=8gb:ngpus=1", 8, ["select=2:ncpus=4:mem=8gb:ngpus=1"]),
        ("-l nodes=2:ppn=4", 8, ["nodes=2:ppn=4"]),
        ("-l select=2:ncpus=4", 4, ["select=1:ncpus=4"]),
        ("-l select=1:ncpus=8:mem=8gb:ngpus=1", 4, ["select=1:ncpus=4:mem=8gb:ngpus=1"]),
        ("-l ncpus=16", 4, ["select=1:ncpus=4"]),
        ("-l mem=1gb", 4, ["select=1:ncpus=4:mem=1048576kb"]),
        ("-l cput=10,pcput=5", 1, ["select=1:ncpus=1", "cput=10", "pcput=5"]),
    ],
)
def test_script_resources_beside_slots(directive: str, slots: int, requests: list[str]) -> None:
    spec = replace(_SILENT, slots=slots)
    assert _all(_argv(f"#PBS {directive}", spec), "-l") == requests


# ---- outputs


@pytest.mark.parametrize(
    ("directive", "request_", "patterns"),
    [
        ("", {}, ("case.o%j", "case.e%j")),
        ("", {"name": "a b"}, ("a_b.o%j", "a_b.e%j")),
        ("", {"working_directory": "/50%/x"}, ("x.o%j", "x.e%j")),
        ("#PBS -o out", {}, ("/study/case/out", "case.e%j")),
        ("#PBS -o host:/x/out", {}, ("/x/out", "case.e%j")),
        ("#PBS -o 100%", {}, ("/study/case/100%%", "case.e%j")),
        ("#PBS -o logs/", {}, (UNKNOWN, "case.e%j")),
        ("#PBS -o $HOME/x", {}, (UNKNOWN, "case.e%j")),
        ("#PBS -j oe", {}, ("case.o%j",) * 2),
        ("#PBS -j eo", {}, ("case.e%j",) * 2),
        ("#PBS -j oe -o all", {}, ("/study/case/all",) * 2),
        ("#PBS -o all -e all", {}, ("/study/case/all",) * 2),
        ("#PBS -j oe", {"stderr_path": "/e"}, ("case.o%j", "/e")),
        ("#PBS -j oe", {"stdout_path": "/o"}, ("/o", "/o")),
        ("#PBS -k oe", {}, (UNKNOWN, UNKNOWN)),
        ("#PBS -k oe", {"stdout_path": "/o"}, ("/o", UNKNOWN)),
        ("#PBS -k doe", {}, ("case.o%j", "case.e%j")),
        ("#PBS -J 1-3", {}, ("case.o%j.%a", "case.e%j.%a")),
        ("#PBS -J 1-3 -o o.^array_index^", {}, ("/study/case/o.%a", "case.e%j.%a")),
        ("#PBS -J 1-3 -o o", {}, (UNKNOWN, "case.e%j.%a")),
        ("#PBS -J 1-3", {"stdout_path": "/o"}, ("/o.%a", "case.e%j.%a")),
    ],
)
def test_script_output_pattern(
    directive: str, request_: dict[str, str], patterns: tuple[str, str]
) -> None:
    spec = replace(_SILENT, **request_)  # type: ignore[arg-type]
    told = _choose(directive, spec).directives
    assert (told.stdout, told.stderr) == patterns


def test_script_output_written_by_wrapper() -> None:
    choices = _choose("#PBS -o 'out file' -j oe")
    assert _all(_argv("#PBS -o 'out file' -j oe"), "-o") == ["/dev/null"]
    wrapper = submit.build_stdin(_SILENT, choices, b"#!/bin/sh\n")
    assert b"exec > '/study/case/out file' 2>&1 ||" in wrapper
    assert choices.directives.stderr == "/study/case/out file"


def test_output_paths_same_file() -> None:
    spec = replace(_SILENT, stdout_path="all.txt", stderr_path="/study/case/all.txt")
    argv = _argv("", spec)
    assert _all(argv, "-j") == ["oe"]
    assert (_all(argv, "-o"), _all(argv, "-e")) == (["/study/case/all.txt"], [])


def test_output_paths_same_file_in_wrapper() -> None:
    spec = replace(_SILENT, stdout_path="a b", stderr_path="a b")
    choices = _choose("", spec)
    wrapper = submit.build_stdin(spec, choices, b"#!/bin/sh\n")
    assert b"exec > '/study/case/a b' 2>&1 ||" in wrapper
