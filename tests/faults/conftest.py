"""Fake schedulers, and services in front of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.fake import COMMANDS, LIMIT_SECONDS, FakeScheduler

from hpcq.schedulers.testing.service import Service


@pytest.fixture(params=COMMANDS)
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> FakeScheduler:
    """A fake of each command-line scheduler in turn; nothing real is needed."""
    return FakeScheduler(tmp_path / "fake", request.param)


@pytest.fixture
def faulty(fake: FakeScheduler, start_service: Callable[..., Service]) -> Service:
    """A service in front of `fake`, which soon calls its answers stale."""
    return start_service(
        **fake.settings(),
        STALE_AFTER_SECONDS="2",
        POLL_INTERVAL_SECONDS="0.3",
        SUBMISSION_WAIT_SECONDS="0.2",
    )


@pytest.fixture
def impatient(fake: FakeScheduler, start_service: Callable[..., Service]) -> Service:
    """A service in front of `fake` that gives no command more than `LIMIT_SECONDS`."""
    return start_service(
        **fake.settings(),
        COMMAND_TIMEOUT_SECONDS=str(LIMIT_SECONDS),
        POLL_INTERVAL_SECONDS="0.3",
        SUBMISSION_WAIT_SECONDS="0.2",
    )
