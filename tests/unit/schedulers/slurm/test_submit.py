from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain.actions import Action
from hpcq.domain.errors import InvalidSpec
from hpcq.domain.job_changes import CHANGEABLE
from hpcq.domain.jobs import (
    Dependency,
    DependencyCondition,
    Gpus,
    JobSpec,
    JobUid,
    MailEvent,
    NativeId,
    SubmissionKey,
)
from hpcq.schedulers.abilities import SubmissionPlan
from hpcq.schedulers.slurm import commands, submit

KEY = SubmissionKey("hpcq-00000000000000000000000000000001")
SPEC = JobSpec(name="demo", working_directory="/srv", script_file="/srv/job.sh")
SCRIPT = b"#!/bin/sh\ntrue\n"


def build(
    spec: JobSpec, account: dict[str, str] | None = None, script: bytes = SCRIPT
) -> SubmissionPlan:
    return submit.build_sbatch(spec, KEY, script, account=account or {})


def options(**fields: object) -> list[str]:
    spec = replace(SPEC, **fields)  # type: ignore[arg-type]
    argv = build(spec).argv
    return list(argv[: argv.index("--")])


def test_sbatch_plain() -> None:
    built = build(replace(SPEC, args=("a b", "")), {"PATH": "/bin"})
    assert built.argv == (
        "sbatch",
        "--parsable",
        f"--comment={KEY}",
        "--job-name=demo",
        "--chdir=/srv",
        "--ntasks=1",
        "--output=/srv/demo.o%j",
        "--error=/srv/demo.e%j",
        "--export=ALL",
        "--propagate=NONE",
        "--",
        "/srv/job.sh",
        "a b",
        "",
    )
    assert built.environment == {"PATH": "/bin"}
    assert built.stdin == b""


def test_sbatch_dependencies() -> None:
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
        ({"slots": 4, "nodes": 2}, "--nodes=2"),
        ({"slots": 4, "nodes": 2}, "--ntasks-per-node=2"),
        ({"slots": 4, "slots_per_node": 2}, "--nodes=2"),
        ({"slots": 4, "nodes": 2, "cpus_per_task": 2}, "--ntasks=2"),
        ({"slots": 4, "nodes": 2, "cpus_per_task": 2}, "--ntasks-per-node=1"),
        ({"slots": 4, "cpus_per_task": 2}, "--cpus-per-task=2"),
        ({"slots": 4, "nodes": 2, "memory_limit_bytes": 1 << 30}, "--mem=512M"),
        ({"gpus": Gpus(count=2)}, "--gpus=2"),
        ({"gpus": Gpus(count=2, type="a100")}, "--gpus=a100:2"),
        ({"exclusive": True}, "--exclusive"),
        ({"exclusive": True, "memory_limit_bytes": 1 << 30}, "--mem=1024M"),
        ({"qos": "high"}, "--qos=high"),
        ({"reservation": "r1"}, "--reservation=r1"),
        ({"constraints": ("fast", "big")}, "--constraint=fast&big"),
        ({"mail_to": "ana", "mail_on": (MailEvent.BEGIN, MailEvent.FAIL)}, "--mail-user=ana"),
        (
            {"mail_to": "ana", "mail_on": (MailEvent.BEGIN, MailEvent.FAIL)},
            "--mail-type=BEGIN,FAIL",
        ),
        ({"mail_to": "ana"}, "--mail-type=NONE"),
        ({"stdout_path": "/100%j/100%jota"}, "--output=/100%%j/100%%jota"),
        ({"stdout_path": "/out/%x-%j"}, "--output=/out/demo-%j"),
        ({"stdout_path": "out"}, "--output=/srv/out"),
        ({"stderr_path": r"/out/a\b%j"}, "--error=/dev/null"),
    ],
)
def test_sbatch_field_options(fields: dict[str, object], option: str) -> None:
    assert option in options(**fields)


def test_tasks_of_script_without_request() -> None:
    script = b"#!/bin/sh\n#SBATCH --cpus-per-task=2\n"
    spec = replace(SPEC, slots=8, nodes=2)
    asked = [build(s, script=script).argv for s in (spec, replace(spec, cpus_per_task=4))]
    for argv, tasks, per_node in zip(asked, (4, 2), (2, 1), strict=True):
        assert {f"--ntasks={tasks}", f"--ntasks-per-node={per_node}"} <= set(argv)
    assert [word for word in asked[0] if "cpus-per-task" in word] == []
    with pytest.raises(InvalidSpec) as refused:
        build(replace(SPEC, slots=6, nodes=2), script=script)
    assert refused.value.field == "cpusPerTask"


def test_memory_of_exclusive_nodes_needs_node_count() -> None:
    spec = replace(SPEC, slots=4, exclusive=True, memory_limit_bytes=1 << 30)
    with pytest.raises(InvalidSpec) as refused:
        submit.directives_of(spec, SCRIPT, {})
    assert refused.value.field == "memoryLimit"
    assert "--mem=1024M" in build(replace(spec, nodes=1)).argv


def test_priority_zero() -> None:
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
def test_job_name_made_acceptable(name: str, accepted: str, output: str) -> None:
    assert f"--job-name={accepted}" in options(name=name)
    assert f"--output=/srv/{output}" in options(name=name)


def test_arguments_like_options() -> None:
    spec = replace(SPEC, script_file="/srv/--wrap", args=("--partition=evil", "--"))
    argv = build(spec).argv
    assert argv[argv.index("--") + 1 :] == ("/srv/--wrap", "--partition=evil", "--")


def test_environment_of_request_over_base() -> None:
    built = build(replace(SPEC, environment={"LANG": "C"}), {"LANG": "pt_BR", "PATH": "/bin"})
    assert built.environment == {"LANG": "C", "PATH": "/bin"}


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    )
)
def test_environment_any_variables(environment: dict[str, str]) -> None:
    built = build(replace(SPEC, environment=environment))
    given = built.environment or {}
    past = environment.keys() - given.keys()
    assert given.items() <= environment.items()
    assert bool(past) == bool(built.stdin)


@pytest.mark.parametrize(
    "name",
    [
        "SBATCH_PARTITION",
        "SBATCH_EXPORT",
        "SLURM_CLUSTERS",
        "SLURM_CONF",
        "SLURM_EXIT_ERROR",
        "_SLURM_SPANK_OPTION_x",
        "SPANK_X",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "GLIBC_TUNABLES",
        "BASH_ENV",
        "BASH_FUNC_sbatch%%",
        "PYTHONPATH",
        "HOME",
        "TZ",
        "x" * 256,
    ],
)
def test_environment_variable_read_by_sbatch(name: str) -> None:
    built = build(replace(SPEC, environment={name: "v", "PLAIN": "p"}), {"HOME": "/home/me"})
    given = built.environment or {}
    assert given.get(name) != "v"
    assert given["PLAIN"] == "p"
    assert built.argv[-1] == "/dev/stdin"


def test_environment_variable_same_as_account() -> None:
    built = build(replace(SPEC, environment={"HOME": "/home/me"}), {"HOME": "/home/me"})
    assert (built.environment, built.stdin) == ({"HOME": "/home/me"}, b"")


def test_script_without_interpreter() -> None:
    built = submit.build_sbatch(SPEC, KEY, b"a=(1 2)\n", account={}, interpreter="/bin/zsh")
    assert built.stdin == b"#!/bin/zsh\na=(1 2)\n"
    assert built.argv[-1] == "/dev/stdin"
    assert build(SPEC, script=b"true\n").stdin == b"#!/bin/bash\ntrue\n"


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
def test_field_values_invalid(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec):
        options(**fields)


def test_actions_on_array_task() -> None:
    job = NativeId("12_3")
    assert commands.build_scancel(job) == ("scancel", "--verbose", "12_3")
    assert commands.build_action(Action.HOLD, job, None) == ("scontrol", "uhold", "12_3")
    assert commands.build_action(Action.RELEASE, job, None) == ("scontrol", "release", "12_3")


@pytest.mark.parametrize(
    ("folder", "name", "option"),
    [
        ("/x/PLD +20%Norte", "demo", "--output=/x/PLD +20%%Norte/demo.o%j"),
        ("/x/%j", "50%", "--output=/x/%%j/50%%.o%j"),
        ("/x/a b", "é", "--output=/x/a b/é.o%j"),
    ],
)
def test_working_directory_special_characters(folder: str, name: str, option: str) -> None:
    assert option in options(working_directory=folder, name=name)


def test_working_directory_with_backslash() -> None:
    built = build(replace(SPEC, working_directory="/x/a\\b"))
    assert "--output=/dev/null" in built.argv
    assert b"exec > '/x/a\\b/demo.o'\"$SLURM_JOB_ID\"'' || exit 126\n" in built.stdin


def test_outputs_in_one_file() -> None:
    given = options(stdout_path="both", stderr_path="both")
    assert {"--output=/srv/both", "--error=/srv/both"} <= set(given)


def test_update_of_changed_fields() -> None:
    spec = replace(
        SPEC,
        name=" a\n-b Nice=77",
        queue="long",
        account="pem",
        priority=5,
        wall_time_limit_seconds=90,
        memory_limit_bytes=3 << 30,
        slots=3,
    )
    job = NativeId("12")
    assert submit.build_update(job, spec, frozenset(CHANGEABLE)) == (
        *("scontrol", "update", "JobId=12", "JobName= a_-b Nice=77", "Partition=long"),
        *("Account=pem", "Nice=-5", "TimeLimit=0:01:30", "MinMemoryCPU=1024"),
    )
    per_node = replace(spec, nodes=1)
    assert submit.build_update(job, per_node, frozenset({"memory_limit_bytes"}))[3:] == (
        "MinMemoryNode=3072",
    )
    assert submit.build_update(job, SPEC, frozenset({"priority"}))[3:] == ("Nice=0",)
