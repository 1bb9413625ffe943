"""``PROGRAM_PATH_RULE=MODULES`` before real Environment Modules and a real Lmod."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.real import settings_of

from hpcq.schedulers.testing.jobs import Jobs
from hpcq.schedulers.testing.service import Service

pytestmark = pytest.mark.modules


# What `module` of a login shell does.
SCRIPT = """\
#!/bin/bash
export MODULEPATH={path}
eval "$({command} bash load "$1")"
printf '%s %s' "$TOOL_VERSION" "$#"
"""


@pytest.fixture(params=["MODULES_CMD", "LMOD_CMD"])
def command(request: pytest.FixtureRequest) -> dict[str, str]:
    """The setting that names each of the two in turn."""
    return {request.param: settings_of("modules")[request.param]}


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The first folder of ``MODULEPATH``."""
    root = tmp_path / "first"
    add(root, "gromacs/2023.1")
    add(root, "gromacs/2024.1")
    (root / "gromacs" / ".version").write_text('#%Module1.0\nset ModulesVersion "2023.1"\n')
    add(root, "compiler/gcc/12")
    add(root, "compiler/gcc/13")
    (root / "compiler" / "gcc" / ".modulerc").write_text(
        "#%Module1.0\nmodule-version compiler/gcc/12 default stable\n"
        "module-alias gnu compiler/gcc/13\n"
    )
    add(root, "single")
    add(root, "secret/1")
    add(root, "secret/.2")
    (root / "gromacs" / ".hidden").write_text("nothing of a module's\n")
    (root / "gromacs" / "2022").symlink_to("missing")
    return root


@pytest.fixture
def second(command: dict[str, str], tmp_path: Path) -> Path:
    """The second folder, with some of the same names, and one that is hidden."""
    root = tmp_path / "second"
    add(root, "gromacs/2024.1")
    add(root, "gromacs/2025")
    add(root, "hidden/1")
    hide = "module-hide" if "MODULES_CMD" in command else "hide-version"
    (root / ".modulerc").write_text(f"#%Module1.0\n{hide} hidden/1\n")
    (root / "tool").mkdir()
    for version in ("1.0", "2.0"):
        (root / "tool" / f"{version}.lua").write_text(f'setenv("TOOL_VERSION", "{version}")\n')
    (root / "tool" / "default").symlink_to("1.0.lua")
    return root


def add(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(f"#%Module1.0\nsetenv TOOL_VERSION {name}\n")


@pytest.fixture
def service(
    command: dict[str, str],
    first: Path,
    second: Path,
    tmp_path: Path,
    start_service: Callable[..., Service],
) -> Service:
    path = f"{first}:{second}:{tmp_path}/missing"
    script = tmp_path / "module.job"
    script.write_text(SCRIPT.format(path=path, command=" ".join(command.values())))
    return start_service(
        PROGRAM_PATH_RULE="MODULES",
        MODULEPATH=path,
        MODULES_SCRIPT=str(script),
        PROGRAMS_TIMEOUT_SECONDS="60",
        **command,
    )


def listed(service: Service, query: str = "") -> list[tuple[str, str, str, bool]]:
    answer = service.client.get(f"/programs{query}")
    assert answer.status_code == 200, answer.text
    assert "X-Incomplete" not in answer.headers
    fields = ("programId", "name", "version", "isDefault")
    return [tuple(program[field] for field in fields) for program in answer.json()]


def test_modules_versions_and_defaults(
    service: Service, command: dict[str, str], first: Path, second: Path
) -> None:
    of_lua = [("MOD7", "tool", "1.0", True), ("MOD8", "tool", "2.0", False)]
    known = [
        ("MOD0", "compiler/gcc", "12", True),
        ("MOD1", "compiler/gcc", "13", False),
        ("MOD2", "gromacs", "2023.1", True),
        ("MOD3", "gromacs", "2024.1", False),
        ("MOD4", "gromacs", "2025", False),
        ("MOD5", "secret", "1", True),
        ("MOD6", "single", "", True),
        *(of_lua if "LMOD_CMD" in command else []),
    ]
    assert listed(service) == known
    directories = service.client.get("/programs?name=gromacs").json()
    assert [program["installationDirectory"] for program in directories] == [
        f"{root}/gromacs" for root in (first, first, second)
    ]

    add(first, "gromacs/2022.1")
    (first / "single").unlink()

    assert listed(service, "?name=gromacs&isDefault=false") == [
        (f"MOD{len(known)}", "gromacs", "2022.1", False),
        ("MOD3", "gromacs", "2024.1", False),
        ("MOD4", "gromacs", "2025", False),
    ]
    assert listed(service, "?version=") == listed(service)


def test_module_loaded_in_job(service: Service, tmp_path: Path) -> None:
    jobs = Jobs(service)
    told = {
        "gromacs/2023.1 1": {"program": "gromacs"},
        "gromacs/2025 1": {"program": "gromacs", "version": "2025"},
        "compiler/gcc/13 1": {"programId": "MOD1"},
        "single 1": {"program": "single"},
    }
    asked = {"workingDirectory": str(tmp_path), "reservedSlots": 1}
    submitted = {text: jobs.submit({**asked, **program}) for text, program in told.items()}

    for text, job_id in submitted.items():
        job = jobs.ended(job_id)
        assert job["args"] == [text.removesuffix(" 1")]
        assert Path(job["stdoutPath"]).read_text() == text, Path(job["stderrPath"]).read_text()
