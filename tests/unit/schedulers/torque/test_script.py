"""Scripts' directives beside the request: who decides, and what is refused."""

from typing import Any

import pytest
from tests.unit.schedulers.torque.recorded import recorded

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
from hpcq.domain.outputs import UNKNOWN, fill_pattern, place_outputs
from hpcq.schedulers.abilities import SubmissionPlan
from hpcq.schedulers.pbs_family.choices import Choices
from hpcq.schedulers.torque.script import choose
from hpcq.schedulers.torque.submit import build_qsub

KEY = SubmissionKey("hpcq-" + "0" * 32)


def _spec(directory: str = "/work", **fields: Any) -> JobSpec:
    given = {"name": "", "slots": 1, **fields}
    return JobSpec(working_directory=directory, script_file="/s", **given)


def _choose(directives: str, spec: JobSpec | None = None, **environment: str) -> Choices:
    script = "".join(f"#PBS {line}\n" for line in directives.splitlines()).encode()
    return choose(
        spec or _spec(),
        b"#!/bin/bash\n" + script + b"true\n#PBS -N late\n",
        template="nodes={nodes}:ppn={ppn}",
        slots_per_node=None,
        environment=environment,
    )


def _qsub(directives: str, spec: JobSpec | None = None) -> SubmissionPlan:
    spec = spec or _spec()
    return build_qsub(spec, KEY, b"true\n", _choose(directives, spec), job_shell="/bin/bash")


def _words(directives: str, spec: JobSpec | None = None) -> str:
    return " ".join(_qsub(directives, spec).argv)


def test_job_name_of_script_without_request() -> None:
    assert _choose("-N theirs").directives.name == "theirs"
    assert "-N theirs " in _words("-N theirs")
    assert "-N ours " in _words("-N theirs", _spec(name="ours"))
    assert "-N work " in _words("")


@pytest.mark.parametrize(
    ("directive", "option", "spec"),
    [
        ("-q long", "-q long", {}),
        ("-q long", "-q short", {"queue": "short"}),
        ("-A proj", "-A proj", {}),
        ("-A proj", "-A mine", {"account": "mine"}),
        ("-p 5", "-p 5", {}),
        ("-p 5", "-p 7", {"priority": 7}),
        ("-h", "-h", {}),
        ("-m abe -M a@b", "-m abe -M a@b", {}),
        ("-r n", "-r n", {}),
        ("-a 202612312359", "-a 202612312359", {}),
        ("-l walltime=1:00:00", "-l nodes=1:ppn=1,walltime=1:00:00", {}),
        (
            "-l walltime=1:00:00,pmem=1gb",
            "-l nodes=1:ppn=1,walltime=60,pmem=1gb",
            {"wall_time_limit_seconds": 60},
        ),
        ("-l mem=4gb", "-l nodes=1:ppn=1,mem=4gb", {}),
        ("-l mem=4gb", "-l nodes=1:ppn=1,mem=2097152kb", {"memory_limit_bytes": 2 << 30}),
        ("-l nodes=2:ppn=4:bigmem", "-l nodes=2:ppn=4:bigmem", {"slots": 8}),
        ("-l nodes=2:ppn=4,gres=a:1", "-l nodes=1:ppn=6,gres=a:1", {"slots": 6}),
        ("-l procs=6", "-l procs=6", {"slots": 6}),
        ("-l procs=6", "-l nodes=1:ppn=4", {"slots": 4}),
        ("-W umask=022,group_list=x", "-W umask=022 -W group_list=x", {}),
        ("-W depend=afterok:4,umask=022", "-W depend=afterok:4 -W umask=022", {}),
        ("-t 1-5%2", "-t 1-5%2", {}),
        ("-t 1-5%2", "-t 0-3", {"array": ArrayRange(first=0, last=3)}),
    ],
)
def test_directives_without_request(directive: str, option: str, spec: dict[str, Any]) -> None:
    words = f"{_words(directive, _spec(**spec))} "
    assert f" {option} " in words
    assert words.count(f" {option.split()[0]} ") == option.count(option.split()[0])


def test_dependency_of_request_over_script() -> None:
    first = Dependency(native_id=NativeId("9"), uid=JobUid.new(), condition=DependencyCondition.ANY)
    words = _words("-W depend=afterok:4,umask=022", _spec(depends_on=(first,)))
    assert words.endswith("-W depend=afterany:9 -W umask=022")


def test_variables_of_request_over_script() -> None:
    spec = _spec(environment={"C": "ours"})
    found = _choose("-v 'A=x,y',B,C=theirs\n-v \"D=a b\"", spec, B="known").variables
    assert found == {"A": "x,y", "B": "known", "D": "a b"}


def test_variable_without_value() -> None:
    with pytest.raises(InvalidSpec, match=r"#PBS -v NOVALUE.*line 2"):
        _choose("-v NOVALUE")


def test_environment_directive_v_dropped() -> None:
    assert "-V" not in _qsub("-V\n-z").argv
    assert "-z" not in _qsub("-V\n-z").argv


def test_arguments_of_script_without_request() -> None:
    assert _choose("-F \"one 'two three'\"").args == ("one", "two three")
    assert _choose('-F "one"', _spec(args=("ours",))).args == ("ours",)


def test_working_directory_of_request_over_script() -> None:
    words = _words("-d /elsewhere\n-w /other")
    assert " -d /work " in words
    assert "/elsewhere" not in words
    assert "/other" not in words


@pytest.mark.parametrize(
    ("directive", "shell"), [("", b"/bin/bash"), ("-S /bin/tcsh", b"/bin/tcsh")]
)
def test_interpreter_of_script_without_shebang(directive: str, shell: bytes) -> None:
    submission = _qsub(directive)
    assert shell in submission.stdin
    assert b"#PBS" not in submission.stdin


@pytest.mark.parametrize(
    ("directive", "named"),
    [
        ("-I", "-I"),
        ("-X", "-X"),
        ("-x", "-x"),
        ("-C #MY", "-C"),
        ("-D /jail", "-D /jail"),
        ("-L tasks=1", "-L tasks=1"),
        ("-P bob", "-P bob"),
        ("-J 1-5", "-J 1-5"),
        ("-W block=true", "-W block=true"),
        ("-W umask=022,block=T", "-W umask=022,block=T"),
        ("-W nonsense", "-W nonsense"),
        ("-S bash", "-S bash"),
        ("-j both", "-j both"),
        ("-Q", "-Q"),
        ("-l nodes=2:ppn=4:bigmem", "-l nodes=2:ppn=4:bigmem"),
        ('-F "\'open"', "-F"),
        ("-N", "-N"),
        ("-v =x", "-v =x"),
    ],
)
def test_directives_unsupported(directive: str, named: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        _choose(f"-m n\n{directive}")
    assert caught.value.field == "scriptFile"
    assert named in caught.value.detail
    assert "line 3" in caught.value.detail


def _files(
    directives: str, spec: JobSpec, task: int | None = None
) -> tuple[str | None, str | None]:
    told = _choose(directives, spec).directives
    outputs = place_outputs(spec, told.stdout, told.stderr, told.task_suffix)
    return (
        fill_pattern(outputs.stdout, NativeId("45"), task),
        fill_pattern(outputs.stderr, NativeId("45"), task),
    )


ARRAY = ArrayRange(first=1, last=2)


@pytest.mark.parametrize(
    ("directives", "fields", "files", "options"),
    [
        ("", {}, ("/work/run.o45", "/work/run.e45"), ""),
        ("-o out -e /e/err", {}, ("/work/out", "/e/err"), "-o /work/out -e /e/err"),
        ("-o out", {"stdout_path": "ours"}, ("/work/ours", "/work/run.e45"), "-o /work/ours"),
        ("", {"stdout_path": "%x"}, ("/work/run", "/work/run.e45"), "-o /work/run"),
        ("", {"stdout_path": "%j"}, ("/work/45", "/work/run.e45"), "-o /dev/null"),
        ("-j oe", {}, ("/work/run.o45", "/work/run.o45"), "-j oe"),
        ("-j eo -e both", {}, ("/work/both", "/work/both"), "-e /work/both -j eo"),
        ("-j oe -e gone", {}, ("/work/run.o45", "/work/run.o45"), "-j oe"),
        ("-j oe", {"stderr_path": "err"}, ("/work/run.o45", "/work/err"), "-e /work/err"),
        (
            "",
            {"stdout_path": "both", "stderr_path": "/work/both"},
            ("/work/both", "/work/both"),
            "-o /work/both -j oe",
        ),
        ("-o vm:/a/out", {}, ("/a/out", "/work/run.e45"), "-o vm:/a/out"),
        ("-k oe", {}, (None, None), "-k oe"),
        ("-o $HOME/out", {}, (None, "/work/run.e45"), "-o $HOME/out"),
        ("-o logs/", {}, (None, "/work/run.e45"), "-o logs/"),
        (
            "-o 'odd out'",
            {},
            ("/work/odd out", "/work/run.e45"),
            "-o /dev/null",
        ),
    ],
)
def test_outputs(
    directives: str,
    fields: dict[str, str],
    files: tuple[str | None, str | None],
    options: str,
) -> None:
    spec = _spec(name="run", **fields)
    assert _files(directives, spec) == files
    assert " ".join(_choose(directives, spec).outputs.options) == options


@pytest.mark.parametrize(
    ("directives", "fields", "files"),
    [
        ("", {"array": ARRAY}, ("/work/run.o45-2", "/work/run.e45-2")),
        ("-t 1-2", {}, ("/work/run.o45-2", "/work/run.e45-2")),
        ("-t 1-2 -o out", {}, ("/work/out-2", "/work/run.e45-2")),
        ("-t 1-2 -j oe", {}, ("/work/run.o45-2", "/work/run.o45-2")),
        ("", {"array": ARRAY, "stdout_path": "a b"}, ("/work/a b-2", "/work/run.e45-2")),
        ("", {"array": ARRAY, "stderr_path": "/dev/null"}, ("/work/run.o45-2", "/dev/null")),
        ("", {"array": ARRAY, "stdout_path": "%a_%j"}, ("/work/2_45", "/work/run.e45-2")),
        ("-t 1-2", {"stdout_path": "%x%j"}, ("/work/run45-2", "/work/run.e45-2")),
    ],
)
def test_outputs_of_array_jobs(
    directives: str, fields: dict[str, Any], files: tuple[str, str]
) -> None:
    assert _files(directives, _spec(name="run", **fields), 2) == files


def test_outputs_in_odd_folder() -> None:
    outputs = _choose("-j oe\n-N theirs", _spec("/PLD +20%Norte")).outputs
    assert outputs.options == ("-o", "/dev/null", "-e", "/dev/null")
    assert outputs.stdout_path == outputs.stderr_path == "theirs.o\0"
    assert _files("", _spec("/PLD +20%Norte", name="run")) == (
        "/PLD +20%Norte/run.o45",
        "/PLD +20%Norte/run.e45",
    )
    assert _choose("-o $X", _spec("/a b")).outputs.stdout == UNKNOWN


def test_directives_as_recorded_qsub() -> None:
    assert recorded("qsub.ok-directives").exit_code == 0
    assert _choose("-N name -l nodes=1:ppn=1\n-j oe").outputs.options == ("-j", "oe")
