"""The login of the page with the site's accounts, at a real OpenID Connect provider."""

import re
import time
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from tests.browser.conftest import PATIENCE_MILLISECONDS, Reader
from tests.real import call, settings_of

from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

# The provider is one, and some tests stop it.
pytestmark = [pytest.mark.oidc, pytest.mark.xdist_group("oidc")]

CLIENT = "the-page"


@pytest.fixture
def service(start_service: Callable[..., Service]) -> Iterator[Service]:
    service = start_service(
        AUTH="peer,token,oidc",
        OIDC_ISSUER=settings_of("oidc")["issuer"],
        OIDC_AUDIENCE=CLIENT,
        OIDC_CLIENT_ID=CLIENT,
        OIDC_CLIENT_SECRET="secret",  # noqa: S106
        OIDC_SCOPES="openid,profile,groups",
        OIDC_ROLE_CLAIM="groups",
        OIDC_ROLES="planners=user",
    )
    call("oidc", "client", CLIENT, f"{service.url}/session/callback")
    yield service
    call("oidc", "up")


def log_in(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/#/queues")
    page.get_by_role("link", name="Sign in with your site's account").click()
    page.locator("input[name=login]").fill("ana")
    page.locator("input[name=login]").press("Enter")
    page.locator("input[name=password]").fill("secret-of-ana")
    page.locator("input[name=password]").press("Enter")
    expect(page.get_by_text("ana (user)")).to_be_visible()


def test_session_that_ended_is_begun_anew_without_a_question(
    service: Service, browser: Browser
) -> None:
    context = browser.new_context(locale="en-US", extra_http_headers={"Via": "1.1 proxy"})
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    page = context.new_page()
    log_in(page, service)
    # Canaille's tokens of one second are equal, and its database takes none twice.
    second = int(time.time())
    until(lambda: int(time.time()) > second)
    with page.expect_response(re.compile("/session/callback")) as answer:
        context.clear_cookies(name=re.compile("^hpcq-session"))
        # The page asks for what a view shows.
        page.get_by_role("link", name="Jobs").first.click()
    assert answer.value.status == 303
    expect(page.get_by_text("ana (user)")).to_be_visible()
    expect(page).to_have_url(f"{service.url}/#/jobs")
    context.close()


def test_login_with_an_account_of_the_site(service: Service, browser: Browser) -> None:
    # The provider's own pages are not ours to judge, so this is not the reader of other tests.
    context = browser.new_context(locale="en-US", extra_http_headers={"Via": "1.1 proxy"})
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    page = context.new_page()
    log_in(page, service)
    expect(page).to_have_url(f"{service.url}/#/queues")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Who are you?")).to_be_visible()
    context.close()


@pytest.mark.parametrize(
    ("language", "words"), [("en", "took longer than ten minutes"), ("pt", "mais de dez minutos")]
)
def test_site_login_failed(service: Service, reader: Reader, language: str, words: str) -> None:
    page = reader(
        service,
        "session/callback?code=1&state=2",
        remote=True,
        language=language,
        expected=("401",),
    )
    expect(page.get_by_role("alert")).to_contain_text(words)
    assert Axe().run(page).response["violations"] == []
