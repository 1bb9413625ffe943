"""Every view for everybody: axe finds nothing, nothing is cut off, from phone to wide screen."""

import json
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from tests.browser.conftest import Reader, submit

from hpcq.schedulers.testing.service import Service

# Each with what is there once it is drawn.
VIEWS = {
    "jobs": ("", ".body .row"),
    "job": ("#/jobs/{job}", ".timeline li"),
    "array": ("#/jobs/{array}", ".tasks a"),
    "submit": ("#/submit", "form"),
    "queues": ("#/queues", "tbody tr"),
    "no page": ("#/nowhere", ".empty"),
}


@pytest.fixture
def service(start_service: Callable[..., Service]) -> Service:
    return start_service()


@pytest.mark.parametrize("width", [360, 1920])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("language", ["en", "pt"])
def test_accessibility_views(
    service: Service, reader: Reader, language: str, dark: bool, width: int
) -> None:
    job = submit(service, name="study", script="#!/bin/sh\necho begin\nsleep 600\n")["uid"]
    array = submit(service, name="cases", array={"first": 1, "last": 5}, hold=True)["uid"]
    submit(service, name="failed", script="#!/bin/sh\nexit 3\n")
    for name, (view, drawn) in VIEWS.items():
        address = view.format(job=job, array=array)
        page = reader(service, address, language=language, dark=dark, width=width)
        expect(page.locator(drawn).first).to_be_visible()
        expect(page.locator(".connection.live")).to_be_visible()
        found = Axe().run(page).response["violations"]
        assert found == [], f"{name}:\n{json.dumps(found, indent=1)[:4000]}"
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert too_wide <= 0, name
        assert page.locator("html").get_attribute("lang") == {"en": "en", "pt": "pt-BR"}[language]


def test_accessibility_keys_dialog(service: Service, reader: Reader) -> None:
    page = reader(service)
    page.get_by_role("button", name="Keys").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert Axe().run(page).response["violations"] == []
