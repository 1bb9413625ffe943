"""Login of a browser at the OpenID Connect provider, by a code.

OpenID Connect Core 1.0 (3.1), with PKCE (RFC 7636) and the issuer in the answer (RFC 9207).
"""

import base64
import hashlib
import hmac
import re
import time
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jwt

from hpcq.auth.oidc import (
    CLOCKS_DIFFER_SECONDS,
    NO_ANSWER,
    OidcUser,
    OidcVerifier,
    answer_of,
    provider_client,
)
from hpcq.auth.sessions import LOGIN_SECONDS
from hpcq.auth.settings import AuthSettings, is_safe_url
from hpcq.domain.errors import NotAuthenticated, ProviderUnavailable

__all__ = ["OidcLogin"]

_AGAIN = "Log in again."


def _derived(secret: str, purpose: str) -> str:
    return _coded(hashlib.sha256(f"{purpose}.{secret}".encode()).digest())


def _coded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class OidcLogin:
    """Logs browsers in.

    State, nonce and code verifier of a login are hashes of its secret, which the browser keeps in
    a cookie: the service keeps nothing for those who never come back.

    Args:
        settings: the client that the service is for the provider.
        verifier: knows the provider.
    """

    def __init__(self, settings: AuthSettings, verifier: OidcVerifier) -> None:
        self._settings = settings
        self._verifier = verifier
        self._issuer = settings.oidc_issuer or ""
        self._client_id = settings.oidc_client_id or ""

    async def login_url(self, back: str, secret: str) -> str:
        """Return where a browser has to go.

        Args:
            back: the address to which the provider sends it then.
            secret: of this login.

        Raises:
            ProviderUnavailable: it cannot be asked for its addresses, or tells none.
        """
        challenge = hashlib.sha256(_derived(secret, "verifier").encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": back,
            "scope": " ".join(self._settings.oidc_scopes),
            "state": _derived(secret, "state"),
            "nonce": _derived(secret, "nonce"),
            "code_challenge": _coded(challenge),
            "code_challenge_method": "S256",
        }
        url = await self._endpoint("authorization_endpoint")
        return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(asked)}"

    def check_answer(self, secret: str | None, state: str | None, issuer: str | None) -> str:
        """Return the secret, if the browser's answer is to the login that it began.

        Raises:
            NotAuthenticated: it is not.
        """
        begun, _, _ = (secret or "").partition(".")
        if (
            not secret
            or not re.fullmatch("[0-9]{1,12}", begun)
            or int(begun) + LOGIN_SECONDS < time.time()
        ):
            raise NotAuthenticated(
                f"This login was not begun in this browser in the last {LOGIN_SECONDS // 60} "
                f"minutes. {_AGAIN}"
            )
        if not hmac.compare_digest((state or "").encode(), _derived(secret, "state").encode()):
            raise NotAuthenticated(f"This is the answer to another login. {_AGAIN}")
        if issuer is not None and issuer != self._issuer:
            raise NotAuthenticated(f"This is the answer of another provider. {_AGAIN}")
        return secret

    async def redeem(self, code: str, back: str, secret: str) -> OidcUser:
        """Return who logged in.

        What the ID token does not tell of the user, such as roles, is taken from the access token,
        if that is a token for this service (``OIDC_AUDIENCE``) of the same user.

        Args:
            code: the provider's, from the browser.
            back: as for `login_url`.
            secret: as for `login_url`.

        Raises:
            NotAuthenticated: the code or the ID token is not good, or gives no role here.
            ProviderUnavailable: it cannot be asked.
        """
        answer = await self._exchange(code, back, secret)
        required = jwt.JWTClaimsRegistry(
            leeway=CLOCKS_DIFFER_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            azp={"value": self._client_id},
            exp={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": _derived(secret, "nonce")},
        )
        claims = await self._verifier.claims(str(answer.get("id_token", "")), required)
        try:
            more = await self._verifier.claims(str(answer.get("access_token", "")))
        except NotAuthenticated:
            more = {}
        is_same = more.get("sub") == claims["sub"]
        return self._verifier.user({**more, **claims} if is_same else claims)

    async def _exchange(self, code: str, back: str, secret: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "client_id": self._client_id,
            "code_verifier": _derived(secret, "verifier"),
        }
        more: dict[str, Any] = {"data": form, "headers": {"Accept": "application/json"}}
        provider = await self._verifier.provider()
        ways = provider.about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._settings.oidc_client_secret is not None:
            if "client_secret_basic" in ways:
                # RFC 6749, 2.3.1: both are encoded as in a form.
                pair = (self._client_id, self._settings.oidc_client_secret)
                more["auth"] = tuple(quote(part, safe="") for part in pair)
            else:
                form["client_secret"] = self._settings.oidc_client_secret
        url = await self._endpoint("token_endpoint")
        try:
            async with provider_client() as client:
                answer = await answer_of(client, "POST", url, **more)
            if not isinstance(answer, dict):
                raise ValueError("its answer is no JSON object")
        except NO_ANSWER as error:
            raise ProviderUnavailable(
                f"The OpenID Connect provider {self._issuer} does not say who logged "
                f"in: {error or type(error).__name__}."
            ) from error
        if "error" in answer:
            said = str(answer["error"])[:100]
            raise NotAuthenticated(
                f"The OpenID Connect provider refuses this login: {said}. {_AGAIN}"
            )
        return answer

    async def _endpoint(self, name: str) -> str:
        url = (await self._verifier.provider()).about.get(name)
        if not isinstance(url, str) or not is_safe_url(url):
            raise ProviderUnavailable(
                f"The OpenID Connect provider {self._issuer} names no https address as its {name}."
            )
        return url
