"""Checks of the folders and the script that a submission names."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec, Outputs
from hpcq.schedulers.base import ScriptDirectives
from hpcq.schedulers.testing import FakeScheduler
from hpcq.services.submission.paths import PathChecker


class Directing(FakeScheduler):
    """A scheduler whose scripts decide."""

    directives = ScriptDirectives()

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        return self.directives


@pytest.fixture
def scheduler() -> Directing:
    return Directing()


@pytest.fixture
def checker(scheduler: Directing) -> Iterator[PathChecker]:
    checker = PathChecker(scheduler, 10)
    yield checker
    checker.close()


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n")
    return JobSpec(name="", working_directory=str(tmp_path), script_file=str(script))


@pytest.mark.anyio
async def test_check_completes_name_and_outputs(checker: PathChecker, spec: JobSpec) -> None:
    checked = await checker.check(spec)
    folder, name = spec.working_directory, os.path.basename(spec.working_directory)
    assert checked.name == name
    assert checked.outputs == Outputs(stdout=f"{folder}/{name}.o%j", stderr=f"{folder}/{name}.e%j")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("asked", "script_asks", "is_queues"),
    [(None, False, True), (None, True, False), (60, False, False)],
)
async def test_check_tells_a_queues_time_limit_from_one_that_was_asked_for(
    checker: PathChecker,
    scheduler: Directing,
    spec: JobSpec,
    asked: int | None,
    script_asks: bool,
    is_queues: bool,
) -> None:
    scheduler.directives = ScriptDirectives(asks_time_limit=script_asks)
    checked = await checker.check(replace(spec, wall_time_limit_seconds=asked))
    assert checked.has_queue_time_limit is is_queues


@pytest.mark.anyio
async def test_check_hears_the_script_where_the_request_is_silent(
    checker: PathChecker, scheduler: Directing, spec: JobSpec
) -> None:
    scheduler.directives = ScriptDirectives(name="theirs", stdout="%x.log")
    checked = await checker.check(replace(spec, stderr_path="err"))
    folder = spec.working_directory
    assert checked.name == "theirs"
    assert checked.stderr_path == f"{folder}/err"
    assert checked.outputs == Outputs(stdout=f"{folder}/theirs.log", stderr=f"{folder}/err")
    named = await checker.check(replace(spec, name="ours"))
    assert named.name == "ours"


@pytest.mark.anyio
async def test_check_dos_line_ends_are_refused(checker: PathChecker, spec: JobSpec) -> None:
    _write(spec, b"#!/bin/sh\r\necho\r\n")
    with pytest.raises(InvalidSpec, match="DOS line ends") as refused:
        await checker.check(spec)
    assert refused.value.field == "scriptFile"
    _write(spec, b"\x7fELF\0\r\n")
    await checker.check(spec)


@pytest.mark.anyio
async def test_check_script_above_the_schedulers_limit_is_refused(
    checker: PathChecker, scheduler: Directing, spec: JobSpec
) -> None:
    scheduler.capabilities = replace(scheduler.capabilities, max_script_bytes=4)
    with pytest.raises(InvalidSpec, match="larger than the 4 bytes") as refused:
        await checker.check(spec)
    assert refused.value.field == "scriptFile"


@pytest.mark.anyio
async def test_check_folder_of_outputs_that_may_not_be_written_to_is_refused(
    checker: PathChecker, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere, so the kernel's answer to another account is given here.
    def access(path: str, mode: int) -> bool:
        return not mode & os.W_OK

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(InvalidSpec, match="may not be written to") as refused:
        await checker.check(spec)
    assert refused.value.field == "workingDirectory"
    with pytest.raises(InvalidSpec, match="may not be written to") as refused:
        await checker.check(replace(spec, stdout_path=f"{spec.working_directory}/out"))
    assert refused.value.field == "stdoutPath"


@pytest.mark.anyio
async def test_check_output_that_is_a_folder_is_refused(
    checker: PathChecker, spec: JobSpec
) -> None:
    for changed in (replace(spec, stdout_path="/tmp"), replace(spec, stderr_path="/tmp")):
        with pytest.raises(InvalidSpec, match="is a directory"):
            await checker.check(changed)


def _write(spec: JobSpec, script: bytes) -> None:
    Path(spec.script_file).write_bytes(script)
