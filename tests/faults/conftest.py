"""Fake schedulers, and services in front of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.fake import COMMANDS, FakeScheduler
from tests.service import Service


@pytest.fixture(params=COMMANDS)
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> FakeScheduler:
    """A fake of each command-line scheduler in turn; nothing real is needed."""
    return FakeScheduler(tmp_path / "fake", request.param)


@pytest.fixture
def faulty(fake: FakeScheduler, start_service: Callable[..., Service]) -> Service:
    """A service in front of `fake`, with short limits."""
    return start_service(
        **fake.settings(),
        COMMAND_TIMEOUT_SECONDS="2",
        STALE_AFTER_SECONDS="2",
        POLL_INTERVAL_SECONDS="0.3",
        SUBMISSION_WAIT_SECONDS="0.2",
    )
