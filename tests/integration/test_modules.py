"""``PROGRAM_PATH_RULE=MODULES`` before real Environment Modules and a real Lmod."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.real import settings_of
from tests.service import Service

pytestmark = pytest.mark.modules


@pytest.fixture(params=["MODULES_CMD", "LMOD_CMD"])
def command(request: pytest.FixtureRequest) -> dict[str, str]:
    """The setting that names each of the two in turn."""
    return {request.param: settings_of("modules")[request.param]}


@pytest.fixture
def modulefiles(tmp_path: Path) -> Path:
    root = tmp_path / "modulefiles"
    add(root, "gromacs/2023.1")
    add(root, "gromacs/2024.1")
    (root / "gromacs" / ".version").write_text('#%Module1.0\nset ModulesVersion "2023.1"\n')
    add(root, "gcc/tools/12")
    add(root, "single")
    (root / "gromacs" / ".hidden").write_text("nothing of a module's\n")
    return root


def add(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("#%Module1.0\n")


def listed(service: Service, query: str = "") -> list[tuple[str, str, str, bool]]:
    answer = service.client.get(f"/programs{query}")
    assert answer.status_code == 200, answer.text
    assert "X-Incomplete" not in answer.headers
    fields = ("programId", "name", "version", "isDefault")
    return [tuple(program[field] for field in fields) for program in answer.json()]


def test_modules_are_listed_with_their_versions_and_defaults(
    command: dict[str, str],
    modulefiles: Path,
    tmp_path: Path,
    start_service: Callable[..., Service],
) -> None:
    script = tmp_path / "module.job"
    script.write_text('#!/bin/sh\nprintf %s "$*"\n')
    service = start_service(
        PROGRAM_PATH_RULE="MODULES",
        MODULEPATH=str(modulefiles),
        MODULES_SCRIPT=str(script),
        PROGRAMS_TIMEOUT_SECONDS="60",
        **command,
    )

    assert listed(service) == [
        ("MOD0", "gcc/tools", "12", True),
        ("MOD1", "gromacs", "2023.1", True),
        ("MOD2", "gromacs", "2024.1", False),
        ("MOD3", "single", "", True),
    ]
    add(modulefiles, "gromacs/2022")
    (modulefiles / "single").unlink()
    assert listed(service, "?name=gromacs") == [
        ("MOD4", "gromacs", "2022", False),
        ("MOD1", "gromacs", "2023.1", True),
        ("MOD2", "gromacs", "2024.1", False),
    ]
    job: dict[str, Any] = {"workingDirectory": str(tmp_path), "reservedSlots": 1}
    answer = service.client.post("/jobs", json={**job, "program": "gromacs"})
    made = service.client.get(f"/jobs/{answer.json()['uid']}").json()
    assert (made["scriptFile"], made["args"]) == (str(script), ["gromacs/2023.1"])
