from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import (
    Dependency,
    DependencyCondition,
    JobSpec,
    JobUid,
    NativeId,
    SubmissionKey,
)
from hpcq.schedulers.slurm import commands

KEY = SubmissionKey("hpcq-00000000000000000000000000000001")
SPEC = JobSpec(name="demo", working_directory="/srv", script_file="/srv/job.sh")


def options(**fields: object) -> list[str]:
    spec = replace(SPEC, **fields)  # type: ignore[arg-type]
    argv = commands.build_sbatch(spec, KEY, {}).argv
    return list(argv[: argv.index("--")])


def variables(environment: dict[str, str], base: dict[str, str] | None = None) -> dict[str, str]:
    spec = replace(SPEC, environment=environment)
    stdin = commands.build_sbatch(spec, KEY, base or {}).stdin
    assert stdin.endswith(b"\0")
    entries = stdin[:-1].decode("utf-8", "surrogateescape").split("\0")
    return dict(entry.split("=", 1) for entry in entries)


def test_a_plain_job_is_asked_for_in_full() -> None:
    built = commands.build_sbatch(replace(SPEC, args=("a b", "")), KEY, {"PATH": "/bin"})
    assert built.argv == (
        "sbatch",
        "--parsable",
        f"--comment={KEY}",
        "--job-name=demo",
        "--chdir=/srv",
        "--ntasks=1",
        "--output=demo.o%j",
        "--error=demo.e%j",
        "--export=ALL",
        "--export-file=/dev/stdin",
        "--propagate=NONE",
        "--",
        "/srv/job.sh",
        "a b",
        "",
    )
    assert built.stdin == b"PATH=/bin\0SLURM_JOB_NAME=demo\0"


def test_jobs_that_come_first_are_named_with_their_conditions() -> None:
    conditions = ((1, "success"), (2, "failure"), (3, "any"), (4, "started"))
    first = tuple(
        Dependency(
            native_id=NativeId(str(number)),
            uid=JobUid.new(),
            condition=DependencyCondition(condition),
        )
        for number, condition in conditions
    )
    assert options(depends_on=first)[-2:] == [
        "--dependency=afterok:1,afternotok:2,afterany:3,after:4",
        "--kill-on-invalid-dep=yes",
    ]


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"queue": "debug"}, "--partition=debug"),
        ({"account": "physics"}, "--account=physics"),
        ({"slots": 8}, "--ntasks=8"),
        ({"hold": True}, "--hold"),
        ({"wall_time_limit_seconds": 90061}, "--time=25:01:01"),
        ({"wall_time_limit_seconds": 0}, "--time=0:00:01"),
        ({"priority": 5}, "--nice=-5"),
        ({"priority": -5}, "--nice=5"),
        ({"memory_limit_bytes": 1 << 30}, "--mem=1024M"),
        ({"memory_limit_bytes": (1 << 30) + 1}, "--mem=1025M"),
        ({"memory_limit_bytes": 0}, "--mem=1M"),
        ({"memory_limit_bytes": 1 << 30, "slots": 3}, "--mem-per-cpu=342M"),
        ({"stdout_path": "/out/100%j"}, "--output=/out/100%%j"),
        ({"stderr_path": r"/out/a\b%j"}, r"--error=/out/a\\b%j"),
    ],
)
def test_a_field_becomes_an_option(fields: dict[str, object], option: str) -> None:
    assert option in options(**fields)


def test_no_priority_is_no_option() -> None:
    assert not [option for option in options(priority=0) if "nice" in option]


@pytest.mark.parametrize(
    ("name", "accepted", "output"),
    [
        ("plain", "plain", "plain.o%j"),
        ("a/b", "a/b", "a_b.o%j"),
        ("50%", "50%", "50%%.o%j"),
        ("back\\slash", "back\\slash", "back_slash.o%j"),
        ("new\nline\x1b", "new_line_", "new_line_.o%j"),
        ("-x", "-x", "-x.o%j"),
        ("", "job", "job.o%j"),
        ("é" * 150, "é" * 100, "é" * 100 + ".o%j"),
    ],
)
def test_a_name_is_made_acceptable(name: str, accepted: str, output: str) -> None:
    assert f"--job-name={accepted}" in options(name=name)
    assert f"--output={output}" in options(name=name)


def test_an_argument_is_never_an_option() -> None:
    spec = replace(SPEC, script_file="/srv/--wrap", args=("--partition=evil", "--"))
    argv = commands.build_sbatch(spec, KEY, {}).argv
    assert argv[argv.index("--") + 1 :] == ("/srv/--wrap", "--partition=evil", "--")


def test_the_request_wins_over_the_base_environment() -> None:
    assert variables({"HOME": "/else"}, {"HOME": "/root", "PATH": "/bin"}) == {
        "HOME": "/else",
        "PATH": "/bin",
        "SLURM_JOB_NAME": "demo",
    }


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    )
)
def test_an_environment_is_carried_byte_for_byte(environment: dict[str, str]) -> None:
    assert variables(environment) == {"SLURM_JOB_NAME": "demo", **environment}


@pytest.mark.parametrize(
    "fields",
    [
        {"environment": {"": "x"}},
        {"environment": {"a=b": "x"}},
        {"environment": {"a": "x\0"}},
        {"environment": {"a": "\ud800"}},
        {"args": ("x\0",)},
        {"args": ("x" * (1 << 17),)},
        {"args": ("x" * 100_000,) * 11},
    ],
)
def test_what_no_process_can_be_given_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec):
        options(**fields)


def test_actions_name_one_job() -> None:
    job = NativeId("12_3")
    assert commands.build_scancel(job) == ("scancel", "--verbose", "12_3")
    assert commands.build_hold(job) == ("scontrol", "uhold", "12_3")
    assert commands.build_release(job) == ("scontrol", "release", "12_3")
