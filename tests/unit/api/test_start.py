"""What a service does not start with."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.api.conftest import running

from hpcq.config import Settings
from hpcq.domain.errors import UnsupportedCapability
from hpcq.domain.principals import Method

pytestmark = pytest.mark.anyio


@pytest.mark.usefixtures("plugin")
async def test_start_scheduler_without_account_submission(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"auth": (Method.TOKEN,), "submit_as": "user"}
    with pytest.raises(UnsupportedCapability, match="Set SUBMIT_AS=service"):
        async with running(tmp_path, **settings):
            pass


def test_settings_auth_none_with_submit_as_user() -> None:
    with pytest.raises(ValidationError, match="with AUTH=none nobody is asked"):
        Settings(auth=(Method.NONE,), submit_as="user")
