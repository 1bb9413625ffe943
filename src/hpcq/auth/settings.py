"""Settings of authentication: the methods, who is trusted, and the names of the service."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from hpcq.domain.principals import Method, Role
from hpcq.settings import PATH, AbsolutePath, Section, lower, setting, split_words

__all__ = ["AuthSettings", "Network", "TrustedClient", "is_safe_url"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_Algorithm = Literal[
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]

_WIDEST = {4: 16, 6: 48}
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\]")
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_ACCOUNT = re.compile(r"\*|@?[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
_PAIR = re.compile(r"(?P<what>[^=\s]+)=(?P<role>[a-z]+):(?P<user>[A-Za-z0-9._@-]{1,64})")


def _lower_words(value: object) -> object:
    return split_words(lower(value))


@dataclass(frozen=True, slots=True)
class TrustedClient:
    """Clients that are recognised by their address.

    Attributes:
        network: their addresses.
        role: what they may do.
        user: the name that stands in records and logs.
    """

    network: Network
    role: Role
    user: str


def _network(text: str) -> Network:
    network = ipaddress.ip_network(text)
    if network.prefixlen < _WIDEST[network.version]:
        raise ValueError(
            f"{text} is too wide; name at most a /{_WIDEST[network.version]} of addresses"
        )
    return network


def _networks(value: object) -> object:
    words = split_words(value)
    return tuple(map(_network, words)) if isinstance(words, tuple) else value


def _trusted_clients(value: object) -> object:
    words = split_words(value)
    if not isinstance(words, tuple):
        return value
    clients = []
    for word in words:
        found = _PAIR.fullmatch(word)
        if found is None:
            raise ValueError(f"{word!r} is not ADDRESS=ROLE:NAME")
        clients.append(TrustedClient(_network(found["what"]), _role(found["role"]), found["user"]))
    return tuple(clients)


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a role; take viewer, user or operator") from None


def _accounts(value: object) -> object:
    words = split_words(value)
    if not isinstance(words, tuple):
        return value
    roles = {}
    for word in words:
        name, is_given, role = word.partition("=")
        if _ACCOUNT.fullmatch(name) is None:
            raise ValueError(f"{word!r} names no account")
        roles[name] = _role(role) if is_given else Role.USER
    return tuple(roles.items())


def _roles(value: object) -> object:
    words = split_words(value)
    if not isinstance(words, tuple):
        return value
    pairs = [word.rpartition("=") for word in words]
    if not all(name and is_given for name, is_given, _ in pairs):
        raise ValueError("each has to read VALUE=ROLE")
    return tuple((name, _role(role)) for name, _, role in pairs)


def _methods(value: tuple[Method, ...]) -> tuple[Method, ...]:
    if Method.CLIENT in value:
        raise ValueError("clients are named in TRUSTED_CLIENTS")
    if Method.SESSION in value:
        raise ValueError("browsers log in with token or oidc")
    if len(set(value)) < len(value):
        raise ValueError("a method is named twice")
    if Method.NONE in value and len(value) > 1:
        raise ValueError("none stands alone: with it nobody is asked")
    return value


def _scopes(value: tuple[str, ...]) -> tuple[str, ...]:
    if "openid" not in value:
        raise ValueError("openid is missing")
    return value


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    for host in value:
        if host != "*" and _HOST.fullmatch(host) is None:
            raise ValueError(f"{host!r} is not the name of a host, without a port")
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        if _ORIGIN.fullmatch(origin) is None:
            raise ValueError(f"{origin!r} is not an origin such as https://portal.example")
    return value


def is_safe_url(text: str) -> bool:
    """Return whether all that is sent to an address is safe from readers on the way."""
    parts = urlsplit(text)
    is_near = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_near)
    )


class AuthSettings(Section):
    """The people and programs that may use the service, and its names."""

    auth: Annotated[tuple[Method, ...], BeforeValidator(_lower_words), AfterValidator(_methods)] = (
        setting(
            (Method.PEER, Method.TOKEN),
            "How the service recognises who asks. `peer`: the kernel tells which account of this "
            "machine is at the other end of a loopback connection; the service's own account and "
            "root need no token. `token`: a token that `hpcq token create` made. `oidc`: a token "
            "of an OpenID Connect provider. `none`: nobody is asked, and everybody who reaches "
            "the service can run commands as its account.",
            allowed="a list of peer, token and oidc; or none",
            example="token",
            shown="peer,token",
        )
    )
    peer_accounts: Annotated[tuple[tuple[str, Role], ...], BeforeValidator(_accounts)] = setting(
        (),
        "Other accounts of this machine that may use the service through `peer`: names, "
        "`@groups`, or `*` for all, each with a role (`user` unless you say `=viewer` or "
        "`=operator`). The first that fits decides.",
        allowed="ACCOUNT, @GROUP or *, each with =ROLE or without",
        example="ana,@planning=viewer",
        shown="",
    )
    trusted_clients: Annotated[tuple[TrustedClient, ...], BeforeValidator(_trusted_clients)] = (
        setting(
            (),
            "Clients on other machines that cannot send a token, by their addresses. Everybody on "
            "such a machine gets the role.",
            allowed="a list of ADDRESS=ROLE:NAME, where ADDRESS may be a network of at most a /16 "
            "(IPv6: /48)",
            example="10.0.7.12=user:portal",
            shown="",
        )
    )
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = setting(
        (),
        "The proxies in front of the service. It takes the client's address from the "
        "`X-Forwarded-For` header of their requests. A request through a proxy is never "
        "recognised by `peer`.",
        allowed="a list of addresses and networks, at most a /16 (IPv6: /48) each",
        example="127.0.0.1,10.0.7.2",
        shown="",
    )
    allowed_hosts: Annotated[
        tuple[str, ...], BeforeValidator(_lower_words), AfterValidator(_hosts)
    ] = setting(
        (),
        "The names under which clients reach the service, beside the loopback names, HOST and "
        "the names and the address of this machine. A request for any other host is refused "
        "(421): a web page cannot make a browser talk to the service under a name of its own.",
        allowed="host names without a port; or * for any, if something in front of the service "
        "checks them",
        example="queue.cluster.example",
        shown="",
    )
    allowed_origins: Annotated[
        tuple[str, ...], BeforeValidator(_lower_words), AfterValidator(_origins)
    ] = setting(
        (),
        "Web sites whose pages may use the service from a browser (CORS).",
        allowed="a list of origins: scheme, host and, if it is not the usual one, port",
        example="https://portal.cluster.example",
        shown="",
    )
    oidc_issuer: str | None = setting(
        None,
        "The OpenID Connect provider, for `AUTH=oidc`: its issuer, as in its tokens.",
        allowed="an https URL (http on a loopback address)",
        example="https://login.cluster.example/realms/hpc",
        shown="",
    )
    oidc_audience: str | None = setting(
        None,
        "The audience that the provider's tokens for this service name; mandatory with "
        "`AUTH=oidc`.",
        allowed="text",
        example="hpc-queue",
        shown="",
    )
    oidc_user_claim: str = setting(
        "preferred_username",
        "The claim of a token that holds the user's name.",
        allowed="the name of a claim",
        example="sub",
    )
    oidc_role_claim: str = setting(
        "roles",
        "The claim of a token that holds what OIDC_ROLES maps: a text, or a list of texts. A dot "
        "leads into an object.",
        allowed="the name of a claim",
        example="realm_access.roles",
    )
    oidc_roles: Annotated[tuple[tuple[str, Role], ...], BeforeValidator(_roles)] = setting(
        (),
        "The roles of the provider's users: values of OIDC_ROLE_CLAIM and the role that each "
        "gives; `*` stands for everybody. The highest role counts; without one a token is refused.",
        allowed="a list of VALUE=ROLE",
        example="hpc-admins=operator,*=user",
        shown="",
    )
    oidc_algorithms: Annotated[tuple[_Algorithm, ...], BeforeValidator(split_words)] = setting(
        ("RS256", "ES256"),
        "The signatures of tokens that the service takes.",
        allowed="a list of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA",
        example="ES256",
        shown="RS256,ES256",
    )
    oidc_client_id: Annotated[str, Field(max_length=255)] | None = setting(
        None,
        "The client that this service is for the provider, with which browsers log in at the page. "
        "Register it there with the address `https://…/session/callback`. Unset: browsers log in "
        "with tokens alone.",
        allowed="text of at most 255 characters",
        example="hpc-queue",
        shown="",
    )
    oidc_client_secret: str | None = setting(
        None,
        "The secret of OIDC_CLIENT_ID; unset for a public client.",
        allowed="text",
        example="oY1xgQ6tYcNkrB2K",
        shown="",
        secret=True,
    )
    oidc_scopes: Annotated[
        tuple[str, ...], BeforeValidator(split_words), AfterValidator(_scopes)
    ] = setting(
        ("openid", "profile"),
        "The scopes that the login of a browser asks the provider for. Some providers name a "
        "user's groups only with a scope of their own.",
        allowed="a list of scopes with openid among them",
        example="openid,profile,groups",
        shown="openid,profile",
    )
    session_hours: Annotated[float, Field(gt=0, le=24 * 366)] = setting(
        12.0,
        "The longest time that a browser stays logged in. A session ends with the token that it "
        "was made from, if that is earlier.",
        allowed="hours, above 0, at most 8784",
        example="8",
    )
    oidc_session_hours: Annotated[float, Field(gt=0, le=24 * 366)] = setting(
        4.0,
        "The longest time that a browser stays logged in with an account of the provider, if "
        "SESSION_HOURS is not shorter. Then the page leads to the provider again, which decides "
        "anew. Whoever loses a group there keeps its role here for so long at most.",
        allowed="hours, above 0, at most 8784",
        example="0.5",
    )
    job_visibility: Annotated[Literal["all", "own"], BeforeValidator(lower)] = setting(
        "all",
        "`own`: viewers and users see only their own jobs; a job of somebody else does not exist "
        "for them. Operators see all jobs.",
        allowed="all, own",
        example="own",
    )
    audit_log: AbsolutePath | None = setting(
        None,
        "The file that gets a line of JSON for each request that changes something or is refused: "
        "who, from where, what, which job, and what came of it. Unset: `audit.jsonl` in the state "
        "directory. Log rotation may move it away.",
        allowed=PATH,
        example="/var/log/hpcq/audit.jsonl",
        shown="",
    )

    @field_validator("oidc_issuer")
    @classmethod
    def _check_issuer(cls, text: str | None) -> str | None:
        if text is not None and not is_safe_url(text):
            raise ValueError("it is not an https URL")
        return text

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        missing = [
            name.upper()
            for name in ("oidc_issuer", "oidc_audience", "oidc_roles")
            if Method.OIDC in self.auth and not getattr(self, name)
        ]
        if missing:
            raise ValueError(f"AUTH names oidc, and {' and '.join(missing)} must be set for it")
        if self.oidc_client_secret and not self.oidc_client_id:
            raise ValueError("OIDC_CLIENT_SECRET is the secret of OIDC_CLIENT_ID, which is not set")
        return self
