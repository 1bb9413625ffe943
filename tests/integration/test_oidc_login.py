"""The login of browsers at a real OpenID Connect provider (tests/clusters/oidc.py), by a code."""

import re
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from tests.real import call, settings_of

from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

# The provider is one, and some tests stop it.
pytestmark = [pytest.mark.oidc, pytest.mark.xdist_group("oidc")]

CLIENT = "browsers"
# By its connection a browser of this machine would be somebody without a login.
THROUGH_A_PROXY = {"Via": "1.1 proxy"}
SECRET = "secret"  # noqa: S105


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    yield settings_of("oidc")["issuer"]
    call("oidc", "up")


@pytest.fixture
def service(issuer: str, start_service: Callable[..., Service]) -> Service:
    service = start_service(
        SCHEDULER="LOCAL",
        AUTH="peer,token,oidc",
        OIDC_ISSUER=issuer,
        OIDC_AUDIENCE=CLIENT,
        OIDC_CLIENT_ID=CLIENT,
        OIDC_CLIENT_SECRET=SECRET,
        OIDC_SCOPES="openid,profile,groups",
        OIDC_ROLE_CLAIM="groups",
        OIDC_ROLES="planners=user,guests=viewer",
    )
    register(service)
    return service


def register(service: Service) -> None:
    """Let the provider lead browsers back to the service, at the port that it has now."""
    call("oidc", "client", CLIENT, f"{service.url}/session/callback")


class Forms(HTMLParser):
    """The values of the last form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.fields = {}
        elif tag in ("input", "button") and given.get("name"):
            self.fields[str(given["name"])] = given.get("value") or ""


class Browser:
    """Somebody's browser, which logs in with a name and follows redirects one by one."""

    def __init__(self, service: Service, user: str = "ana") -> None:
        self.url = service.url
        self.user = user
        self.client = httpx.Client(
            timeout=PATIENCE_SECONDS,
            headers=THROUGH_A_PROXY,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def get(self, url: str) -> httpx.Response:
        return self.client.get(urljoin(self.url, url), headers={"Accept": "text/html"})

    def begin(self, query: str = "") -> str:
        """Return the address of the provider to which the service leads."""
        answer = self.get(f"/session/login{query}")
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def pass_provider(self, url: str) -> str:
        """Log in at the provider; return the address to which it leads back."""
        answer = self.get(url)
        for _ in range(20):
            if answer.is_redirect:
                url = urljoin(str(answer.request.url), answer.headers["location"])
                if url.startswith(f"{self.url}/"):
                    return url
                answer = self.get(url)
                continue
            forms = Forms()
            forms.feed(answer.text)
            known = {"login": self.user, "password": f"secret-of-{self.user}", "answer": "accept"}
            fields = {name: known.get(name, value) for name, value in forms.fields.items()}
            answer = self.client.post(answer.request.url, data=fields)
        raise AssertionError(f"the provider leads nowhere: {answer.text[-2000:]}")

    def finish(self, url: str) -> httpx.Response:
        answer = self.get(url)
        assert "hpcq-login" not in str(self.client.cookies), "the login's secret stays"
        return answer

    def session(self) -> Any:
        return self.client.get(f"{self.url}/session").json()


def refused(answer: httpx.Response, problem: str = "login") -> bool:
    """Return whether the page is told of a failed login, and no session was made."""
    assert answer.status_code == 303, answer.text
    assert "hpcq-session" not in str(answer.headers)
    return bool(answer.headers["location"] == f"/#/jobs?problem={problem}")


def test_login_in_browser(service: Service) -> None:
    browser = Browser(service)
    nobody = browser.session()
    assert (nobody["user"], nobody["logins"]) == (
        None,
        [
            {"method": "peer", "url": None},
            {"method": "token", "url": None},
            {"method": "oidc", "url": "session/login"},
        ],
    )
    url = browser.begin("?view=queues")
    asked = {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}
    assert (asked["code_challenge_method"], asked["client_id"]) == ("S256", CLIENT)
    answer = browser.finish(browser.pass_provider(url))
    assert (answer.status_code, answer.headers["location"]) == (303, "/#/queues")
    told = browser.session()
    assert (told["user"], told["role"], told["method"]) == ("ana", "user", "session")
    assert browser.client.get(f"{service.url}/jobs").status_code == 200
    away = browser.client.delete(f"{service.url}/session", headers={"Origin": service.url})
    assert (away.status_code, browser.session()["user"]) == (204, None)
    log = service.whole_log()
    assert "path=/session/callback" in log
    assert "secret" not in log.replace("client_secret", "")
    assert asked["state"] not in log


def test_session_over_service_restart(service: Service) -> None:
    browser = Browser(service)
    assert browser.finish(browser.pass_provider(browser.begin())).status_code == 303
    service.restart()
    # Cookies are those of a host, whatever its port.
    browser.url = service.url
    assert browser.session()["user"] == "ana"


def test_login_user_without_role(service: Service) -> None:
    browser = Browser(service, "eva")
    assert refused(browser.finish(browser.pass_provider(browser.begin())))
    assert browser.session()["user"] is None
    assert service.wait_until_logged("OIDC_ROLES")


def test_login_other_state(service: Service) -> None:
    browser, other = Browser(service), Browser(service)
    back = browser.pass_provider(browser.begin())
    assert refused(browser.finish(re.sub("state=[^&]*", "state=other", back)))
    # The answer to the login of one browser is worth nothing in another.
    other.begin()
    assert refused(other.finish(back))
    assert refused(Browser(service).finish(back))


def test_login_other_issuer(service: Service) -> None:
    browser = Browser(service)
    back = browser.pass_provider(browser.begin())
    back = f"{re.sub('&iss=[^&]*', '', back)}&iss=https://elsewhere.example"
    assert refused(browser.finish(back))


def test_login_code_used_before(service: Service) -> None:
    browser = Browser(service)
    back = browser.pass_provider(browser.begin())
    secret = {cookie.name: cookie.value or "" for cookie in browser.client.cookies.jar}
    assert browser.finish(back).headers["location"] == "/#/jobs"
    again = httpx.get(back, cookies=secret, headers={"Accept": "text/html"})
    assert refused(again)
    # Of the same login, with a code that was never given out.
    guessed = re.sub("code=[^&]*", "code=guess", back)
    assert refused(httpx.get(guessed, cookies=secret, headers={"Accept": "text/html"}))


def test_login_other_nonce(service: Service) -> None:
    browser = Browser(service)
    url = re.sub("nonce=[^&]*", "nonce=other", browser.begin())
    assert refused(browser.finish(browser.pass_provider(url)))
    assert service.wait_until_logged("nonce")


def test_login_other_code_verifier(service: Service) -> None:
    browser = Browser(service)
    other = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    url = re.sub("code_challenge=[^&]*", f"code_challenge={other}", browser.begin())
    assert refused(browser.finish(browser.pass_provider(url)))


def test_login_too_late(service: Service) -> None:
    browser = Browser(service)
    back = browser.pass_provider(browser.begin())
    [(name, value)] = [
        (cookie.name, cookie.value or "")
        for cookie in browser.client.cookies.jar
        if cookie.name.startswith("hpcq-login")
    ]
    old = value.replace(value.partition(".")[0], str(int(time.time()) - 601), 1)
    answer = httpx.get(back, cookies={name: old})
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert "10 minutes" in answer.json()["detail"]


def test_login_refused_by_provider(service: Service) -> None:
    browser = Browser(service)
    state = parse_qs(urlsplit(browser.begin()).query)["state"][0]
    answer = browser.get(
        f"/session/callback?error=access_denied&state={state}&error_description=No"
    )
    assert refused(answer)
    assert service.wait_until_logged("did not log you in: No")


def test_login_provider_down(issuer: str, service: Service) -> None:
    browser = Browser(service)
    back = browser.pass_provider(browser.begin())
    call("oidc", "stop")
    assert refused(browser.finish(back), "provider")
    service.restart()
    answer = httpx.get(f"{service.url}/session/login")
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    answer = Browser(service).get("/session/login?view=queues")
    assert answer.headers["location"] == "/#/queues?problem=provider"
    call("oidc", "up")
    register(service)
    until(lambda: httpx.get(f"{service.url}/session/login").status_code == 303)
    browser = Browser(service)
    assert browser.finish(browser.pass_provider(browser.begin())).status_code == 303
    assert browser.session()["user"] == "ana"


@pytest.mark.parametrize("view", ["https://evil.example", "//evil.example", "jobs?x", "%0d%0aX:1"])
def test_login_redirect_to_page_only(service: Service, view: str) -> None:
    answer = httpx.get(f"{service.url}/session/login", params={"view": view})
    if answer.status_code == 303:
        browser = Browser(service)
        answer = browser.finish(browser.pass_provider(browser.begin(f"?view={view}")))
        assert answer.headers["location"].startswith("/#/")
    else:
        assert answer.status_code == 422
