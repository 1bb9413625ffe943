"""From a job's description to ``qsub``."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

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
from hpcq.schedulers.pbs import submit
from hpcq.schedulers.pbs.script import acceptable_name, choose
from hpcq.schedulers.pbs.settings import PbsSettings

_KEY = SubmissionKey("hpcq-00000000000000000000000000000001")
_SPEC = JobSpec(name="study", working_directory="/w", script_file="/w/s.sh")
_SELECT = "select=1:ncpus={slots}{memory}"


def _argv(
    spec: JobSpec,
    *,
    script: bytes = b"",
    resources: str = _SELECT,
    key_is_account: bool = False,
) -> tuple[str, ...]:
    choices = choose(spec, script, resources, {})
    return submit.build_qsub(spec, choices, _KEY, key_is_account=key_is_account)


def _stdin(spec: JobSpec, script: bytes, environment: Mapping[str, str] | None = None) -> bytes:
    return submit.build_stdin(spec, choose(spec, script, _SELECT, environment or {}), script)


def test_qsub_plain() -> None:
    expected = ("qsub", "-f", "-v", f"HPCQ_KEY={_KEY}", "-N", "study", "-l", "select=1:ncpus=1")
    assert _argv(_SPEC) == expected


def test_qsub_every_field() -> None:
    spec = replace(
        _SPEC,
        slots=4,
        queue="workq",
        account="p1",
        priority=-3,
        wall_time_limit_seconds=3661,
        memory_limit_bytes=(1 << 30) + 1,
        stdout_path="/o/out.txt",
        stderr_path="err.txt",
        hold=True,
    )
    assert " ".join(_argv(spec)) == (
        f"qsub -f -v HPCQ_KEY={_KEY} -N study -l select=1:ncpus=4:mem=1048577kb"
        " -l walltime=1:01:01 -q workq -A p1 -p -3 -o /o/out.txt -e /w/err.txt -h"
    )


@pytest.mark.parametrize(
    ("template", "requests"),
    [
        ("select={slots}:ncpus=1{memory_per_slot}", ["select=4:ncpus=1:mem=262144kb"]),
        ("nodes=1:ppn={slots}", ["nodes=1:ppn=4", "mem=1048576kb"]),
        ("nodes={slots}", ["nodes=4", "mem=1048576kb"]),
    ],
)
def test_slots_by_resource_template(template: str, requests: list[str]) -> None:
    PbsSettings(pbs_resources=template)
    argv = _argv(replace(_SPEC, slots=4, memory_limit_bytes=1 << 30), resources=template)
    assert [b for a, b in pairwise(argv) if a == "-l"] == requests


@pytest.mark.parametrize(
    ("fields", "requests"),
    [
        ({"nodes": 1}, ["select=1:ncpus=8:mpiprocs=8"]),
        ({"nodes": 2}, ["select=2:ncpus=4:mpiprocs=4", "place=scatter"]),
        ({"slots_per_node": 4}, ["select=2:ncpus=4:mpiprocs=4", "place=scatter"]),
        ({"cpus_per_task": 4}, ["select=1:ncpus=8:mpiprocs=2:ompthreads=4"]),
        (
            {"nodes": 2, "cpus_per_task": 2, "memory_limit_bytes": (1 << 30) + 1},
            ["select=2:ncpus=4:mem=524289kb:mpiprocs=2:ompthreads=2", "place=scatter"],
        ),
        ({"gpus": Gpus(count=2)}, ["select=1:ncpus=8:ngpus=2"]),
        (
            {"nodes": 2, "gpus": Gpus(count=2), "exclusive": True},
            ["select=2:ncpus=4:mpiprocs=4:ngpus=1", "place=scatter:exclhost"],
        ),
        ({"exclusive": True}, ["select=1:ncpus=8", "place=exclhost"]),
    ],
)
def test_chunks_and_placement(fields: dict[str, object], requests: list[str]) -> None:
    argv = _argv(replace(_SPEC, slots=8, **fields))  # type: ignore[arg-type]
    assert [b for a, b in pairwise(argv) if a == "-l"] == requests


@pytest.mark.parametrize(
    ("script", "fields", "requests"),
    [
        (b"select=2:ncpus=4", {}, ["select=2:ncpus=4"]),
        (b"select=4:ncpus=2", {"nodes": 2}, ["select=2:ncpus=4:mpiprocs=4", "place=scatter"]),
        (
            b"select=1:ngpus=1:big=True",
            {"gpus": Gpus(count=2)},
            ["select=1:ncpus=8:ngpus=2:big=True"],
        ),
        (
            b"select=2:ncpus=4 -l place=pack:shared:group=rack",
            {"exclusive": True},
            ["select=2:ncpus=4", "place=pack:exclhost:group=rack"],
        ),
        (b"place=pack:excl", {"nodes": 2}, ["select=2:ncpus=4:mpiprocs=4", "place=scatter:excl"]),
    ],
)
def test_chunks_of_script_overridden(
    script: bytes, fields: dict[str, object], requests: list[str]
) -> None:
    spec = replace(_SPEC, slots=8, **fields)  # type: ignore[arg-type]
    argv = _argv(spec, script=b"#PBS -l " + script + b"\n")
    assert [b for a, b in pairwise(argv) if a == "-l"] == requests


def test_chunks_conflicting() -> None:
    with pytest.raises(InvalidSpec, match="nodes than the request"):
        _argv(replace(_SPEC, slots=8, nodes=2), script=b"#PBS -l select=1:ncpus=8:big=True\n")
    with pytest.raises(InvalidSpec) as uneven:
        _argv(replace(_SPEC, slots=8, nodes=2, gpus=Gpus(count=3)))
    assert uneven.value.field == "gpus"
    with pytest.raises(UnsupportedCapability) as typed:
        _argv(replace(_SPEC, gpus=Gpus(count=1, type="a100")))
    assert typed.value.field == "gpus.type"


def test_project_and_mail_over_script() -> None:
    spec = replace(_SPEC, project="ours", mail_to="ana", mail_on=(MailEvent.END,))
    argv = _argv(spec, script=b"#PBS -P theirs -m n -M theirs -r y\n")
    assert argv[argv.index("-M") :] == ("-M", "ana", "-m", "e", "-P", "ours", "-r", "y")
    assert "theirs" not in argv


def test_mail_none_over_script() -> None:
    argv = _argv(replace(_SPEC, mail_to="ana"), script=b"#PBS -m abe -M theirs\n")
    assert argv[argv.index("-M") :] == ("-M", "ana", "-m", "n")


@pytest.mark.parametrize(
    "template", ["", "select=1", "select={cpus}", "select=1:ncpus={slots} -q x", "{slots}"]
)
def test_resource_template_invalid(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        PbsSettings(pbs_resources=template)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("1e5", "1e5"),
        ("two words", "two_words"),
        ("a/b:c@d[e]", "a_b_c_d_e_"),
        ("größe", "gr_e"),
        ("-x", "_x"),
        ("", "_"),
        ("x" * 300, "x" * 230),
        ("a;b\n#c,d=e|f$g", "a_b_c_d_e_f_g"),
    ],
)
def test_job_name_made_acceptable(name: str, taken: str) -> None:
    assert acceptable_name(name) == taken


def test_key_as_account() -> None:
    assert f"-A {_KEY}" in " ".join(_argv(_SPEC, key_is_account=True))
    assert "-A p1" in " ".join(_argv(replace(_SPEC, account="p1"), key_is_account=True))


def test_variables_of_script_kept() -> None:
    script = b"#!/bin/sh\n#PBS -l walltime=1 -v A=1,B\n\n# x\necho\n#PBS -v LATE=1\n"
    wrapper = _stdin(_SPEC, script, {"B": "two"})
    assert b"'A=1' \\\n'B=two' \\\n" in wrapper
    assert b"LATE=1' \\\n" not in wrapper


@pytest.mark.parametrize("path", ["/o/a:b", "/o/a,b", "/o/a b", "/o/a\nb", "/o/^array_index^"])
def test_output_path_written_by_wrapper(path: str) -> None:
    spec = replace(_SPEC, stdout_path=path)
    assert " ".join(_argv(spec)).count("-o /dev/null") == 1
    assert b"exec > " in _stdin(spec, b"#!/bin/sh\n")
    assert b"exec > " not in _stdin(_SPEC, b"#!/bin/sh\n")


@pytest.mark.parametrize("wire", ["queue", "account"])
@pytest.mark.parametrize("value", ["", "-x", "a b", "a\nb", "$(x)", "*"])
def test_queue_or_account_invalid(wire: str, value: str) -> None:
    spec = replace(_SPEC, queue=value) if wire == "queue" else replace(_SPEC, account=value)
    with pytest.raises(InvalidSpec) as caught:
        _argv(spec)
    assert caught.value.field == wire


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_environment_variable_name_invalid(name: str) -> None:
    with pytest.raises(InvalidSpec):
        _stdin(replace(_SPEC, environment={name: "x"}), b"#!/bin/sh\n")


def test_job_word_of_array() -> None:
    assert submit.job_word(NativeId("32"), {NativeId("32")}) == "32[]"
    assert submit.job_word(NativeId("32[1]"), {NativeId("32")}) == "32[1]"
    assert submit.job_word(NativeId("33"), {NativeId("32")}) == "33"


def test_qstat_options() -> None:
    assert submit.build_qstat([], "|") == ("qstat", "-t", "-f", "-F", "dsv", "-D", "|")
    assert submit.build_qstat(["1"], "|", history=True) == (
        "qstat", "-x", "-E", "-f", "-F", "dsv", "-D", "|", "1",
    )  # fmt: skip
    assert "-E" not in submit.build_qstat(["1"], "|", grouped=False)
    assert submit.build_qstat(["1[]"], "|", tasks=True)[1] == "-t"


_WAITS = (
    Dependency(native_id=NativeId("45"), uid=JobUid.new(), condition=DependencyCondition.SUCCESS),
    Dependency(native_id=NativeId("46"), uid=JobUid.new(), condition=DependencyCondition.SUCCESS),
    Dependency(native_id=NativeId("47[2]"), uid=JobUid.new(), condition=DependencyCondition.ANY),
)


def test_dependencies_on_arrays() -> None:
    waits = replace(_SPEC, depends_on=_WAITS)
    choices = choose(waits, b"", _SELECT, {})
    argv = submit.build_qsub(waits, choices, _KEY, key_is_account=False, arrays={NativeId("46")})
    assert ("-W", "depend=afterok:45:46[],afterany:47[2]") in pairwise(argv)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (ArrayRange(first=0, last=9), "0-9"),
        (ArrayRange(first=1, last=10, step=4, max_running=2), "1-10:4%2"),
        (ArrayRange(first=7, last=7), "7-8:2"),
        (ArrayRange(first=1, last=3, step=5), "1-2:2"),
    ],
)
def test_array_options(array: ArrayRange, word: str) -> None:
    argv = _argv(replace(_SPEC, array=array, stdout_path="out", stderr_path="/dev/null"))
    assert ("-J", word) in pairwise(argv)
    assert ("-o", "/w/out.^array_index^") in pairwise(argv)
    assert ("-e", "/dev/null") in pairwise(argv)


def test_array_outputs_with_job_id() -> None:
    array = ArrayRange(first=1, last=2)
    spec = replace(_SPEC, array=array, stdout_path="%a of %x", stderr_path="%x_%j")
    argv = _argv(replace(spec, stdout_path="%a.%x"))
    assert ("-o", "/w/^array_index^.study") in pairwise(argv)
    assert ("-e", "/dev/null") in pairwise(argv)
    wrapper = _stdin(spec, b"#!/bin/sh\n").decode()
    assert "exec > '/w/'\"$_hpcq_task\"' of study'" in wrapper
    assert "2> '/w/study_'\"$_hpcq_number\"'.'\"$_hpcq_task\" ||" in wrapper


def test_slots_of_script_overridden() -> None:
    script = b"""#!/bin/sh
#PBS -l nodes=1:ppn=4,walltime=1:00:00 -N mine
#PBS -lselect=2:ncpus=8 -l mem=4gb
#PBS -l ncpus=2
"""
    requests = [b for a, b in pairwise(_argv(_SPEC, script=script)) if a == "-l"]
    assert requests == ["select=1:ncpus=1:mem=4194304kb", "walltime=1:00:00"]
    limited = replace(_SPEC, memory_limit_bytes=1 << 30)
    requests = [b for a, b in pairwise(_argv(limited, script=script)) if a == "-l"]
    assert requests == ["select=1:ncpus=1:mem=1048576kb", "walltime=1:00:00"]


@pytest.mark.parametrize(
    ("select", "request_"),
    [
        ("1:ncpus=4:mem=1gb", "select=1:ncpus=4:mem=1048577kb"),
        ("1:ncpus=4", "select=1:ncpus=4:mem=1048577kb"),
        ("2:ncpus=4:mem=1gb:ngpus=1", "select=2:ncpus=4:ngpus=1:mem=524289kb"),
        ("1:mem=1gb+3:ncpus=2", "select=1:mem=262145kb+3:ncpus=2:mem=262145kb"),
        ("ncpus=2", "select=ncpus=2:mem=1048577kb"),
        (None, "mem=1048577kb"),
    ],
)
def test_alter_memory_limit_with_chunks(select: str | None, request_: str) -> None:
    spec = replace(_SPEC, slots=4, memory_limit_bytes=(1 << 30) + 1, wall_time_limit_seconds=90)
    assert submit.build_alterations(spec, {"memory_limit_bytes"}, select) == [
        ("qalter", "-l", request_)
    ]
    both = {"memory_limit_bytes", "wall_time_limit_seconds", "name"}
    assert submit.build_alterations(spec, both, select) == [
        ("qalter", "-N", "study", "-l", request_, "-l", "walltime=0:01:30")
    ]


@pytest.mark.parametrize("field", ["queue", "account"])
@pytest.mark.parametrize("value", ["-x", "a@b c", "a,b", "x\n", "$x"])
def test_alter_invalid_name(field: str, value: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        submit.build_alterations(replace(_SPEC, **{field: value}), {field}, None)  # type: ignore[arg-type]
    assert caught.value.field == field
