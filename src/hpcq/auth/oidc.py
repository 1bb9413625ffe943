"""An OpenID Connect provider: its keys, and its tokens, mapped to a user and a role.

OpenID Connect Core 1.0 (3.1.3.7) and Discovery 1.0; JSON Web Tokens are RFC 7519 and 8725.
"""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from hpcq.auth.settings import AuthSettings
from hpcq.domain.errors import NotAuthenticated, ProviderUnavailable
from hpcq.domain.principals import Role

__all__ = [
    "CLOCKS_DIFFER_SECONDS",
    "TIMEOUT_SECONDS",
    "OidcUser",
    "OidcVerifier",
    "Provider",
    "answer_of",
]

_KEYS_KEPT_SECONDS = 3600.0
# A token with an unknown key may be the first one after a rotation; anybody can make such tokens.
_KEYS_ASKED_AGAIN_SECONDS = 10.0
TIMEOUT_SECONDS = 5.0
"""The longest time that the provider may take for an answer."""
_LARGEST_ANSWER = 2**20
_LONGEST_TOKEN = 16_384
# While it is away, and no key is known: all who ask meanwhile share one answer.
_AWAY_ASKED_AGAIN_SECONDS = 2.0
CLOCKS_DIFFER_SECONDS = 30
"""The most seconds between our clock and the provider's."""


class OidcUser(NamedTuple):
    """A user of the provider.

    Attributes:
        expires_at: the end of what was shown.
    """

    user: str
    role: Role
    expires_at: datetime


class Provider(NamedTuple):
    """A provider as it describes itself.

    Attributes:
        keys: its public ones.
        about: its discovery document.
    """

    keys: KeySet
    about: dict[str, Any]


class OidcVerifier:
    """Recognises the tokens of one provider.

    Its public keys are fetched when the first token comes, and again after an hour or when a token
    names a new one. While the provider is away the keys that are known stay good.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings
        self._issuer = settings.oidc_issuer or ""
        self._claims = jwt.JWTClaimsRegistry(
            leeway=CLOCKS_DIFFER_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": settings.oidc_audience or ""},
            exp={"essential": True},
        )
        self._provider: Provider | None = None
        self._fetched_at = 0.0
        self._problem: str | None = None
        self._fetching = asyncio.Lock()

    async def verify(self, text: str) -> OidcUser:
        """Return the user of a token.

        Raises:
            NotAuthenticated: it is not good, or gives no role here.
            ProviderUnavailable: its keys cannot be fetched.
        """
        return self.user(await self.claims(text))

    async def claims(
        self, text: str, registry: jwt.JWTClaimsRegistry | None = None
    ) -> dict[str, Any]:
        """Return the claims of a token that the provider signed.

        Args:
            text: the token.
            registry: the claims that it must have; None for those of an access token.

        Raises:
            NotAuthenticated: it is not good.
            ProviderUnavailable: the keys cannot be fetched.
        """
        if len(text) > _LONGEST_TOKEN:
            raise NotAuthenticated("The token is too long.")
        try:
            try:
                token = self._decode(text, await self.provider())
            except InvalidKeyIdError:
                token = self._decode(text, await self.provider(_KEYS_ASKED_AGAIN_SECONDS))
            (registry or self._claims).validate(token.claims)
        except (JoseError, ValueError) as error:
            raise NotAuthenticated(f"The token is not good: {error}.") from error
        return token.claims

    def user(self, claims: dict[str, Any]) -> OidcUser:
        """Return the user and the role that claims give.

        Raises:
            NotAuthenticated: they give none here.
        """
        return OidcUser(
            user=self._user(claims),
            role=self._role(claims),
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
        )

    def _decode(self, text: str, provider: Provider) -> jwt.Token:
        return jwt.decode(text, provider.keys, algorithms=list(self._settings.oidc_algorithms))

    def _user(self, claims: dict[str, Any]) -> str:
        name = claims.get(self._settings.oidc_user_claim)
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 255:
            raise NotAuthenticated(
                f"The token has no claim {self._settings.oidc_user_claim!r} that names a user; "
                "OIDC_USER_CLAIM says where the name is."
            )
        return name

    def _role(self, claims: dict[str, Any]) -> Role:
        value: Any = claims
        for part in self._settings.oidc_role_claim.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        said = {value} if isinstance(value, str) else set(_texts(value))
        given = {role for name, role in self._settings.oidc_roles if name == "*" or name in said}
        for role in reversed(Role):
            if role in given:
                return role
        raise NotAuthenticated(
            f"The token gives no role here: OIDC_ROLES maps none of the values of its claim "
            f"{self._settings.oidc_role_claim!r}."
        )

    async def provider(self, kept_seconds: float | None = None) -> Provider:
        """Return the provider as it described itself.

        Args:
            kept_seconds: the greatest age of the description; None for an hour.

        Raises:
            ProviderUnavailable: it cannot be asked, or could not 2 s ago, and never could.
        """
        kept_seconds = _KEYS_KEPT_SECONDS if kept_seconds is None else kept_seconds
        asked_at = time.monotonic()
        async with self._fetching:
            if self._provider is not None and asked_at - self._fetched_at < kept_seconds:
                return self._provider
            problem = self._problem if self._provider is None else None
            if problem is not None and asked_at - self._fetched_at < _AWAY_ASKED_AGAIN_SECONDS:
                raise ProviderUnavailable(problem)
            # After a failure too, as long as there are keys: they stay good.
            self._fetched_at = time.monotonic()
            try:
                self._provider = await self._fetch()
            except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
                if self._provider is None:
                    self._fetched_at = time.monotonic()
                    self._problem = (
                        f"The OpenID Connect provider {self._issuer} cannot be asked for its keys, "
                        f"so its tokens cannot be checked: {error or type(error).__name__}."
                    )
                    raise ProviderUnavailable(self._problem) from error
            return self._provider

    async def _fetch(self) -> Provider:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client:
            where = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
            about = await answer_of(client, "GET", where)
            if about["issuer"] != self._issuer:
                raise ValueError(f"it calls itself {about['issuer']!r}")
            keys = KeySet.import_key_set(await answer_of(client, "GET", about["jwks_uri"]))
            return Provider(keys, about)


async def answer_of(client: httpx.AsyncClient, method: str, url: str, **more: Any) -> Any:
    """Return the JSON of the provider's answer.

    Args:
        client: asks.
        method: of the request.
        url: of the request.
        more: of the request, as httpx takes it.

    Raises:
        httpx.HTTPError: it cannot be had.
        ValueError: it is no JSON, or too long.
    """
    async with client.stream(method, url, **more) as answer:
        if answer.status_code >= 500 or method == "GET":
            answer.raise_for_status()
        body = b""
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > _LARGEST_ANSWER:
                raise ValueError(f"the answer of {url} is too long")
    return httpx.Response(200, content=body).json()


def _texts(value: object) -> Iterable[str]:
    return (one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
