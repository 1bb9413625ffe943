"""LOCAL in the test's own process, for the tests of its parts, and accounts of other people."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.accounts import Account, made_accounts, make_folder
from tests.integration.local_site import LocalSite


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LocalSite]:
    site = await LocalSite(tmp_path).start()
    yield site
    await site.clean_up()


@pytest.fixture(scope="module")
def homes() -> Iterator[Path]:
    """A folder that other accounts can enter."""
    folder = make_folder("hpcq-t-")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def people(homes: Path) -> Iterator[list[Account]]:
    """Two accounts of the machine; only root can make them."""
    with made_accounts(2, homes) as accounts:
        yield accounts
