from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.services.kit import World


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(directory=tmp_path) as world:
        yield world
