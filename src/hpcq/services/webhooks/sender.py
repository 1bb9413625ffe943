"""Requests to the receivers of webhooks, to addresses that the site allows and to no others."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Self
from urllib.parse import urlsplit

import httpcore

from hpcq import __version__
from hpcq.domain.errors import InvalidWebhook
from hpcq.domain.events import Event
from hpcq.domain.webhooks import Webhook, body_of, headers_of
from hpcq.services.deliveries.transport import Reply
from hpcq.services.settings import Networks

__all__ = ["WebhookSender", "check_url", "is_allowed"]

_TIMEOUT_SECONDS = 20.0
_MOST_READ_BYTES = 64 << 10
_MOST_PAUSE = timedelta(hours=1)
_GONE = 410
# RFC 6052: an IPv4 address in the last four bytes.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# All that IANA has given out. Outside of it are IPv4 addresses in older forms, and a site's own.
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")


def is_allowed(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Networks) -> bool:
    """Return whether messages may go to an address.

    An IPv6 address that leads to an IPv4 address (mapped, 6to4, Teredo, NAT64) is judged by that.

    >>> is_allowed(ipaddress.ip_address("::ffff:10.0.0.1"), ["public"])
    False
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        address = inner or address
    is_public = address.is_global and not address.is_multicast
    if isinstance(address, ipaddress.IPv6Address):
        is_public = is_public and address in _PUBLIC_IPV6
    return any(is_public if one == "public" else address in one for one in networks)


def check_url(url: str, networks: Networks) -> None:
    """Make sure that a webhook may have this URL. A name is looked up with each connection.

    Raises:
        InvalidWebhook: it is not one of ``http`` or ``https``, holds a password, or names an
            address that the site does not allow.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    is_printable = all("!" <= character <= "~" for character in url)
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc or not is_printable:
        raise InvalidWebhook(
            "A webhook's url has to begin with https:// or http:// and the name of a host, "
            "without a user or a password, in printable ASCII. The signature in each message shows "
            "who sent it.",
            field="url",
        )
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if not is_allowed(address, networks):
        raise InvalidWebhook(f"{_forbidden(host)} WEBHOOK_NETWORKS says which.", field="url")


def _forbidden(host: str) -> str:
    return f"The site lets no webhook go to an address of {host}."


class WebhookSender:
    """An HTTP client that follows no redirect, knows no proxy, and looks at each address.

    One for each receiver: with every request the library looks at each connection of its pool.

    Args:
        networks: where messages may go.
        tls: the authorities that are trusted; None for the system's.
    """

    def __init__(self, networks: Networks, tls: ssl.SSLContext | None = None) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            # That of the system, where sites add their own authorities.
            ssl_context=tls or ssl.create_default_context(),
            max_connections=None,
            keepalive_expiry=30.0,
            network_backend=_AllowedNetwork(networks),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.aclose()

    async def deliver(self, subscriber: Webhook, event: Event, at: datetime) -> Reply:
        """Send the signed message of an event once, see `Transport`."""
        body = body_of(event)
        headers = headers_of(subscriber, event.number, body, at)
        return await self.send(subscriber.url, headers, body)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send one message and return what came of it; raises nothing."""
        sent = {
            "Content-Type": "application/json",
            "User-Agent": f"hpc-queue-api/{__version__}",
            **headers,
        }
        try:
            async with (
                asyncio.timeout(_TIMEOUT_SECONDS),
                self._pool.stream("POST", url, headers=list(sent.items()), content=body) as answer,
            ):
                await _read_on(answer)
        except TimeoutError:
            return Reply(problem=f"The receiver did not answer within {_TIMEOUT_SECONDS:g} s.")
        except _AddressForbidden as error:
            return Reply(problem=str(error))
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError, ValueError) as error:
            return Reply(problem=f"The receiver cannot be reached: {str(error)[:200]}")
        return _reply(answer.status, answer.headers)


class _AddressForbidden(Exception):
    """The site lets no message go there."""


class _AllowedNetwork(httpcore.AsyncNetworkBackend):
    """The network, as far as the site allows it.

    The address that was looked at is the one that is connected to: a name that means something
    else a moment later changes nothing.
    """

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (of httpcore)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        allowed = [
            text
            for text in _addresses(found)
            if is_allowed(ipaddress.ip_address(text), self._networks)
        ]
        if not allowed:
            raise _AddressForbidden(_forbidden(host))
        for text in allowed[:-1]:
            try:
                return await self._network.connect_tcp(text, port, timeout, local_address)
            except httpcore.ConnectError:
                continue
        return await self._network.connect_tcp(allowed[-1], port, timeout, local_address)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _addresses(found: Sequence[tuple[object, ...]]) -> Sequence[str]:
    """Return the addresses of a look-up, each once, in its order."""
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))  # type: ignore[index]


async def _read_on(answer: httpcore.Response) -> None:
    """Read the body, so that the connection can be used again; a long one is not worth it."""
    size = 0
    async for chunk in answer.aiter_stream():
        size += len(chunk)
        if size > _MOST_READ_BYTES:
            return


def _reply(code: int, headers: Sequence[tuple[bytes, bytes]]) -> Reply:
    if 200 <= code < 300:
        return Reply(code=code)
    asked = {name.lower(): value for name, value in headers}.get(b"retry-after", b"")
    pause = min(timedelta(seconds=int(asked[:9])), _MOST_PAUSE) if asked.isdigit() else None
    problem = f"The receiver answered {code}."
    if 300 <= code < 400:
        problem += " Redirects are not followed: name the URL that it leads to."
    return Reply(code=code, problem=problem, pause=pause, is_gone=code == _GONE)
