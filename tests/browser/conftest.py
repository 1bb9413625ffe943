"""Chromium, as a reader of the page has it: a language, a colour, a width."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
from tests.real import settings_of

from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

__all__ = ["Reader", "submit"]

LANGUAGES = {"en": "en-US", "pt": "pt-BR"}
# The machine may be busy.
PATIENCE_MILLISECONDS = PATIENCE_SECONDS * 1000
expect.set_options(timeout=PATIENCE_MILLISECONDS)

Reader = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; each has a browser of its worker."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.chromium)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    # As root, as in CI, it has no sandbox of its own.
    browser = playwright.chromium.launch(
        executable_path=settings_of("chromium")["CHROMIUM"], args=["--no-sandbox"]
    )
    yield browser
    browser.close()


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    """Opens the page as somebody who reads it; what goes wrong in it fails the test."""
    troubles: list[str] = []
    contexts = []

    def open_page(
        service: Service,
        view: str = "",
        *,
        language: str = "en",
        dark: bool = False,
        width: int = 1280,
        remote: bool = False,
        expected: tuple[str, ...] = (),
    ) -> Page:
        context = browser.new_context(
            locale=LANGUAGES[language],
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": 800},
            # As a proxy would say of somebody elsewhere, whose account nobody knows.
            extra_http_headers={"X-Forwarded-For": "192.0.2.7"} if remote else {},
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        page = context.new_page()

        def note(words: str) -> None:
            if not any(one in words for one in expected):
                troubles.append(words)

        page.on("pageerror", lambda error: note(str(error)))
        page.on("console", lambda said: note(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: None if _is_own(asked.url, service) else note(asked.url))
        page.goto(f"{service.url}/{view}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def _is_own(url: str, service: Service) -> bool:
    return url.startswith((f"{service.url}/", "data:", "blob:"))


def submit(service: Service, **fields: Any) -> dict[str, str]:
    """Submit a job that ends at once unless the fields say otherwise."""
    folder = service.directory / "study"
    folder.mkdir(exist_ok=True)
    body = {
        "workingDirectory": str(folder),
        "reservedSlots": 1,
        "script": "#!/bin/sh\n:\n",
        **fields,
    }
    answer = service.client.post("/jobs", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, str] = answer.json()
    return found
