"""A catalogue file that changes while the service runs."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from hpcq.domain.programs import ProgramKey
from hpcq.programs.catalogue import CatalogueError, load_catalogue
from hpcq.services.programs import sources as program_sources
from hpcq.services.programs.service import Catalogue, ProgramService
from hpcq.services.programs.sources import CatalogueFile

IN_FORCE = "The catalogue stays as it was before."


async def numbered(programs: Sequence[ProgramKey]) -> Mapping[ProgramKey, int]:
    return dict.fromkeys(programs, 0)


class Site:
    """A catalogue file, and the folders that it describes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "programs.toml"

    def install(self, *names: str) -> None:
        for name in names:
            (self.folder / name / "1").mkdir(parents=True)

    def describe(self, *names: str) -> None:
        self.file.write_text(
            "".join(
                f'[[program]]\nname = "{name}"\nid_prefix = "{name}"\n'
                f'versions = "{self.folder}/{name}/{{version}}"\nexecutable = "/x.job"\n'
                for name in names
            )
        )

    def service(self) -> ProgramService:
        return ProgramService(CatalogueFile(self.file, 8), numbered, timeout_seconds=10)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    structlog.reset_defaults()
    site = Site(tmp_path)
    site.install("A", "B", "C")
    site.describe("A", "B")
    return site


def ids(catalogue: Catalogue) -> list[str]:
    return [program.program_id for program in catalogue.programs]


def test_catalogue_file_changed(site: Site) -> None:
    async def ask() -> list[Catalogue]:
        programs = site.service()
        before = await programs.catalogue()
        site.describe("C", "B")
        return [before, await programs.catalogue()]

    before, after = asyncio.run(ask())

    assert (ids(before), ids(after)) == (["A0", "B0"], ["C0", "B0"])


def test_catalogue_file_invalid_while_running(site: Site) -> None:
    async def ask() -> list[Catalogue]:
        programs = site.service()
        await programs.catalogue()
        with site.file.open("a") as file:
            file.write("colour = 1\n")
        wrong = [await programs.catalogue() for _ in range(3)]
        site.file.unlink()
        gone = await programs.catalogue()
        site.describe("A", "C")
        return [*wrong, gone, await programs.catalogue()]

    with capture_logs() as logs:
        *wrong, gone, right = asyncio.run(ask())

    problem = f"{site.file}, line 11: colour: there is no such key."
    assert [ids(catalogue) for catalogue in (*wrong, gone)] == [["A0", "B0"]] * 4
    assert [catalogue.problems for catalogue in wrong] == [[problem, IN_FORCE]] * 3
    assert gone.problems == [f"{site.file} cannot be read: No such file or directory.", IN_FORCE]
    assert (ids(right), right.problems) == (["A0", "C0"], [])
    assert [line.get("problem") for line in logs].count(problem) == 1
    assert [line["programs"] for line in logs if "programs" in line] == [2]


def test_catalogue_file_invalid_at_start(site: Site) -> None:
    site.file.write_text("colour = 1\n")

    with pytest.raises(CatalogueError, match="line 1: colour"):
        site.service()


def test_catalogue_file_unchanged_programs(site: Site) -> None:
    async def ask() -> tuple[object, object]:
        file = CatalogueFile(site.file, 8)
        (_, before) = file.sources()
        site.describe("C", "B")
        await file.source.read()
        return before, file.sources()[1]

    before, after = asyncio.run(ask())

    assert before is after


def test_catalogue_file_old_read_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_sources, "_COARSEST_TIME_NS", -(10**12))
    calls = 0

    def counted(path: Path) -> object:
        nonlocal calls
        calls += 1
        return load_catalogue(path)

    monkeypatch.setattr(program_sources, "load_catalogue", counted)

    async def ask() -> None:
        programs = site.service()
        for _ in range(3):
            await programs.catalogue()
        assert calls == 1
        os.utime(site.file, (1, 1))
        await programs.catalogue()

    asyncio.run(ask())
    assert calls == 2
