"""The numbers in the ids of programs: given once, kept for good, the same for all replicas."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.databases import Database as Place
from tests.unit.storage.kit import Store, opened, several

from hpcq.domain.programs import ProgramKey
from hpcq.storage.programs import ProgramNumbers

pytestmark = pytest.mark.anyio


def keys(*versions: str, prefix: str = "NW") -> list[ProgramKey]:
    return [ProgramKey(prefix, "NEWAVE", version) for version in versions]


@pytest.fixture
async def stores(shared: Place) -> AsyncIterator[list[Store]]:
    async with several(shared.url, 2) as stores:
        yield stores


async def numbers(store: Store, *versions: str, prefix: str = "NW") -> list[int]:
    wanted = keys(*versions, prefix=prefix)
    given = await ProgramNumbers(store.database).of(wanted)
    return [given[key] for key in wanted]


async def test_numbers_new_versions(store: Store) -> None:
    assert await numbers(store, "v1", "v2", "v3") == [0, 1, 2]
    assert await numbers(store, "v0", "v2", "v25") == [3, 1, 4]


async def test_numbers_per_prefix(store: Store) -> None:
    assert await numbers(store, "v1", "v2") == [0, 1]
    assert await numbers(store, "v1", "v2", prefix="DC") == [0, 1]


async def test_numbers_not_reused(store: Store) -> None:
    await numbers(store, "v1", "v2")
    assert await numbers(store, "v3") == [2]
    assert await numbers(store, "v2") == [1]


async def test_numbers_after_reopen(database: Place) -> None:
    async with opened(database.url) as store:
        await numbers(store, "v2", "v3")
    async with opened(database.url) as store:
        assert await numbers(store, "v1", "v2", "v3") == [2, 0, 1]


async def test_numbers_concurrent_replicas(stores: list[Store]) -> None:
    names = [f"v{n}" for n in range(50)]
    one, other = await asyncio.gather(
        numbers(stores[0], *names), numbers(stores[1], *reversed(names))
    )
    assert one == list(reversed(other))
    assert sorted(one) == list(range(50))
