import base64
from dataclasses import replace

import pytest

from hpcq.domain.errors import InvalidSpec, UnsupportedCapability
from hpcq.domain.jobs import (
    Dependency,
    DependencyCondition,
    JobSpec,
    JobUid,
    NativeId,
    SubmissionKey,
)
from hpcq_oar.submit import build_oarsub, check_script, read_key

KEY = SubmissionKey("hpcq-00000000000000000000000000000001")
SCRIPT = b"#!/bin/sh\n"
SPEC = JobSpec(name="run", working_directory="/study", script_file="/study/run.sh", slots=4)


def build(spec: JobSpec = SPEC, script: bytes = SCRIPT, **options: str) -> tuple[str, ...]:
    resources = options.get("resources", "/resource_id={slots}")
    return build_oarsub(spec, KEY, script, account={"PATH": "/bin"}, resources=resources)


def carried(argv: tuple[str, ...]) -> list[str]:
    return base64.b64decode(argv[-1].rpartition(" ")[2]).decode().split("\0")


def test_oarsub_options_plain_job() -> None:
    argv = build()
    assert argv[:-1] == (
        "oarsub",
        "--resource=/resource_id=4",
        "--name=run",
        "--directory=/study",
        "--stdout=/dev/null",
        "--stderr=/dev/null",
    )
    expected = ["/study", "/study/run.o%j", "/study/run.e%j", "1", "PATH", "/bin"]
    assert carried(argv) == [*expected, "/bin/sh", "/study/run.sh"]


def test_command_ascii_with_key() -> None:
    command = build(replace(SPEC, args=("São", "'\n\"$HOME`id`")))[-1]
    assert command.isascii()
    assert "\n" not in command
    assert read_key(command) == KEY
    assert read_key(f"echo {KEY}") is None


@pytest.mark.parametrize("value", ["it's", "a\nb", "São", "$(id)", "x;y"])
def test_shell_text_escaped(value: str) -> None:
    spec = replace(
        SPEC, name=value, working_directory=f"/{value}", stdout_path=f"/{value}/out", args=(value,)
    )
    argv = build(spec)
    assert not any(value in word for word in argv)
    assert value in carried(argv)


def test_output_path_with_job_id() -> None:
    argv = build(replace(SPEC, stdout_path="%x-%j", stderr_path="/logs/%x"))
    assert {"--stdout=/dev/null", "--stderr=/logs/run"} <= set(argv)
    assert carried(argv)[:3] == ["/study", "/study/run-%j", "/logs/run"]


@pytest.mark.parametrize("field", ["queue", "account"])
def test_name_with_shell_text_refused(field: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        build(replace(SPEC, **{field: "it's"}))  # type: ignore[arg-type]
    assert error.value.field == field


def test_job_too_long_refused() -> None:
    with pytest.raises(InvalidSpec):
        build(replace(SPEC, args=("x" * 100_000,)))


def test_dependency_on_any_end_only() -> None:
    def depends(condition: DependencyCondition) -> JobSpec:
        job = Dependency(native_id=NativeId("7"), uid=JobUid.new(), condition=condition)
        return replace(SPEC, depends_on=(job,))

    assert "--anterior=7" in build(depends(DependencyCondition.ANY))
    with pytest.raises(UnsupportedCapability):
        build(depends(DependencyCondition.SUCCESS))


def test_interpreter_line_like_kernel() -> None:
    assert carried(build(script=b"#! /usr/bin/env  -S perl\n"))[6:] == [
        "/usr/bin/env",
        "-S perl",
        "/study/run.sh",
    ]


def test_script_options_where_request_silent() -> None:
    script = b"#!/bin/sh\n#OAR -l /nodes=2,walltime=1:30\n#OAR -q big\n#OAR -t besteffort\n"
    argv = build(script=script)
    assert "--resource=/resource_id=4,walltime=1:30:00" in argv
    assert "--queue=big" in argv
    assert "--type=besteffort" in argv
    argv = build(replace(SPEC, queue="small", wall_time_limit_seconds=60), script)
    assert "--resource=/resource_id=4,walltime=0:01:00" in argv
    assert "--queue=small" in argv


def test_script_options_name_and_output() -> None:
    script = b"#!/bin/sh\n#OAR --name theirs\n#OAR -O %jobname%.%jobid%\n"
    found = check_script(replace(SPEC, name=""), script)
    assert (found.name, found.stdout, found.stderr) == ("theirs", "%x.%j", "theirs.e%j")


@pytest.mark.parametrize("line", ["#OAR --array 5", "#OAR -I", "#OAR -r now", "#OAR nonsense"])
def test_script_option_unsupported(line: str) -> None:
    with pytest.raises(InvalidSpec, match="line 2"):
        check_script(SPEC, f"#!/bin/sh\n{line}\n".encode())
