"""A service and a real OpenID Connect provider (tests/clusters/oidc.py): users, keys, outages."""

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import KeySet
from tests.real import call, settings_of

from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

# The provider is one, and some tests stop it.
pytestmark = [pytest.mark.oidc, pytest.mark.xdist_group("oidc")]

AUDIENCE = "hpc-queue"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    yield settings_of("oidc")["issuer"]
    call("oidc", "up")


@pytest.fixture
def service(issuer: str, start_service: Callable[..., Service]) -> Service:
    return start_service(
        SCHEDULER="LOCAL",
        AUTH="peer,token,oidc",
        OIDC_ISSUER=issuer,
        OIDC_AUDIENCE=AUDIENCE,
        OIDC_ROLE_CLAIM="groups",
        OIDC_ROLES="planners=user,guests=viewer",
    )


def token_of(issuer: str, user: str, client: str = AUDIENCE) -> str:
    """Return an access token that the provider gives a user for a client."""
    asked = {
        "grant_type": "password",
        "username": user,
        "password": f"secret-of-{user}",
        "scope": "openid profile groups",
    }

    def ask_provider() -> httpx.Response | None:
        answer = httpx.post(
            f"{issuer}/oauth/token", auth=(client, "secret"), data=asked, timeout=PATIENCE_SECONDS
        )
        # Two tokens of a user in one second are equal, which Canaille 0.3.6 cannot keep.
        is_equal = answer.status_code == 500 and "token.access_token" in answer.text
        return None if is_equal else answer

    answer = until(ask_provider)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def ask(service: Service, token: str, method: str = "GET", **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return service.client.request(method, "/jobs", headers=headers, **more)


def decoded(part: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return content


def coded(content: Any) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_provider_users(issuer: str, service: Service, tmp_path: Path) -> None:
    study = Study(tmp_path / "study")
    job = study.job(study.script(""))
    planner, guest, nobody = (token_of(issuer, user) for user in ("ana", "rui", "eva"))

    made = ask(service, planner, "POST", json=job)
    assert made.status_code == 201, made.text
    job_id = made.json()["jobId"]
    assert service.client.get(f"/jobs/{job_id}").json()["submittedBy"] == "ana"
    assert ask(service, guest).status_code == 200
    assert ask(service, guest, "POST", json=job).status_code == 403
    refused = ask(service, nobody)
    assert (refused.status_code, "OIDC_ROLES" in refused.text) == (401, True)
    assert planner not in service.whole_log()


def test_provider_tokens_for_other_audience(issuer: str, service: Service) -> None:
    assert ask(service, token_of(issuer, "ana", "other")).status_code == 401
    head, claims, signature = token_of(issuer, "ana").split(".")
    keys = KeySet.import_key_set(httpx.get(f"{issuer}/oauth/jwks.json").json())
    (key, *_) = keys.keys
    unsigned = coded({**decoded(head), "alg": "none"})
    symmetric = f"{coded({**decoded(head), 'alg': 'HS256'})}.{claims}"
    secret = key.as_pem(private=False)  # type: ignore[union-attr]
    promoted = coded({**decoded(claims), "groups": ["planners"], "sub": "root"})
    late = coded({**decoded(claims), "exp": 1})
    for forged in (
        f"{unsigned}.{claims}.",
        f"{unsigned}.{claims}.{signature}",
        f"{symmetric}.{coded(hmac.digest(secret, symmetric.encode(), 'sha256'))}",
        f"{head}.{promoted}.{signature}",
        f"{head}.{late}.{signature}",
        f"{head}.{claims}.{signature[:-8]}",
        f"{head}.{claims}",
    ):
        assert ask(service, forged).status_code == 401, forged
    assert ask(service, f"{head}.{claims}.{signature}").status_code == 200


def test_provider_key_rotation(issuer: str, service: Service) -> None:
    old = token_of(issuer, "ana")
    assert ask(service, old).status_code == 200
    call("oidc", "rotate")
    new = token_of(issuer, "ana")
    assert decoded(new.split(".")[0])["kid"] != decoded(old.split(".")[0])["kid"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    # Unknown keys are asked for now and then only.
    while ask(service, new).status_code == 401 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert ask(service, new).status_code == 200
    assert ask(service, old).status_code == 200


def test_provider_down(issuer: str, service: Service) -> None:
    token = token_of(issuer, "ana")
    assert ask(service, token).status_code == 200
    call("oidc", "stop")
    assert ask(service, token).status_code == 200
    service.restart()
    unknown = ask(service, token)
    assert (unknown.status_code, issuer in unknown.text) == (503, True)
    assert service.client.get("/jobs").status_code == 200
    call("oidc", "up")
    until(lambda: ask(service, token).status_code == 200)
