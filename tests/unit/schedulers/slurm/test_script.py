"""Options that a script gives itself: honoured, or refused by name."""

from dataclasses import replace

import pytest

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import ArrayRange, JobSpec, SubmissionKey
from hpcq.domain.outputs import UNKNOWN
from hpcq.schedulers.base import ScriptDirectives
from hpcq.schedulers.slurm import submit
from hpcq.schedulers.slurm.script import read_options

KEY = SubmissionKey("hpcq-00000000000000000000000000000001")
SPEC = JobSpec(name="", working_directory="/srv/study", script_file="/srv/job.sh")


def script(*directives: str) -> bytes:
    return "\n".join(["#!/bin/bash", *directives, "true", "#SBATCH --wait", ""]).encode()


def decide(*directives: str, **fields: object) -> ScriptDirectives:
    spec = replace(SPEC, **fields)  # type: ignore[arg-type]
    return submit.directives_of(spec, script(*directives), {"USER": "me"})


def options(*directives: str, **fields: object) -> set[str]:
    spec = replace(SPEC, **{"name": "demo", **fields})  # type: ignore[arg-type]
    argv = submit.build_sbatch(spec, KEY, script(*directives), account={"USER": "me"}).argv
    return set(argv[: argv.index("--")])


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("#SBATCH --output=a.log", "output", "a.log"),
        ("#SBATCH --output a.log", "output", "a.log"),
        ("#SBATCH --out=a.log", "output", "a.log"),
        ("#SBATCH -oa.log", "output", "a.log"),
        ("#SBATCH -o a.log # comment", "output", "a.log"),
        ('#SBATCH -p debug -o "a b.log"', "output", "a b.log"),
        ("#SBATCH -H -Jname", "job-name", "name"),
        ("#SBATCH -HJ name", "job-name", "name"),
        ("#SBATCH --nice -5 -J name", "job-name", "name"),
        ("#SBATCH --wait", "wait", ""),
        ("#SBATCH --mem-per-c=1G", "mem-per-cpu", "1G"),
        # sbatch reads those of other schedulers too (seen in 22.05).
        ("#PBS -N name", "job-name", "name"),
        ("#BSUB -J name", "job-name", "name"),
    ],
)
def test_read_options_as_sbatch(line: str, name: str, value: str) -> None:
    assert read_options(script(line)).values[name] == value


@pytest.mark.parametrize(
    "line", ["# SBATCH --wait", "#SBATCH --wait-all-nodes=1", "#SBATCH --mem-bind=q", "#PBS -W x"]
)
def test_read_options_other_lines(line: str) -> None:
    assert not read_options(script(line)).values


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("#SBATCH --time=5", True),
        ("#SBATCH -p debug -t 5", True),
        ("#SBATCH --time-min=1", True),
        ("#PBS -l walltime=60", True),
        ("#BSUB -W 5", True),
        ("#SBATCH --threads-per-core=1", False),
    ],
)
def test_directives_time_limit(line: str, asks: bool) -> None:
    assert decide(line).asks_time_limit is asks


def test_read_options_repeated_option() -> None:
    assert read_options(script("#SBATCH -J a", "#SBATCH -J b")).values["job-name"] == "b"


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("#SBATCH --wait", "--wait"),
        ("#SBATCH -W", "--wait"),
        ("#SBATCH --test-only", "--test-only"),
        ("#SBATCH -Q", "--quiet"),
        ("#SBATCH -M other", "--clusters"),
        ("#SBATCH --export-file=x", "--export-file"),
        ("#SBATCH --uid=root", "--uid"),
        ("#SBATCH --cpus-per-task=3", "--cpus-per-task"),
        ("#SBATCH -c many", "--cpus-per-task"),
    ],
)
def test_directives_unsupported_option(line: str, option: str) -> None:
    with pytest.raises(InvalidSpec, match=rf"{option}.*line 3") as caught:
        decide("#SBATCH -p debug", line, slots=4)
    assert caught.value.field == "scriptFile"


def test_cpus_per_task_with_slots() -> None:
    assert "--ntasks=2" in options("#SBATCH --cpus-per-task=4", slots=8)


def test_parsable_ignored() -> None:
    assert "--parsable" in options("#SBATCH --parsable")


def test_directives_name_and_outputs_kept() -> None:
    decided = decide("#SBATCH -J mine -o %x-%j.log -e /var/%u/%%.err")
    assert decided == ScriptDirectives(
        asks_time_limit=False, name="mine", stdout="mine-%j.log", stderr="/var/me/%%.err"
    )
    told = options("#SBATCH -J mine -o %x-%j.log -e /var/%u/%%.err", name="mine")
    assert {"--job-name=mine", "--output=/srv/study/mine-%j.log", "--error=/var/me/%%.err"} <= told


def test_directives_one_output() -> None:
    assert decide("#SBATCH -o a.log") == ScriptDirectives(
        asks_time_limit=False, stdout="a.log", stderr="study.e%j"
    )


def test_directives_overridden_by_request() -> None:
    told = options("#SBATCH -J mine -o a -e b", name="x", stdout_path="out", stderr_path="err")
    assert {"--job-name=x", "--output=/srv/study/out", "--error=/srv/study/err"} <= told


def test_output_pattern_unknown_to_service() -> None:
    assert decide("#SBATCH -o %N-%4j.log").stdout == UNKNOWN
    assert not [option for option in options("#SBATCH -o %N-%4j.log") if "--output" in option]


def test_output_pattern_unknown_folder_escaped() -> None:
    folder = "/srv/PLD +20%Norte"
    told = options("#SBATCH -o %N.log", working_directory=folder)
    assert "--output=/srv/PLD +20%%Norte/%N.log" in told
    with pytest.raises(InvalidSpec, match="backslash"):
        options("#SBATCH -o %N.log", working_directory="/srv/a\\b")


def test_outputs_default_names() -> None:
    assert decide() == ScriptDirectives(
        asks_time_limit=False, stdout="study.o%j", stderr="study.e%j"
    )
    assert decide(name="a/b%") == ScriptDirectives(
        asks_time_limit=False, stdout="a_b%%.o%j", stderr="a_b%%.e%j"
    )


def test_array_of_request_over_script() -> None:
    array = ArrayRange(first=1, last=20, step=2, max_running=5)
    given = options("#SBATCH --array=7", array=array)
    assert [word for word in given if word.startswith("--array")] == ["--array=1-20:2%5"]
    assert not [word for word in options("#SBATCH --array=7") if word.startswith("--array")]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/srv/a%j", "/srv/a%A.%a"),
        ("/srv/%j_%a", "/srv/%A_%a"),
        ("/srv/%%j", "/srv/%%j.%a"),
        ("/dev/null", "/dev/null"),
    ],
)
def test_array_output_paths_of_request(path: str, told: str) -> None:
    array = ArrayRange(first=0, last=3)
    assert f"--output={told}" in options(array=array, stdout_path=path)
    assert {"--array=0-3", "--error=/srv/study/demo.e%A.%a"} <= options(
        array=array, stdout_path=path
    )


def test_array_output_paths_default() -> None:
    decided = decide("#SBATCH --array=1-3")
    assert decided == ScriptDirectives(
        asks_time_limit=False,
        stdout="study.o%j.%a",
        stderr="study.e%j.%a",
        task_suffix=".%a",
    )
    assert "--output=/srv/study/demo.o%A.%a" in options("#SBATCH --array=1-3")
    # In an array %j is another number for each task.
    assert decide("#SBATCH --array=1-3 -o %A_%a.log").stdout == "%j_%a.log"
    assert decide("#SBATCH --array=1-3 -o %j.log").stdout == UNKNOWN


def test_memory_of_request_over_script() -> None:
    text = script("#SBATCH --mem=1G -p debug", "#SBATCH --mem-per-cpu 2G")
    spec = replace(SPEC, name="demo", memory_limit_bytes=1 << 30, slots=2)
    built = submit.build_sbatch(spec, KEY, text, account={})
    assert "--mem-per-cpu=512M" in built.argv
    assert built.stdin == script("#SBATCH -p debug", "#")
    silent = submit.build_sbatch(replace(SPEC, name="demo"), KEY, text, account={})
    assert silent.stdin == b""


def test_export_variables_of_script() -> None:
    spec = replace(SPEC, name="demo", environment={"A": "request"})
    line = "#SBATCH --export=ALL,A=1,B='x y',C"
    built = submit.build_sbatch(spec, KEY, script(line), account={"PATH": "/bin"})
    assert built.environment == {"PATH": "/bin", "A": "request", "B": "x y"}
    assert "--export=ALL" in built.argv


def test_comment_of_script_after_key() -> None:
    assert f"--comment={KEY} see below" in options("#SBATCH --comment='see below'")


def test_hetjob_components() -> None:
    found = read_options(script("#SBATCH -o a", "#SBATCH hetjob", "#SBATCH -o b"))
    assert found.is_het
    assert found.values["output"] == "a"
    with pytest.raises(InvalidSpec, match="--wait"):
        decide("#SBATCH hetjob", "#SBATCH --wait")


def test_directives_unclosed_quotation() -> None:
    with pytest.raises(InvalidSpec):
        decide("#SBATCH -J 'open")
