"""``GET /programs`` over HTTP, on trees as sites have them."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcq.api.app import create_app
from hpcq.api.schemas import ProgramOut
from hpcq.config import Settings

pytestmark = pytest.mark.anyio


class Site:
    """A site's folders, and the settings that lead there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.newave = folder / "versoes" / "NEWAVE"
        self.decomp = folder / "versoes" / "DECOMP"
        self.dessem = folder / "SW" / "dessem"
        for root in (self.newave, self.decomp, self.dessem):
            root.mkdir(parents=True)

    def version(self, name: str) -> None:
        (self.newave / name).mkdir()

    def settings(self, **more: Any) -> Settings:
        return Settings(
            state_directory=self.folder / "state",
            tuber_newave_root=self.newave,
            tuber_decomp_root=self.decomp,
            tuber_dessem_root=self.dessem,
            pemaws_newave_root=self.newave,
            pemaws_decomp_root=self.decomp,
            pemaws_dessem_root=self.dessem,
            **more,
        )


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    application = create_app(settings)
    settings.state_directory.mkdir(exist_ok=True)
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield client


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def listed(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"/programs{query}")
    assert answer.status_code == 200, answer.text
    return [f"{program['programId']} {program['version']}" for program in answer.json()]


async def test_an_entry_has_the_base_fields_first_and_is_what_the_schema_says(site: Site) -> None:
    site.version("v28.16.4")
    async with service(site.settings()) as client:
        (program,) = (await client.get("/programs")).json()

    assert list(program.items())[:8] == [
        ("programId", "NW0"),
        ("name", "NEWAVE"),
        ("clusterId", "1"),
        ("version", "v28.16.4"),
        ("installationDirectory", f"{site.newave}/v28.16.4"),
        ("isManaged", True),
        ("executablePath", "/home/pem/rotinas/tuber/jobs/mpi_newave.job 28.16.4"),
        ("args", ["N_PROC"]),
    ]
    assert ProgramOut.model_validate(program).model_dump(by_alias=True) == program


async def test_ids_stay_while_versions_come_and_go_and_the_service_is_restarted(
    site: Site,
) -> None:
    for name in ("v2", "v3", "v4"):
        site.version(name)
    async with service(site.settings()) as client:
        assert await listed(client) == ["NW0 v2", "NW1 v3", "NW2 v4"]
        site.version("v1")
        (site.newave / "v3").rmdir()
        assert await listed(client) == ["NW3 v1", "NW0 v2", "NW2 v4"]
    site.version("v3")
    async with service(site.settings()) as client:
        assert await listed(client) == ["NW3 v1", "NW0 v2", "NW1 v3", "NW2 v4"]


async def test_filters_match_exactly_and_together(site: Site) -> None:
    for name in ("v1", "v2"):
        site.version(name)
    (site.decomp / "v1").mkdir()
    (site.dessem / "dessem_v1").touch()
    async with service(site.settings()) as client:
        assert await listed(client) == ["NW0 v1", "NW1 v2", "DC0 v1", "DS0 v1"]
        assert await listed(client, "?name=NEWAVE") == ["NW0 v1", "NW1 v2"]
        assert await listed(client, "?version=v1") == ["NW0 v1", "DC0 v1", "DS0 v1"]
        assert await listed(client, "?name=NEWAVE&version=v2") == ["NW1 v2"]
        assert await listed(client, "?programId=DC0") == ["DC0 v1"]
        assert await listed(client, "?name=newave") == []
        assert await listed(client, "?name=") == []
        assert await listed(client, "?isDefault=true") == []
        assert (await client.get("/programs?colour=red")).status_code == 422


async def test_what_cannot_be_read_is_left_out_and_told_in_a_header(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("v1", "vé"):
        (site.decomp / name).mkdir()
        (site.decomp / name / "mpi_decomp.job").touch()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith(("NEWAVE", "vé")):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    async with service(site.settings(program_path_rule="PEMAWS")) as client:
        answer = await client.get("/programs")

    assert [program["version"] for program in answer.json()] == ["v1"]
    assert answer.headers["X-Incomplete"] == (
        f"The folder {site.newave} of NEWAVE cannot be read: Permission denied. "
        f"The folder {site.decomp}/v\\xe9 of DECOMP cannot be read: Permission denied."
    )


async def test_a_whole_tree_has_no_such_header(site: Site) -> None:
    async with service(site.settings()) as client:
        assert "X-Incomplete" not in (await client.get("/programs")).headers


async def test_many_problems_fit_into_the_header(site: Site) -> None:
    for number in range(100):
        (site.decomp / f"v{number}").mkdir()
    async with service(site.settings(program_path_rule="PEMAWS")) as client:
        header = (await client.get("/programs")).headers["X-Incomplete"]

    assert len(header) < 1100
    assert header.endswith(" more, in the service's log.")


async def test_ten_thousand_versions_are_all_there_and_so_is_the_next(site: Site) -> None:
    for number in range(10_000):
        site.version(f"v{number:05}")
    async with service(site.settings(programs_timeout_seconds=60)) as client:
        first = await listed(client)
        site.version("v0")
        then = await listed(client)

    assert first == [f"NW{number} v{number:05}" for number in range(10_000)]
    assert then == ["NW10000 v0", *first]
