"""A service and an OpenID Connect provider that drips its answers, and comes back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
from tests.provider import AUDIENCE, DISCOVERY, Provider

from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until


def test_provider_dripping_then_back(
    provider: Provider, start_service: Callable[..., Service]
) -> None:
    service = start_service(
        AUTH="peer,token,oidc",
        OIDC_ISSUER=provider.url,
        OIDC_AUDIENCE=AUDIENCE,
        OIDC_ROLES="planners=user",
    )

    def ask(_: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {provider.token()}"}
        return service.client.get("/jobs", headers=headers)

    with provider.dripping(DISCOVERY), ThreadPoolExecutor(5) as threads:
        for answer in threads.map(ask, range(5)):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "does not answer within 5 s" in answer.json()["detail"]
    until(lambda: ask().status_code == 200)
