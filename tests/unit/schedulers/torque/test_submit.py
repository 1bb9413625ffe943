"""From a job's description to ``qsub``."""

import pytest

from hpcq.domain.errors import InvalidSpec, UnsupportedCapability
from hpcq.domain.jobs import (
    ArrayRange,
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
from hpcq.schedulers.pbs_family.choices import Choices
from hpcq.schedulers.torque.script import (
    acceptable_name,
    array_range,
    choose,
    has_nodes,
    slots_request,
)
from hpcq.schedulers.torque.settings import check_template
from hpcq.schedulers.torque.submit import (
    build_alterations,
    build_change,
    build_qstat,
    build_qsub,
    dependencies,
)

KEY = SubmissionKey("hpcq-" + "0" * 32)
DEFAULT = "nodes={nodes}:ppn={ppn}"


def _choices(spec: JobSpec) -> Choices:
    return choose(spec, b"", template=DEFAULT, slots_per_node=None, environment={})


def _spec(directory: str = "/work", **fields: object) -> JobSpec:
    return JobSpec(name="run", working_directory=directory, script_file="/s", **fields)  # type: ignore[arg-type]


def _qsub(directory: str = "/work", **fields: object) -> SubmissionPlan:
    spec = _spec(directory, **fields)
    return build_qsub(spec, KEY, b"", _choices(spec))


def test_qsub_plain() -> None:
    submission = _qsub()
    assert submission.argv == (
        *("qsub", "-v", f"HPCQ_KEY={KEY}"),
        *("-N", "run", "-S", "/bin/sh", "-d", "/work", "-l", "nodes=1:ppn=1"),
    )
    assert submission.cwd == "/work"
    assert b"PBS_O_WORKDIR=/work" in submission.stdin
    assert _choices(_spec()).outputs.stdout_path is None


def test_qsub_every_field() -> None:
    argv = _qsub(
        slots=4,
        queue="long",
        account="proj.x",
        priority=-5,
        wall_time_limit_seconds=90,
        memory_limit_bytes=(1 << 30) + 1,
        stdout_path="out.txt",
        stderr_path="/other/err",
        hold=True,
    ).argv
    text = " ".join(argv)
    assert "-l nodes=1:ppn=4,walltime=90,mem=1048577kb" in text
    assert "-q long -A proj.x -p -5 -o /work/out.txt -e /other/err -h" in text


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (ArrayRange(first=0, last=9), "0-9"),
        (ArrayRange(first=1, last=5, step=2), "1,3,5"),
        (ArrayRange(first=3, last=3, max_running=1), "3-3%1"),
        (ArrayRange(first=1, last=6, step=3, max_running=2), "1,4%2"),
    ],
)
def test_array_ranges(array: ArrayRange, text: str) -> None:
    assert array_range(array) == text
    assert " ".join(_qsub(array=array).argv).endswith(f" -t {text}")


@pytest.mark.parametrize(
    ("condition", "of_a_job", "of_an_array"),
    [
        (DependencyCondition.SUCCESS, "afterok:45", "afterokarray:45[]"),
        (
            DependencyCondition.FAILURE,
            "afternotok:45",
            "afternotokarray:45[][1],afteranyarray:45[]",
        ),
        (DependencyCondition.ANY, "afterany:45", "afteranyarray:45[]"),
        (DependencyCondition.STARTED, "after:45", "afterstartarray:45[][1]"),
    ],
)
def test_dependency_conditions(
    condition: DependencyCondition, of_a_job: str, of_an_array: str
) -> None:
    first = Dependency(native_id=NativeId("45"), uid=JobUid.new(), condition=condition)
    other = Dependency(native_id=NativeId("7[2]"), uid=JobUid.new(), condition=condition)
    assert dependencies((first,), ()) == of_a_job
    assert dependencies((first,), {NativeId("45")}) == of_an_array
    assert dependencies((first, other), ()) == f"{of_a_job},{of_a_job.replace('45', '7[2]')}"
    assert " ".join(_qsub(depends_on=(first,)).argv).endswith(f" -W depend={of_a_job}")


def test_outputs_of_array_in_wrapper() -> None:
    array = ArrayRange(first=1, last=2)
    argv = " ".join(_qsub(array=array, stdout_path="/odd path", stderr_path="/dev/null").argv)
    assert "-k oe" in argv
    assert "/dev/null" not in argv
    assert "-o /work/out -k e" in " ".join(
        _qsub(array=array, stdout_path="out", stderr_path="/odd path").argv
    )


def test_outputs_with_job_id_in_wrapper() -> None:
    submission = _qsub(stdout_path="/o/%j", stderr_path="/o/%x")
    assert "-o /dev/null -e /o/run" in " ".join(submission.argv)
    assert b"exec > '/o/'\"$_hpcq_number\" ||" in submission.stdin
    array = ArrayRange(first=1, last=2)
    plain = " ".join(_qsub(array=array, stdout_path="/o/x-%a", stderr_path="/o/%a").argv)
    assert "-o /o/x -k e" in plain


@pytest.mark.parametrize("directory", ["/a b", "/a,b", "/a:b", "/a\nb", "/é", "/$HOME", "/a'b"])
def test_paths_odd_in_wrapper(directory: str) -> None:
    submission = _qsub(directory, stderr_path="/odd path")
    assert "-d" not in submission.argv
    assert submission.cwd == "/"
    assert submission.argv.count("/dev/null") == 2
    assert directory not in submission.argv
    outputs = _choices(_spec(directory, stderr_path="/odd path")).outputs
    assert outputs.stdout_path == "run.o\0"
    assert outputs.stderr_path == "/odd path"


def test_arguments_and_variables_not_on_command_line() -> None:
    submission = _qsub(args=("-h", "x"), environment={"A": "b,c"})
    assert "x" not in submission.argv
    assert not any("b,c" in word for word in submission.argv)
    assert b"A=b,c" in submission.stdin


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("queue", "a@other"),
        ("queue", "-q"),
        ("account", "x y"),
        ("account", ""),
        ("priority", 1024),
        ("environment", {"A=B": "x"}),
        ("environment", {"A": "\0"}),
    ],
)
def test_fields_invalid(field: str, value: object) -> None:
    with pytest.raises(InvalidSpec) as caught:
        _qsub("/work", **{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("run", "run"),
        ("2024/run 1", "J2024_run_1"),
        ("São João", "S_o_Jo_o"),
        ("", "J"),
        ("-x", "J-x"),
        ("x" * 300, "x" * 200),
    ],
)
def test_job_names_made_acceptable(name: str, accepted: str) -> None:
    assert acceptable_name(name) == accepted


@pytest.mark.parametrize(
    ("template", "slots", "per_node", "asked"),
    [
        (DEFAULT, 1, None, "nodes=1:ppn=1"),
        (DEFAULT, 48, None, "nodes=1:ppn=48"),
        (DEFAULT, 48, 24, "nodes=2:ppn=24"),
        (DEFAULT, 8, 24, "nodes=1:ppn=8"),
        (DEFAULT, 10, 4, "nodes=3:ppn=4"),
        ("nodes={slots}", 3, 8, "nodes=3"),
        ("procs={slots}", 3, None, "procs=3"),
    ],
)
def test_slots_request_template(
    template: str, slots: int, per_node: int | None, asked: str
) -> None:
    check_template(template)
    assert slots_request(template, slots, per_node) == asked


@pytest.mark.parametrize(
    ("fields", "per_node", "asked"),
    [
        ({"slots": 8, "nodes": 2}, None, "nodes=2:ppn=4"),
        ({"slots": 8, "nodes": 4}, 4, "nodes=4:ppn=2"),
        ({"slots": 8, "slots_per_node": 2}, None, "nodes=4:ppn=2"),
        ({"slots": 8, "nodes": 2, "gpus": Gpus(count=4)}, None, "nodes=2:ppn=4:gpus=2"),
        ({"slots": 8, "gpus": Gpus(count=2)}, 4, "nodes=2:ppn=4:gpus=1"),
        ({"constraints": ("fast", "big")}, None, "nodes=1:ppn=1:fast:big"),
    ],
)
def test_nodes_request(fields: dict[str, object], per_node: int | None, asked: str) -> None:
    # What the script says of its nodes gives way.
    script = b"#PBS -l nodes=1:ppn=8\n"
    choices = choose(
        _spec(**fields),  # type: ignore[arg-type]
        script,
        template=DEFAULT,
        slots_per_node=per_node,
        environment={},
    )
    assert choices.requests[0] == asked


def test_gpus_uneven_or_typed() -> None:
    with pytest.raises(InvalidSpec) as uneven:
        _choices(_spec(slots=4, nodes=2, gpus=Gpus(count=3)))
    assert uneven.value.field == "gpus"
    with pytest.raises(UnsupportedCapability) as typed:
        _choices(_spec(gpus=Gpus(count=1, type="a100")))
    assert typed.value.field == "gpus.type"


def test_nodes_supported_by_template() -> None:
    assert has_nodes(DEFAULT)
    assert has_nodes("nodes={nodes}:ppn={ppn}:batch")
    assert not has_nodes("procs={slots}")
    assert not has_nodes("nodes={nodes}:ppn={ppn}+1:ppn=1")


def test_mail_and_exclusive_over_script() -> None:
    spec = _spec(exclusive=True, mail_to="ana", mail_on=(MailEvent.BEGIN, MailEvent.FAIL))
    script = b"#PBS -m n -M theirs -r y\n"
    choices = choose(spec, script, template=DEFAULT, slots_per_node=None, environment={})
    assert choices.others == ("-M", "ana", "-m", "ba", "-n", "-r", "y")


def test_mail_none_over_script() -> None:
    choices = choose(
        _spec(mail_to="ana"),
        b"#PBS -m abe -M theirs\n",
        template=DEFAULT,
        slots_per_node=None,
        environment={},
    )
    assert choices.others == ("-M", "ana", "-m", "n")


@pytest.mark.parametrize(
    "template",
    ["", "nodes=1", "nodes={n}", "nodes={slots", "{slots.__class__}", "-l {slots}"],
)
def test_template_invalid(template: str) -> None:
    with pytest.raises(ValueError, match="it "):
        check_template(template)


def test_change_of_job_or_array() -> None:
    assert build_change(("qdel",), NativeId("45"), is_array=False) == ("qdel", "45")
    assert build_change(("qdel",), NativeId("45"), is_array=True) == ("qdel", "45[]")
    assert build_change(("qdel",), NativeId("45[2]"), is_array=False) == ("qdel", "45[2]")
    assert build_change(("qhold",), NativeId("45.other"), is_array=True) == ("qhold", "45[].other")


def test_qstat_commands() -> None:
    assert build_qstat() == ("qstat", "-x", "-t")
    assert build_qstat(NativeId("4"), NativeId("5[1]")) == ("qstat", "-x", "4", "5[1]")
    several = build_qstat(NativeId("4"), NativeId("5"), are_arrays=True)
    assert several == ("qstat", "-x", "-t", "4[]", "5[]")


def test_alterations_of_changed_fields() -> None:
    spec = _spec(queue="long", priority=-5, memory_limit_bytes=1025, wall_time_limit_seconds=90)
    fields = {"name", "queue", "priority", "memory_limit_bytes", "wall_time_limit_seconds"}
    assert build_alterations(spec, fields) == [
        ("qmove", "long"),
        ("qalter", "-N", "run", "-p", "-5", "-l", "walltime=90,mem=2kb"),
    ]
    assert build_alterations(spec, {"wall_time_limit_seconds"}) == [("qalter", "-l", "walltime=90")]
    assert build_alterations(spec, {"name"}) == [("qalter", "-N", "run")]


@pytest.mark.parametrize(
    "fields", [{"queue": "long@elsewhere"}, {"account": "-a"}, {"priority": 1024}]
)
def test_alterations_invalid(
    fields: dict[str, object],
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        build_alterations(_spec(**fields), fields.keys())  # type: ignore[arg-type]
    assert caught.value.field in fields
