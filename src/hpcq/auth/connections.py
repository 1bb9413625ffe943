"""Connections: the way by which a request came, and what trusted proxies tell of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcq.auth.peer import Address, parse_address
from hpcq.auth.settings import Network

__all__ = ["Connection", "client_address", "is_encrypted", "is_in"]


@dataclass(frozen=True, slots=True)
class Connection:
    """The way by which a request came.

    Attributes:
        client: address and port of the other end, if it has one.
        server: address and port of our end.
        peer: the user id of the process at the other end, if the server knows it.
        scheme: ``http`` or ``https``, as the service itself speaks it.
    """

    client: Address | None
    server: Address | None
    peer: int | None = None
    scheme: str = "http"


def client_address(
    connection: Connection, headers: Mapping[str, str], trusted: Sequence[Network]
) -> str | None:
    """Return the address of the client: behind trusted proxies, the one that they tell of.

    Args:
        connection: the way by which the request came.
        headers: of the request, names in lower case.
        trusted: the addresses of the proxies.
    """
    if connection.client is None:
        return None
    address = connection.client[0]
    hops = headers.get("x-forwarded-for", "").split(",")
    while hops and is_in(address, trusted):
        before = hops.pop().strip()
        if not before:
            break
        address = before
    return address


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Return whether an address belongs to one of the networks."""
    parsed = parse_address(address) if networks else None
    return parsed is not None and any(parsed in network for network in networks)


def is_encrypted(
    connection: Connection, headers: Mapping[str, str], trusted: Sequence[Network]
) -> bool:
    """Return whether the client speaks https: with the service, or with a trusted proxy.

    Args:
        connection: the way by which the request came.
        headers: of the request, names in lower case.
        trusted: the addresses of the proxies; on a Unix socket there are none.
    """
    if connection.client is not None and not is_in(connection.client[0], trusted):
        return connection.scheme == "https"
    return headers.get("x-forwarded-proto", connection.scheme).split(",")[0].strip() == "https"
