from pathlib import Path

import pytest

from hpcq.domain.errors import CommandTimedOut, SchedulerError
from hpcq.execution.protocol import Command, Completed
from hpcq.services.programs.sources import ModuleReader

pytestmark = pytest.mark.anyio


class Modules:
    """A module system that says what a test wants, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Command] = []
        self.exit_code = 0
        self.hangs = False

    async def run(self, command: Command) -> Completed:
        self.asked.append(command)
        if self.hangs:
            raise CommandTimedOut(command.argv, command.timeout_seconds)
        printed = b"/mf:\nx/1\n"
        return Completed(
            argv=command.argv, exit_code=self.exit_code, stdout=b"import os\n", stderr=printed
        )


def reader(runner: Modules, folder: Path) -> ModuleReader:
    environment = {"MODULEPATH": str(folder)}
    return ModuleReader(runner, Path("/m"), [str(folder)], environment, Path("/job"), 4)


async def test_modules_cached_until_change(tmp_path: Path) -> None:
    runner = Modules()
    modules = reader(runner, tmp_path)

    first = await modules.read()
    assert await modules.read() == first
    assert [command.argv for command in runner.asked] == [
        ("/m", "python", "-t", "avail"),
        ("/m", "python", "-t", "-d", "avail"),
    ]
    assert {command.timeout_seconds for command in runner.asked} == {4}
    assert runner.asked[0].env == {"MODULEPATH": str(tmp_path)}
    (tmp_path / "x").mkdir()
    await modules.read()
    assert len(runner.asked) == 4


async def test_modules_command_failed_not_cached(tmp_path: Path) -> None:
    runner = Modules()
    runner.exit_code = 1
    modules = reader(runner, tmp_path)

    with pytest.raises(SchedulerError, match=r"^/m exited with 1 and said: /mf:\sx/1"):
        await modules.read()
    runner.exit_code, runner.hangs = 0, True
    with pytest.raises(SchedulerError, match=r"^/m was ended after 4 s\."):
        await modules.read()
    runner.hangs = False
    assert len((await modules.read()).installations) == 1
