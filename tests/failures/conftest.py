"""A service in front of a site of fake commands, for each scheduler in turn."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.failures.site import SITES, Site
from tests.faults.fake import FakeScheduler

from hpcq.schedulers.testing.service import Service

FAST = {
    "POLL_INTERVAL_SECONDS": "0.3",
    "USAGE_INTERVAL_SECONDS": "0.3",
    "STALE_AFTER_SECONDS": "2",
    "SUBMISSION_WAIT_SECONDS": "1.5",
    "SUBMISSION_SETTLE_SECONDS": "300",
}
# For tests in which a command hangs: enough for it to do its work before.
LIMITED = {**FAST, "COMMAND_TIMEOUT_SECONDS": "8"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# What PBS has no other form of is tested on it too, by name.
@pytest.fixture(params=("SLURM", "SGE"))
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """Each command-line scheduler in turn; its jobs do what the test says."""
    name: str = request.param
    site = SITES[name](FakeScheduler(tmp_path / "fake", name))
    site.takes()
    return site


@pytest.fixture
def serving(
    request: pytest.FixtureRequest, site: Site, start_service: Callable[..., Service]
) -> Service:
    """A service in front of `site`, which asks often."""
    call = getattr(request.node, "callspec", None)
    hangs = call is not None and {"hang", "deaf"} & set(map(str, call.params.values()))
    return start_service(**site.fake.settings(), **(LIMITED if hangs else FAST))
