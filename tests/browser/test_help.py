"""The documentation at ``/help`` in a real browser, which asks nobody else for anything."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import PATIENCE_MILLISECONDS, Reader

from hpcq.schedulers.testing.service import Service

expect.set_options(timeout=PATIENCE_MILLISECONDS)


@pytest.mark.parametrize(
    ("page", "asked", "answer"),
    [("help/", "idempotency", "Submitting"), ("help/pt/", "idempotência", "Várias réplicas")],
)
def test_help_search(
    page: str, asked: str, answer: str, start_service: Callable[..., Service], reader: Reader
) -> None:
    opened = reader(start_service(), page)
    opened.get_by_role("textbox", name="Search" if page == "help/" else "Buscar").fill(asked)
    found = opened.locator(".md-search-result__item").filter(has_text=answer).first
    found.get_by_role("link").first.click()
    expect(opened.get_by_role("heading", level=1, name=answer)).to_be_visible()


def test_help_language_switch(start_service: Callable[..., Service], reader: Reader) -> None:
    service = start_service(ROOT_PATH="/queue")
    page = reader(service, "queue/help/")
    page.get_by_role("link", name="LOCAL").first.click()
    expect(page.get_by_role("heading", level=1, name="LOCAL, the embedded")).to_be_visible()
    page.get_by_role("button", name="Select language").hover()
    page.get_by_role("link", name="Português").click()
    expect(page.get_by_role("heading", level=1, name="LOCAL, o escalonador")).to_be_visible()
    assert page.url.startswith(f"{service.url}/queue/help/pt/schedulers/local.html")
