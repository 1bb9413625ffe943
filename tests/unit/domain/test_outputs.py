"""Output paths, from what was asked for to the file."""

from dataclasses import replace

import pytest

from hpcq.domain.jobs import JobSpec, NativeId
from hpcq.domain.outputs import UNKNOWN, default_name, fill_pattern, place_outputs

SPEC = JobSpec(
    name="case 1", working_directory="/srv/PLD +20%Norte", script_file="/srv/run.sh", slots=1
)


def test_place_outputs_default_begins_with_the_name() -> None:
    outputs = place_outputs(SPEC, None, None)
    assert fill_pattern(outputs.stdout, NativeId("45.server")) == "/srv/PLD +20%Norte/case 1.o45"
    assert fill_pattern(outputs.stderr, NativeId("45.server")) == "/srv/PLD +20%Norte/case 1.e45"


def test_place_outputs_request_wins_and_is_taken_as_it_is() -> None:
    spec = replace(SPEC, stdout_path="100%j.txt", stderr_path="/scratch/%a")
    outputs = place_outputs(spec, "from-the-script", "from-the-script")
    assert fill_pattern(outputs.stdout, NativeId("7")) == "/srv/PLD +20%Norte/100%j.txt"
    assert fill_pattern(outputs.stderr, NativeId("7")) == "/scratch/%a"


def test_place_outputs_request_wins_with_what_tells_tasks_apart() -> None:
    spec = replace(SPEC, stdout_path="/o/50%", stderr_path="/e")
    placed = place_outputs(spec, "/o/50%%.%a", "script.txt")
    assert (placed.stdout, placed.stderr) == ("/o/50%%.%a", "/e")


def test_place_outputs_script_is_heard_where_the_request_is_silent() -> None:
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
def test_fill_pattern_of_a_task(
    native_id: NativeId | None, task: int | None, path: str | None
) -> None:
    assert fill_pattern("/srv/%j-%a", native_id, task) == path


def test_default_name_is_the_last_component_without_control_characters() -> None:
    assert default_name("/srv/a\nb") == "a_b"
    assert default_name("/") == "job"
