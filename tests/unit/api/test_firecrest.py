"""``/firecrest``: what its clients send, whatever the compatibility; lines and bytes."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.api.conftest import App, running

from hpcq.api.firecrest.files import _cut_at
from hpcq.api.firecrest.shapes import FirecrestJob
from hpcq.domain.errors import InvalidSpec
from hpcq.domain.principals import Method

pytestmark = pytest.mark.anyio

JOBS = "/firecrest/compute/1/jobs"


def job(app: App, **fields: Any) -> dict[str, Any]:
    """A body, in the spelling of pyfirecrest."""
    known = {
        "working_directory": app.body["workingDirectory"],
        "scriptPath": app.body["scriptFile"],
    }
    return {"job": known | fields}


@pytest.mark.parametrize("compatibility", ["none", "original"])
async def test_submission_both_spellings(plugin: None, tmp_path: Path, compatibility: str) -> None:
    async with running(tmp_path, compatibility=compatibility) as app:
        first = await app.client.post(JOBS, json=job(app, standard_output="/tmp/out"))
        assert first.status_code == 201, first.text
        read = (await app.client.get(f"/jobs/{first.json()['jobId']}")).json()
        assert read["stdoutPath"] == "/tmp/out"
        other = {"workingDirectory": app.body["workingDirectory"], "script_path": "/none"}
        assert "/none" in (await app.client.post(JOBS, json={"job": other})).json()["message"]


async def test_submission_idempotency_key(app: App) -> None:
    key = {"Idempotency-Key": "one"}
    first, again = [await app.client.post(JOBS, json=job(app), headers=key) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = await app.client.post(JOBS, json=job(app, name="other"), headers=key)
    assert (other.status_code, "Idempotency-Key" in other.json()["message"]) == (422, True)


async def test_jobs_with_auth_none(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, auth=(Method.NONE,)) as app:
        made = (await app.client.post(JOBS, json=job(app))).json()
        listed = (await app.client.get(JOBS)).json()["jobs"]
        assert [one["jobId"] for one in listed] == [str(made["jobId"])]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/firecrest/status/1/userinfo", 501),
        ("/firecrest/filesystem/1/ops/ls?path=/", 501),
        ("/firecrest/status/elsewhere/nodes", 404),
        (f"{JOBS}?time_window=1h", 501),
        (f"{JOBS}?unknown=1", 422),
        (f"{JOBS}/999999", 404),
        ("/firecrest/filesystem/1/ops/view?path=/etc/passwd", 404),
    ],
)
async def test_refusal_format(app: App, path: str, status: int) -> None:
    answer = await app.client.get(path)
    assert answer.status_code == status
    # What it has not at all is no route of it.
    assert status == 501 or answer.json()["message"]
    assert answer.json()["detail"]


async def test_method_not_allowed(app: App) -> None:
    answer = await app.client.put(JOBS)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")


def test_slots_from_slurm_directives() -> None:
    script = "#!/bin/sh\n#SBATCH -N 2 --ntasks-per-node=3\n#SBATCH -c2\nsrun x\n#SBATCH -n 99\n"
    asked = FirecrestJob.model_validate(
        {"workingDirectory": "/tmp", "script": script}
    ).to_submission(is_slurm=True)
    assert (asked.reserved_slots, asked.nodes, asked.cpus_per_task) == (12, 2, 2)
    elsewhere = FirecrestJob.model_validate(
        {"workingDirectory": "/tmp", "script": script}
    ).to_submission(is_slurm=False)
    assert elsewhere.reserved_slots == 1


@pytest.mark.parametrize("script", ["#SBATCH -n x\n", "#SBATCH -n\n", '#SBATCH "\n'])
def test_directive_without_number(script: str) -> None:
    with pytest.raises(InvalidSpec):
        FirecrestJob.model_validate({"workingDirectory": "/tmp", "script": script}).to_submission(
            is_slurm=True
        )


@given(st.text("ab\n", max_size=12), st.integers(1, 5), st.booleans())
def test_lines_head_and_tail(text: str, lines: int, from_end: bool) -> None:
    content = text.encode()
    whole = content.splitlines(keepends=True)
    kept = max(0, len(whole) - lines)
    expected = whole[:kept] if from_end else whole[:lines]
    at = _cut_at(content, None, lines, from_end=from_end)
    assert content[:at] == b"".join(expected)
