"""LOCAL in the test's own process, for the tests of its parts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.local_site import LocalSite


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LocalSite]:
    site = await LocalSite(tmp_path).start()
    yield site
    await site.clean_up()
