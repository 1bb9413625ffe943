"""``GET /programs`` over HTTP, on trees as sites have them."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcq.api.app import create_app
from hpcq.api.job_submission import JobSubmission
from hpcq.api.schemas import PROGRAM_EXAMPLE, ProgramOut
from hpcq.config import Settings
from hpcq.domain.principals import Method

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
            auth=(Method.NONE,),
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
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def listed(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"/programs{query}")
    assert answer.status_code == 200, answer.text
    return [f"{program['programId']} {program['version']}" for program in answer.json()]


async def test_program_fields_order_and_schema(site: Site) -> None:
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


async def test_schema_examples(site: Site) -> None:
    site.version("v28.16.4")
    async with service(site.settings()) as client:
        (program,) = (await client.get("/programs")).json()
        schema = (await client.get("/openapi.json")).json()

    program["installationDirectory"] = "/home/pem/versoes/NEWAVE/v28.16.4"
    assert program == PROGRAM_EXAMPLE
    _, by_program, by_text = schema["components"]["schemas"]["JobSubmission"]["examples"]
    assert JobSubmission.model_validate(by_program).program == "NEWAVE"
    assert JobSubmission.model_validate(by_text).script is not None
    for status in ("200", "304"):
        headers = schema["paths"]["/programs"]["get"]["responses"][status]["headers"]
        assert headers.keys() == {"ETag", "X-Incomplete"}


async def test_program_ids_stable(
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


async def test_filters_exact_and_combined(site: Site) -> None:
    for name in ("v1", "v2"):
        site.version(name)
    (site.decomp / "v1").mkdir()
    (site.dessem / "dessem_v1").touch(mode=0o755)
    async with service(site.settings()) as client:
        assert await listed(client) == ["NW0 v1", "NW1 v2", "DC0 v1", "DS0 v1"]
        assert await listed(client, "?name=NEWAVE") == ["NW0 v1", "NW1 v2"]
        assert await listed(client, "?version=v1") == ["NW0 v1", "DC0 v1", "DS0 v1"]
        assert await listed(client, "?name=NEWAVE&version=v2") == ["NW1 v2"]
        assert await listed(client, "?programId=DC0") == ["DC0 v1"]
        assert await listed(client, "?name=newave") == []
        assert await listed(client, "?isDefault=true") == []
        assert await listed(client, "?isDefault=false&version=v2") == ["NW1 v2"]


async def test_filter_empty(site: Site) -> None:
    for name in ("v1", "v2"):
        site.version(name)
    async with service(site.settings()) as client:
        assert await listed(client, "?name=&version=") == ["NW0 v1", "NW1 v2"]
        assert await listed(client, "?name=NEWAVE&version=&programId=") == ["NW0 v1", "NW1 v2"]
        assert await listed(client, "?name=&version=v2") == ["NW1 v2"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("colour=red", "colour"),
        ("name=NEWAVE&name=DECOMP", "name"),
        ("version=v1&version=v1", "version"),
        ("isDefault=perhaps", "isDefault"),
        ("isDefault=", "isDefault"),
    ],
)
async def test_query_invalid_parameter(query: str, field: str, site: Site) -> None:
    async with service(site.settings()) as client:
        answer = await client.get(f"/programs?{query}")

    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_programs_unchanged(site: Site) -> None:
    site.version("v1")
    async with service(site.settings()) as client:
        tag = (await client.get("/programs")).headers["ETag"]
        same = await client.get("/programs", headers={"If-None-Match": tag})
        site.decomp.rmdir()
        less = await client.get("/programs", headers={"If-None-Match": tag})
        site.decomp.mkdir()
        again = await client.get("/programs", headers={"If-None-Match": tag})
        site.version("v2")
        more = await client.get("/programs", headers={"If-None-Match": tag})
    async with service(site.settings()) as client:
        restarted = await client.get("/programs", headers={"If-None-Match": more.headers["ETag"]})

    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    assert (less.status_code, "X-Incomplete" in less.headers) == (200, True)
    assert (again.status_code, more.status_code) == (304, 200)
    assert restarted.status_code == 304


@pytest.mark.parametrize("query", ["", "?name=NEWAVE"])
async def test_programs_compressed(query: str, site: Site) -> None:
    for number in range(20):
        site.version(f"v{number:02}")
    async with service(site.settings()) as client:
        packed = await client.get(f"/programs{query}", headers={"Accept-Encoding": "gzip"})
        plain = await client.get(f"/programs{query}", headers={"Accept-Encoding": "identity"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert len(plain.json()) == 20


async def test_programs_unreadable_entries_header(
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
        f"The path {site.decomp}/v\\xe9 of DECOMP cannot be read: Permission denied."
    )


async def test_programs_complete_no_header(site: Site) -> None:
    async with service(site.settings()) as client:
        assert "X-Incomplete" not in (await client.get("/programs")).headers


async def test_programs_header_many_problems(site: Site) -> None:
    for number in range(100):
        (site.decomp / f"v{number}").mkdir()
    async with service(site.settings(program_path_rule="PEMAWS")) as client:
        header = (await client.get("/programs")).headers["X-Incomplete"]

    assert len(header) < 1100
    assert header.endswith(" more, in the service's log.")


async def test_programs_ten_thousand_versions(site: Site) -> None:
    for number in range(10_000):
        site.version(f"v{number:05}")
    async with service(site.settings(programs_timeout_seconds=60)) as client:
        first = await listed(client)
        site.version("v0")
        then = await listed(client)

    assert first == [f"NW{number} v{number:05}" for number in range(10_000)]
    assert then == ["NW10000 v0", *first]


@pytest.fixture
async def runnable(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose NEWAVE can be run."""
    script = site.folder / "mpi_newave.job"
    script.write_text("#!/bin/sh\n")
    site.version("v28.16")
    site.version("v29")
    async with service(site.settings(tuber_newave_script=script)) as client:
        yield client


async def submitted(client: httpx.AsyncClient, site: Site, **body: Any) -> Any:
    """Submit a job; return what is then known of it, or the refusal."""
    asked = {"workingDirectory": str(site.folder), "reservedSlots": 1, **body}
    answer = await client.post("/jobs", json=asked)
    if answer.status_code != 201:
        return answer.status_code, answer.json().get("field")
    job = (await client.get(f"/jobs/{answer.json()['jobId']}")).json()
    return job["scriptFile"], job["args"]


async def test_submission_by_program_id_or_name(runnable: httpx.AsyncClient, site: Site) -> None:
    script = f"{site.folder}/mpi_newave.job"

    assert await submitted(runnable, site, programId="NW0") == (script, ["28.16", "1"])
    assert await submitted(
        runnable, site, program="NEWAVE", version="v29", programArgs={"N_PROC": 4}, args=[]
    ) == (script, ["29", "4"])


async def test_submission_from_listed_entry(runnable: httpx.AsyncClient, site: Site) -> None:
    (program,) = (await runnable.get("/programs?version=v29")).json()
    script = f"{site.folder}/mpi_newave.job"

    assert await submitted(runnable, site, scriptFile=program["executablePath"], args=["64"]) == (
        script,
        ["29", "64"],
    )
    (site.folder / "mpi_newave.job 29").write_text("#!/bin/sh\n")
    assert await submitted(runnable, site, scriptFile=program["executablePath"], args=["64"]) == (
        f"{script} 29",
        ["64"],
    )


# A submission, the status of the refusal, and the field that it names.
@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"programId": "NW7"}, (400, "programId")),
        ({"program": "NEWAVE"}, (400, "version")),
        ({"program": "NEWAVE", "version": "v30"}, (400, "version")),
        ({"programId": "NW0", "programArgs": {"N_PROC": 0}}, (400, "programArgs.N_PROC")),
        ({"programId": "NW0", "programArgs": {"N": 1}}, (400, "programArgs.N")),
        ({"programId": "NW0", "scriptFile": "/bin/sh"}, (400, "scriptFile")),
        ({"programId": "NW0", "args": ["1"]}, (400, "args")),
        ({"scriptFile": "/bin/sh", "version": "v29"}, (400, "version")),
        ({"scriptFile": "/bin/sh", "programArgs": {}}, (400, "programArgs")),
        ({"scriptFile": "/no/such/script 29"}, (400, "scriptFile")),
        ({}, (400, "scriptFile")),
        ({"programId": None, "scriptFile": None}, (400, "scriptFile")),
        ({"programId": 7}, (422, "programId")),
        ({"programId": "NW0", "programArgs": {"N_PROC": True}}, (422, "programArgs.N_PROC")),
        ({"programId": "NW0", "programArgs": {"N_PROC": [1]}}, (422, "programArgs.N_PROC")),
        ({"programId": "NW0", "programArgs": {"N_PROC": 1.5}}, (400, "programArgs.N_PROC")),
        ({"programId": "NW0", "programArgs": []}, (422, "programArgs")),
        ({"programId": "NW0", "program": "DECOMP"}, (400, "programId")),
        ({"programId": ""}, (400, "programId")),
        ({"program": ""}, (400, "program")),
    ],
)
async def test_submission_of_program_invalid(
    body: dict[str, Any], refusal: tuple[int, str], runnable: httpx.AsyncClient, site: Site
) -> None:
    assert await submitted(runnable, site, **body) == refusal


async def test_submission_key_program_removed(runnable: httpx.AsyncClient, site: Site) -> None:
    body = {"workingDirectory": str(site.folder), "reservedSlots": 1, "programId": "NW1"}
    first = await runnable.post("/jobs", json=body, headers={"Idempotency-Key": "k"})
    (site.newave / "v29").rmdir()
    again = await runnable.post("/jobs", json=body, headers={"Idempotency-Key": "k"})
    other = await runnable.post(
        "/jobs", json={**body, "programId": "NW0"}, headers={"Idempotency-Key": "k"}
    )

    assert (first.status_code, other.status_code) == (201, 422)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["uid"] == first.json()["uid"]


CATALOGUE = """\
[[program]]
name = "GROMACS"
id_prefix = "GX"
versions = "SITE/gromacs-{version}"
executable = ["SITE/gromacs.job", "{version}"]
default_version = "2"

[[program.arguments]]
name = "steps"
type = "integer"
minimum = 1
"""


async def test_catalogue_program_listed_and_run(site: Site) -> None:
    file = site.folder / "programs.toml"
    file.write_text(CATALOGUE.replace("SITE", str(site.folder)))
    (site.folder / "gromacs.job").write_text("#!/bin/sh\n")
    for name in ("gromacs-1", "gromacs-2"):
        (site.folder / name).mkdir()
    async with service(site.settings(program_path_rule=str(file))) as client:
        assert await listed(client) == ["GX0 1", "GX1 2"]
        assert await listed(client, "?isDefault=true") == ["GX1 2"]
        (first, _) = (await client.get("/programs")).json()
        done = await submitted(client, site, program="GROMACS", programArgs={"steps": 5})
        refused = await submitted(client, site, program="GROMACS", programArgs={})

    assert first["args"] == ["steps"]
    assert first["executablePath"] == f"{site.folder}/gromacs.job 1"
    assert done == (f"{site.folder}/gromacs.job", ["2", "5"])
    assert refused == (400, "programArgs.steps")
