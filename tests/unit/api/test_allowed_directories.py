"""``ALLOWED_DIRECTORIES``, from the setting to the answer."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.unit.api.conftest import running

from hpcq.config import Settings


@pytest.mark.anyio
async def test_submission_outside_allowed_directories(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path, allowed_directories=f"/nowhere:{tmp_path}/work/") as app:
        assert (await app.client.post("/jobs", json=app.body)).status_code == 201
        answer = await app.client.post("/jobs", json=app.body | {"scriptFile": "/bin/true"})
        assert (answer.status_code, answer.json()["field"]) == (400, "scriptFile")
        assert f"/nowhere, {tmp_path}/work." in answer.json()["detail"]


@pytest.mark.parametrize("text", ["home", "/home:", ":/home", "/home:srv", "~/studies"])
def test_allowed_directories_relative(text: str) -> None:
    with pytest.raises(ValidationError, match="absolute path"):
        Settings(allowed_directories=text)  # type: ignore[arg-type]


def test_allowed_directories_normalised() -> None:
    settings = Settings(allowed_directories="//srv//studies/:/home/./x/..")  # type: ignore[arg-type]
    assert settings.allowed_directories == ("/srv/studies", "/home")
