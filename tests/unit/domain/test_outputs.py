"""Output paths, from what was asked for to the file."""

from dataclasses import replace

import pytest

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec, NativeId, Outputs
from hpcq.domain.outputs import UNKNOWN, default_name, fill_pattern, place_outputs, render

SPEC = JobSpec(
    name="case 1", working_directory="/srv/PLD +20%Norte", script_file="/srv/run.sh", slots=1
)


def test_place_outputs_default_from_name() -> None:
    outputs = place_outputs(SPEC, None, None)
    assert fill_pattern(outputs.stdout, NativeId("45.server")) == "/srv/PLD +20%Norte/case 1.o45"
    assert fill_pattern(outputs.stderr, NativeId("45.server")) == "/srv/PLD +20%Norte/case 1.e45"


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("out", "/srv/PLD +20%Norte/out"),
        ("/o/%x-%j.txt", "/o/case 1-7.txt"),
        ("/o/%j%x", "/o/7case 1"),
        ("/o/%j2_%j", "/o/72_7"),
        # A per cent sign of a name stands for itself.
        ("PLD +20%Norte", "/srv/PLD +20%Norte/PLD +20%Norte"),
        ("/o/20%acima, 3%josé, 100%", "/o/20%acima, 3%josé, 100%"),
        ("/o/%A%N%4j%u% %é", "/o/%A%N%4j%u% %é"),
        ("/o/%%j %%%j", "/o/%j %7"),
        # So does one of a folder's name.
        ("/100%j/%%/%x/%a/out", "/100%j/%%/%x/%a/out"),
    ],
)
def test_place_outputs_requested(asked: str, path: str) -> None:
    outputs = place_outputs(replace(SPEC, stdout_path=asked), "from-the-script", None)
    assert fill_pattern(outputs.stdout, NativeId("7")) == path
    other = place_outputs(replace(SPEC, stderr_path=asked), None, "from-the-script")
    assert other.stderr == outputs.stdout


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/o/50%", "/o/50%-3"),
        ("/o/%j", "/o/7-3"),
        ("/o/%j.%a", "/o/7.3"),
        ("/o/%%a", "/o/%a-3"),
        ("/o%a/x", "/o%a/x-3"),
        ("/dev/null", "/dev/null"),
    ],
)
def test_place_outputs_array_tasks(asked: str, path: str) -> None:
    outputs = place_outputs(replace(SPEC, stdout_path=asked), None, None, "-%a")
    assert fill_pattern(outputs.stdout, NativeId("7[3]"), 3) == path


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"stdout_path": "%a"}, "stdoutPath"),
        ({"stdout_path": "%%a", "stderr_path": "x.%a"}, "stderrPath"),
    ],
)
def test_place_outputs_task_pattern_without_array(fields: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidSpec, match="no array") as refused:
        place_outputs(replace(SPEC, **fields), None, None)  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../up", "_._up.log"),
        ("a/b%j", "a_b%j.log"),
        ("..", "_..log"),
        ("é" * 255, "é" * 100 + ".log"),
    ],
)
def test_place_outputs_name_one_component(name: str, file: str) -> None:
    outputs = place_outputs(replace(SPEC, name=name, stdout_path="/o/%x.log"), None, "%x.log")
    assert fill_pattern(outputs.stdout, None) == f"/o/{file}"
    assert fill_pattern(outputs.stderr, None) == f"/srv/PLD +20%Norte/{file}"


def test_place_outputs_complete_paths() -> None:
    complete = replace(SPEC, stdout_path="%j", outputs=Outputs(stdout="/o/100%%j", stderr="/e"))
    assert place_outputs(complete, None, "/e") == complete.outputs


def test_render_unknown_id_and_task() -> None:
    assert render("/o/100%%j.%j.%a", "$ID", "") == "/o/100%j.$ID."


def test_place_outputs_script_where_request_silent() -> None:
    outputs = place_outputs(SPEC, "logs/%x-%j.out", UNKNOWN)
    assert fill_pattern(outputs.stdout, NativeId("7")) == "/srv/PLD +20%Norte/logs/case 1-7.out"
    assert outputs.stderr is None


@pytest.mark.parametrize(
    ("native_id", "task", "path"),
    [
        (NativeId("123_4"), 4, "/srv/123-4"),
        (NativeId("9[2].pbs"), 2, "/srv/9-2"),
        (NativeId("9"), None, None),
        (None, 2, None),
    ],
)
def test_fill_pattern_task(native_id: NativeId | None, task: int | None, path: str | None) -> None:
    assert fill_pattern("/srv/%j-%a", native_id, task) == path


def test_default_name_from_directory() -> None:
    assert default_name("/srv/a\nb") == "a_b"
    assert default_name("/") == "job"
