"""Checks of the folders and the script that a submission names."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.services.kit import service_settings

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec, Outputs
from hpcq.execution.files import OwnFiles, is_within
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
    checker = PathChecker(scheduler, service_settings())
    yield checker
    checker.close()


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n")
    return JobSpec(name="", working_directory=str(tmp_path), script_file=str(script))


@pytest.mark.anyio
async def test_check_default_name_and_outputs(checker: PathChecker, spec: JobSpec) -> None:
    checked = await checker.check(spec)
    folder, name = spec.working_directory, os.path.basename(spec.working_directory)
    assert checked.name == name
    assert checked.outputs == Outputs(stdout=f"{folder}/{name}.o%j", stderr=f"{folder}/{name}.e%j")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("asked", "script_asks", "is_queues"),
    [(None, False, True), (None, True, False), (60, False, False)],
)
async def test_check_time_limit_of_queue_or_request(
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
async def test_check_directives_of_script(
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
async def test_check_dos_line_ends(checker: PathChecker, spec: JobSpec) -> None:
    _write(spec, b"#!/bin/sh\r\necho\r\n")
    with pytest.raises(InvalidSpec, match="DOS line ends") as refused:
        await checker.check(spec)
    assert refused.value.field == "scriptFile"
    _write(spec, b"\x7fELF\0\r\n")
    await checker.check(spec)


@pytest.mark.anyio
async def test_check_script_size_limit_of_scheduler(
    checker: PathChecker, scheduler: Directing, spec: JobSpec
) -> None:
    scheduler.capabilities = replace(scheduler.capabilities, max_script_bytes=4)
    with pytest.raises(InvalidSpec, match="larger than the 4 bytes") as refused:
        await checker.check(spec)
    assert refused.value.field == "scriptFile"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "said"), [("é" * 5, "larger than the 9 bytes"), ("a\r\nb", "DOS line ends")]
)
async def test_check_script_text(
    checker: PathChecker, scheduler: Directing, spec: JobSpec, text: str, said: str
) -> None:
    scheduler.capabilities = replace(scheduler.capabilities, max_script_bytes=9)
    with pytest.raises(InvalidSpec, match=said) as refused:
        await checker.check(replace(spec, script_file="", script=text))
    assert refused.value.field == "script"
    spec = await checker.check(replace(spec, script_file="", script="é" * 4))
    assert await checker.read_script(spec) == ("é" * 4).encode()


@pytest.mark.anyio
async def test_check_output_folder_not_writable(
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
async def test_check_output_path_directory(checker: PathChecker, spec: JobSpec) -> None:
    for changed in (replace(spec, stdout_path="/tmp"), replace(spec, stderr_path="/tmp")):
        with pytest.raises(InvalidSpec, match="is a directory"):
            await checker.check(changed)


@pytest.mark.anyio
async def test_check_output_name_too_long(checker: PathChecker, spec: JobSpec) -> None:
    spec = replace(spec, name="é" * 100)
    await checker.check(replace(spec, stdout_path=f"%x{'_' * 54}%j"))
    with pytest.raises(InvalidSpec, match="longer than 255 bytes") as refused:
        await checker.check(replace(spec, stdout_path="out", stderr_path=f"%x{'_' * 55}%j"))
    assert refused.value.field == "stderrPath"


def _write(spec: JobSpec, script: bytes) -> None:
    Path(spec.script_file).write_bytes(script)


@dataclass
class Tree:
    """An allowed folder with a study, and another folder beside it.

    Attributes:
        checker: looks at both.
        spec: a job in the study.
    """

    checker: PathChecker
    study: Path
    outside: Path
    spec: JobSpec

    async def refusal(self, **fields: object) -> InvalidSpec:
        """Return why a job is refused that differs from `spec` in some fields."""
        with pytest.raises(InvalidSpec) as refused:
            await self.checker.check(replace(self.spec, **fields))  # type: ignore[arg-type]
        return refused.value


@pytest.fixture
def tree(scheduler: Directing, tmp_path: Path) -> Iterator[Tree]:
    study, outside = tmp_path / "allowed" / "study", tmp_path / "allowed-not"
    for folder in (study, outside):
        folder.mkdir(parents=True)
        (folder / "run.sh").write_text("#!/bin/sh\n")
    settings = service_settings(allowed_directories=(str(tmp_path / "allowed"),))
    checker = PathChecker(scheduler, settings)
    yield Tree(
        checker,
        study,
        outside,
        JobSpec(name="a", working_directory=str(study), script_file=str(study / "run.sh")),
    )
    checker.close()


@pytest.mark.anyio
async def test_check_allowed_directories_inside(tree: Tree) -> None:
    (tree.study / "here").symlink_to(tree.study)
    (tree.outside / "in").symlink_to(tree.study)
    for folder in (tree.study, tree.study / "here", tree.outside / "in"):
        for output in (None, "out.txt", str(folder / "x"), "/dev/null"):
            spec = replace(
                tree.spec,
                working_directory=str(folder),
                script_file=str(folder / "run.sh"),
                stdout_path=output,
            )
            assert (await tree.checker.check(spec)).outputs is not None
            assert await tree.checker.read_script(spec) == b"#!/bin/sh\n"


@pytest.mark.anyio
async def test_check_allowed_directories_outside(tree: Tree) -> None:
    study, outside = tree.study, tree.outside
    (study / "out").symlink_to(outside)
    (study / "script").symlink_to(outside / "run.sh")
    (study / "new").symlink_to(outside / "new")
    (outside / "in").symlink_to(study)
    cases = [
        ("workingDirectory", {"working_directory": str(outside)}),
        ("workingDirectory", {"working_directory": str(study / "out")}),
        ("workingDirectory", {"working_directory": f"{study}/../../allowed-not"}),
        ("workingDirectory", {"working_directory": "/"}),
        ("scriptFile", {"script_file": str(outside / "run.sh")}),
        ("scriptFile", {"script_file": str(study / "out" / "run.sh")}),
        ("scriptFile", {"script_file": str(study / "script")}),
        ("scriptFile", {"script_file": f"{study}/../../allowed-not/run.sh"}),
        ("scriptFile", {"script_file": f"{outside}/run.sh 28.16"}),
        ("stdoutPath", {"stdout_path": str(outside / "x")}),
        ("stdoutPath", {"stdout_path": str(study / "out" / "x")}),
        # A link that leads nowhere yet: the job's output would make what it leads to.
        ("stdoutPath", {"stdout_path": str(study / "new")}),
        ("stderrPath", {"stderr_path": "../../allowed-not/x"}),
        ("stderrPath", {"stderr_path": str(study / "script")}),
    ]
    for field, fields in cases:
        refused = await tree.refusal(**fields)
        assert refused.field == field, fields
        assert "ALLOWED_DIRECTORIES" in refused.detail


@pytest.mark.anyio
async def test_check_allowed_directories_output_of_script(tree: Tree, scheduler: Directing) -> None:
    scheduler.directives = ScriptDirectives(stdout=str(tree.outside / "x"))
    refused = await tree.refusal()
    assert refused.field == "scriptFile"
    assert "ALLOWED_DIRECTORIES" in refused.detail


@pytest.mark.anyio
async def test_check_allowed_directories_same_error_outside(tree: Tree) -> None:
    (tree.study / "there").symlink_to(tree.outside / "run.sh")
    (tree.study / "gone").symlink_to(tree.outside / "gone")
    for there, gone in (
        (tree.outside / "run.sh", tree.outside / "gone"),
        (tree.study / "there", tree.study / "gone"),
    ):
        for suffix in ("", " 1", "/x"):
            details = [
                (await tree.refusal(script_file=f"{path}{suffix}")).detail.replace(path.name, "")
                for path in (there, gone)
            ]
            assert details[0] == details[1], suffix


@pytest.mark.anyio
async def test_check_allowed_directories_missing_file_inside(tree: Tree) -> None:
    refused = await tree.refusal(script_file=str(tree.study / "gone.sh"))
    assert "No such file" in refused.detail


@pytest.mark.anyio
async def test_script_swapped_for_symlink(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tree.study / "run.sh"
    (tree.outside / "run.sh").write_text("#!/bin/sh\n# secret\n")
    read = OwnFiles.read

    def read_late(files: OwnFiles, path: str, *more: Any) -> bytes | None:
        # After all checks of the path, and before it is opened.
        script.unlink()
        script.symlink_to(tree.outside / "run.sh")
        return read(files, path, *more)

    monkeypatch.setattr(OwnFiles, "read", read_late)
    assert "ALLOWED_DIRECTORIES" in (await tree.refusal()).detail
    monkeypatch.undo()
    with pytest.raises(InvalidSpec, match="ALLOWED_DIRECTORIES"):
        await tree.checker.read_script(tree.spec)


@pytest.mark.parametrize(
    ("path", "folder", "is_inside"),
    [
        ("/srv", "/srv", True),
        ("/srv/a", "/srv", True),
        ("/srva", "/srv", False),
        ("/", "/srv", False),
        ("/srv", "/", True),
    ],
)
def test_is_within_folder(path: str, folder: str, is_inside: bool) -> None:
    assert is_within(path, (folder,)) is is_inside
