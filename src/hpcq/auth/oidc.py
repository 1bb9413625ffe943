"""An OpenID Connect provider: its keys, and its tokens, mapped to a user and a role.

OpenID Connect Core 1.0 (3.1.3.7) and Discovery 1.0; JSON Web Tokens are RFC 7519 and 8725.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
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
    "NO_ANSWER",
    "OidcUser",
    "OidcVerifier",
    "Provider",
    "answer_of",
    "provider_client",
]

_KEYS_KEPT_SECONDS = 3600.0
# A token with an unknown key may be the first one after a rotation; anybody can make such tokens.
_KEYS_ASKED_AGAIN_SECONDS = 10.0
# While the provider is away, tokens with unknown keys are refused without a wait.
_AWAY_ASKED_AGAIN_SECONDS = 5.0
_TIMEOUT_SECONDS = 5.0
_LARGEST_ANSWER = 2**20
_LONGEST_TOKEN = 16_384
CLOCKS_DIFFER_SECONDS = 30
"""The most seconds between our clock and the provider's."""
NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, RecursionError)
"""The errors of an answer of the provider that cannot be had or read."""


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
    names a new one. Tokens with a known key never wait for that; all others share one fetch. While
    the provider is away the keys that are known stay good, and tokens with others are refused.
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
        self._fetched_at = self._asked_at = 0.0
        self._problem: str | None = None
        self._asking: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Give up the fetch under way, if there is one."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def verify(self, text: str) -> OidcUser:
        """Return the user of a token.

        Raises:
            NotAuthenticated: it is not good, or gives no role here.
            ProviderUnavailable: its key is unknown, and the provider is away.
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
            ProviderUnavailable: its key is unknown, and the provider is away.
        """
        if len(text) > _LONGEST_TOKEN:
            raise NotAuthenticated("The token is too long.")
        try:
            try:
                token = self._decode(text, await self.provider())
            except InvalidKeyIdError:
                token = self._decode(text, await self._asked())
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

    async def provider(self) -> Provider:
        """Return the provider as it described itself; wait only if it never did.

        Raises:
            ProviderUnavailable: it cannot be asked, or could not 5 s ago, and never could.
        """
        if self._provider is None:
            return await self._asked()
        if time.monotonic() - self._fetched_at >= _KEYS_KEPT_SECONDS:
            self._ask()
        return self._provider

    async def _asked(self) -> Provider:
        """Return the provider as it describes itself, or did a few seconds ago.

        Raises:
            ProviderUnavailable: it cannot be asked, or could not 5 s ago.
        """
        # Others wait for the same: it goes on without one who leaves.
        await asyncio.shield(self._ask())
        if self._provider is None or self._problem is not None:
            raise ProviderUnavailable(
                f"The OpenID Connect provider {self._issuer} cannot be asked for its keys, "
                f"so its tokens cannot be checked: {self._problem}."
            )
        return self._provider

    def _ask(self) -> asyncio.Task[None]:
        """Return the fetch under way or the newest one; begin another if it is time for one."""
        asking = self._asking
        is_away = self._problem is not None
        pause = _AWAY_ASKED_AGAIN_SECONDS if is_away else _KEYS_ASKED_AGAIN_SECONDS
        if asking is None or (asking.done() and time.monotonic() - self._asked_at >= pause):
            asking = self._asking = asyncio.create_task(self._renew())
        return asking

    async def _renew(self) -> None:
        try:
            self._provider = await self._fetch()
            self._fetched_at = time.monotonic()
            self._problem = None
        except (*NO_ANSWER, JoseError, KeyError, TypeError, AttributeError) as error:
            # Its first line: httpx adds the address of a page about the status.
            self._problem = str(error).partition("\n")[0] or type(error).__name__
        finally:
            self._asked_at = time.monotonic()

    async def _fetch(self) -> Provider:
        async with provider_client() as client:
            where = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
            about = await answer_of(client, "GET", where)
            if about["issuer"] != self._issuer:
                raise ValueError(f"it calls itself {about['issuer']!r}")
            keys = KeySet.import_key_set(await answer_of(client, "GET", about["jwks_uri"]))
            return Provider(keys, about)


@contextlib.asynccontextmanager
async def provider_client() -> AsyncIterator[httpx.AsyncClient]:
    """Open a client for a few questions to the provider; all of them have to end within 5 s.

    Raises:
        TimeoutError: they do not.
    """
    # The client's own limit is for each part of an answer: one byte at a time never meets it.
    try:
        async with (
            asyncio.timeout(_TIMEOUT_SECONDS),
            httpx.AsyncClient(timeout=None, follow_redirects=False) as client,  # noqa: S113
        ):
            yield client
    except TimeoutError as error:
        raise TimeoutError(f"it does not answer within {_TIMEOUT_SECONDS:g} s") from error


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
