"""The worked example of ``docs/programs.md``, on a service of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.docs.blocks import Block, blocks

from hpcq.schedulers.testing.service import INSTALLATION, Service

PAGE = INSTALLATION / "docs" / "programs.md"
SCRIPT = '#!/bin/sh\nprintf "%s\\n" "$@"\n'


def test_catalogue_of_documentation(tmp_path: Path, start_service: Callable[..., Service]) -> None:
    tree, catalogue, answer, submission = (
        block.text.replace("/opt/", f"{tmp_path}/opt/").replace("/scratch/ana/water", str(tmp_path))
        for block in _example()
    )
    for path in map(Path, tree.split()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPT)
    (tmp_path / "programs.toml").write_text(catalogue)

    service = start_service(
        CLUSTER_ID="1",
        PROGRAM_PATH_RULE=str(tmp_path / "programs.toml"),
        INTERNAL_SCHEDULER_MAX_SLOTS="16",
    )
    listed = service.client.get("/programs")
    assert "X-Incomplete" not in listed.headers
    assert [program["version"] for program in listed.json()] == ["2023.3", "2024.1"]
    assert service.client.get("/programs?isDefault=true").json() == json.loads(answer)

    submitted = service.client.post("/jobs", json=json.loads(submission))
    assert submitted.status_code == 201, submitted.text
    job: dict[str, Any] = service.client.get(f"/jobs/{submitted.json()['uid']}").json()
    told = f"This submission runs `{' '.join([job['scriptFile'], *job['args']])}`"
    assert told.replace(f"{tmp_path}/opt/", "/opt/") in PAGE.read_text()


def _example() -> list[Block]:
    """The four blocks that begin with the catalogue's tree."""
    page = blocks(PAGE)
    first = next(n for n, block in enumerate(page) if block.text.startswith("/opt/gromacs/"))
    return page[first : first + 4]
