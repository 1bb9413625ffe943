"""Tokens of an OpenID Connect provider: found, checked and mapped to a user and a role.

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

__all__ = ["OidcUser", "OidcVerifier"]

_KEYS_KEPT_SECONDS = 3600.0
# A token with an unknown key may be the first one after a rotation; anybody can make such tokens.
_KEYS_ASKED_AGAIN_SECONDS = 10.0
_TIMEOUT_SECONDS = 5.0
_LARGEST_ANSWER = 2**20
_LONGEST_TOKEN = 16_384
_CLOCKS_DIFFER_SECONDS = 30


class OidcUser(NamedTuple):
    """A user of the provider.

    Attributes:
        expires_at: the end of what was shown.
    """

    user: str
    role: Role
    expires_at: datetime


class OidcVerifier:
    """Recognises the tokens of one provider.

    Its public keys are fetched when the first token comes, and again after an hour or when a token
    names a new one. While the provider is away the keys that are known stay good.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings
        self._issuer = settings.oidc_issuer or ""
        self._claims = jwt.JWTClaimsRegistry(
            leeway=_CLOCKS_DIFFER_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": settings.oidc_audience or ""},
            exp={"essential": True},
        )
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._fetching = asyncio.Lock()

    async def verify(self, text: str) -> OidcUser:
        """Return the user of a token.

        Raises:
            NotAuthenticated: it is not good, or gives no role here.
            ProviderUnavailable: its keys cannot be fetched.
        """
        if len(text) > _LONGEST_TOKEN:
            raise NotAuthenticated("The token is too long.")
        try:
            try:
                token = self._decode(text, await self._current_keys(_KEYS_KEPT_SECONDS))
            except InvalidKeyIdError:
                token = self._decode(text, await self._current_keys(_KEYS_ASKED_AGAIN_SECONDS))
        except (JoseError, ValueError) as error:
            raise NotAuthenticated(f"The token is not good: {error}.") from error
        return OidcUser(
            user=self._user(token.claims),
            role=self._role(token.claims),
            expires_at=datetime.fromtimestamp(token.claims["exp"], UTC),
        )

    def _decode(self, text: str, keys: KeySet) -> jwt.Token:
        token = jwt.decode(text, keys, algorithms=list(self._settings.oidc_algorithms))
        self._claims.validate(token.claims)
        return token

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

    async def _current_keys(self, kept_seconds: float) -> KeySet:
        asked_at = time.monotonic()
        async with self._fetching:
            if self._keys is not None and asked_at - self._fetched_at < kept_seconds:
                return self._keys
            # After a failure too, as long as there are keys: they stay good.
            self._fetched_at = time.monotonic()
            try:
                self._keys = await self._fetch()
            except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
                if self._keys is None:
                    self._fetched_at = 0.0
                    raise ProviderUnavailable(
                        f"The OpenID Connect provider {self._issuer} cannot be asked for its keys, "
                        f"so its tokens cannot be checked: {error or type(error).__name__}."
                    ) from error
            return self._keys

    async def _fetch(self) -> KeySet:
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, follow_redirects=False) as client:
            where = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
            about = await _get(client, where)
            if about["issuer"] != self._issuer:
                raise ValueError(f"it calls itself {about['issuer']!r}")
            return KeySet.import_key_set(await _get(client, about["jwks_uri"]))


async def _get(client: httpx.AsyncClient, url: str) -> Any:
    async with client.stream("GET", url) as answer:
        answer.raise_for_status()
        body = b""
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > _LARGEST_ANSWER:
                raise ValueError(f"the answer of {url} is too long")
    return httpx.Response(200, content=body).json()


def _texts(value: object) -> Iterable[str]:
    return (one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
