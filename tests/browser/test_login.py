"""The login of the page: a token, once, for somebody whom the connection does not name."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.browser.conftest import Reader, submit
from tests.integration.test_access import made_token, token_command

from hpcq.schedulers.testing.service import Service


@pytest.fixture
def service(start_service: Callable[..., Service]) -> Service:
    return start_service()


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def test_login_token_once(service: Service, reader: Reader) -> None:
    submit(service, name="november", hold=True)
    page = reader(service, remote=True, expected=("401",))
    expect(page.get_by_role("heading", name="Who are you?")).to_be_visible()
    assert Axe().run(page).response["violations"] == []
    sign_in(page, "hpcq_wrong")
    expect(page.get_by_role("alert")).to_contain_text("does not know this token")
    sign_in(page, made_token(service, "ana", "user"))
    expect(page.get_by_role("row", name="november")).to_be_visible()
    expect(page.get_by_text("ana (user)")).to_be_visible()
    page.reload()
    expect(page.get_by_role("row", name="november")).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Who are you?")).to_be_visible()
    expect(page.get_by_role("row", name="november")).not_to_be_visible()


def test_login_portuguese(service: Service, reader: Reader) -> None:
    page = reader(service, remote=True, expected=("401",), language="pt")
    expect(page.get_by_role("heading", name="Quem é você?")).to_be_visible()
    assert Axe().run(page).response["violations"] == []


def test_login_viewer_read_only(service: Service, reader: Reader) -> None:
    job = submit(service, name="november", hold=True)
    page = reader(service, f"#/jobs/{job['uid']}", remote=True, expected=("401", "403"))
    with page.expect_response("**/cluster"):
        sign_in(page, made_token(service, "vera", "viewer"))
    expect(page.get_by_text("vera (viewer)")).to_be_visible()
    expect(page.get_by_role("heading", name="november")).to_be_visible()
    expect(page.locator(".timeline li").first).to_be_visible()
    expect(page.get_by_role("button", name="Release")).not_to_be_visible()
    expect(page.get_by_role("button", name="Delete")).not_to_be_visible()


def test_login_after_session_end(service: Service, reader: Reader) -> None:
    token = made_token(service, "ana", "user")
    page = reader(service, remote=True, expected=("401", "ERR_"))
    sign_in(page, token)
    expect(page.get_by_text("ana (user)")).to_be_visible()
    number = next(
        line.split()[0]
        for line in token_command(service, "list").stdout.splitlines()
        if "ana" in line
    )
    assert token_command(service, "revoke", number).returncode == 0
    expect(page.get_by_role("heading", name="Who are you?")).to_be_visible()
