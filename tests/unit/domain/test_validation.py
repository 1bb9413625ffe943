from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import ArrayRange, Gpus, JobSpec, MailEvent
from hpcq.domain.validation import SizeLimits, check_content

GOOD = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")
SIZES = SizeLimits(args_bytes=131_072, environment_bytes=131_072, array_tasks=75_000)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "2026 : março*"},
        {"name": "x" * 255},
        {"name": ""},
        {"args": ("", "a b", "'; rm -rf /", "\n", "é" * 1000)},
        {"args": ("x" * 131_071,)},
        {"environment": {"A_1": "", "PATH": "/opt:/usr", "_": "a,b\nc"}},
        {"queue": "all.q@node1", "account": "projeto-é"},
        {"wall_time_limit_seconds": 1, "memory_limit_bytes": 1 << 20, "priority": -1023},
        {"stdout_path": "out.txt", "stderr_path": "/dev/null"},
        {"slots": 10_000_000},
        {"array": ArrayRange(first=0, last=0, max_running=1)},
        {"array": ArrayRange(first=1, last=225_000, step=3)},
        {"slots": 8, "nodes": 2, "slots_per_node": 4, "cpus_per_task": 2},
        {"gpus": Gpus(count=1, type="a100-80.gb"), "exclusive": True},
        {"qos": "high", "project": "_p.1", "reservation": "17", "constraints": ("a_b", "1-c")},
        {"mail_to": "ana.b+jobs@site-1.example", "mail_on": (MailEvent.END,)},
        {"mail_to": "ana"},
    ],
)
def test_check_content_valid(fields: dict[str, object]) -> None:
    check_content(replace(GOOD, **fields), SIZES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "wire_name"),
    [
        ({"array": ArrayRange(first=-1, last=2)}, "array.first"),
        ({"array": ArrayRange(first=2, last=1)}, "array.last"),
        ({"array": ArrayRange(first=1, last=2, step=0)}, "array.step"),
        ({"array": ArrayRange(first=1, last=2, max_running=0)}, "array.maxRunning"),
        ({"array": ArrayRange(first=0, last=75_000)}, "array"),
        ({"nodes": 0}, "nodes"),
        ({"slots_per_node": 0}, "slotsPerNode"),
        ({"cpus_per_task": 0}, "cpusPerTask"),
        ({"slots": 4, "nodes": 3}, "nodes"),
        ({"gpus": Gpus(count=0)}, "gpus"),
        ({"gpus": Gpus(count=1, type="a:2")}, "gpus.type"),
        ({"gpus": Gpus(count=1, type="")}, "gpus.type"),
        ({"qos": "-x"}, "qos"),
        ({"project": "a b"}, "project"),
        ({"reservation": "a\n"}, "reservation"),
        ({"constraints": ("ok", "a|b")}, "constraints[1]"),
        ({"constraints": ("x",) * 33}, "constraints"),
        ({"mail_to": "-f@site.example"}, "mailTo"),
        ({"mail_to": "ana@a,ben@b"}, "mailTo"),
        ({"mail_to": "a" * 256}, "mailTo"),
        ({"mail_on": (MailEvent.END,)}, "mailOn"),
        ({"options": ("--ok", "x")}, "options[1]"),
        ({"options": ("--x=a\nb",)}, "options[0]"),
        ({"options": ("-x",) * 65}, "options"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"working_directory": ""}, "workingDirectory"),
        ({"working_directory": "work"}, "workingDirectory"),
        ({"working_directory": "/wo\0rk"}, "workingDirectory"),
        ({"working_directory": "/" + "x" * 4095}, "workingDirectory"),
        ({"script_file": ""}, "scriptFile"),
        ({"script_file": "run.sh"}, "scriptFile"),
        ({"script_file": "", "script": "a\0"}, "script"),
        ({"script_file": "", "script": "\ud800"}, "script"),
        ({"script_file": "/run\udcff.sh"}, "scriptFile"),
        ({"stdout_path": ""}, "stdoutPath"),
        ({"stderr_path": "a\0"}, "stderrPath"),
        ({"queue": ""}, "queue"),
        ({"queue": "-help"}, "queue"),
        ({"queue": "a b"}, "queue"),
        ({"account": "a\tb"}, "account"),
        ({"args": ("ok", "a\0b")}, "args[1]"),
        ({"args": ("\ud800",)}, "args[0]"),
        ({"args": ("x" * 131_072,)}, "args[0]"),
        ({"args": ("x" * 65_536, "é" * 32_768)}, "args"),
        ({"args": ("",) * 131_073}, "args"),
        ({"environment": {"A": "x" * 65_536, "B": "x" * 65_536}}, "environment"),
        ({"environment": {"": "x"}}, "environment"),
        ({"environment": {"1A": "x"}}, "environment"),
        ({"environment": {"A=B": "x"}}, "environment"),
        ({"environment": {"Á": "x"}}, "environment"),
        ({"environment": {"A\n": "x"}}, "environment"),
        ({"environment": {"A": "x\0"}}, "environment['A']"),
        ({"environment": {"A": "x" * 131_071}}, "environment['A']"),
        ({"slots": 0}, "reservedSlots"),
        ({"slots": -1}, "reservedSlots"),
        ({"slots": 10**30}, "reservedSlots"),
        ({"wall_time_limit_seconds": 0}, "wallTimeLimit"),
        ({"memory_limit_bytes": 0}, "memoryLimit"),
        ({"priority": 2**31}, "priority"),
    ],
)
def test_check_content_names_invalid_field(fields: dict[str, object], wire_name: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        check_content(replace(GOOD, **fields), SIZES)  # type: ignore[arg-type]
    assert caught.value.field == wire_name


@given(st.text(), st.lists(st.text()), st.dictionaries(st.text(), st.text()), st.integers())
def test_check_content_any_values(
    text: str, args: list[str], environment: dict[str, str], number: int
) -> None:
    spec = JobSpec(
        name=text,
        working_directory="/" + text,
        script_file="/" + text,
        args=tuple(args),
        environment=environment,
        slots=number,
    )
    try:
        check_content(spec, SIZES)
    except InvalidSpec as error:
        assert error.detail.endswith((".", "…"))
        assert error.field
