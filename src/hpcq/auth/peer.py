"""Accounts at the other end of connections on this machine, as the kernel names them.

The service asks the kernel whose socket the client's end of a loopback connection is
(sock_diag(7)): a question about this one connection. Only sockets of the same network namespace
are known to the kernel here. Of a connection to a Unix socket the kernel tells the account at once.
"""

import contextlib
import grp
import ipaddress
import os
import pwd
import socket
import struct
from collections.abc import Sequence

__all__ = ["groups_of", "loopback_peer", "parse_address", "unix_peer"]

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct(">HH")
_INTERFACE_AND_COOKIE = struct.Struct("=III")
# Family, state, timer, retransmissions; then the socket's id, of 48 bytes; then expiry, two
# queues, the account and the inode.
_ANSWER = struct.Struct("=BBBB48sIIIII")
# Process, account, group.
_CREDENTIALS = struct.Struct("=III")
_ANY_COOKIE = 0xFFFFFFFF
_ESTABLISHED = 1
_TIMEOUT_SECONDS = 0.1

Address = tuple[str, int]


def loopback_peer(client: Address, server: Address) -> int | None:
    """Return the user id of the process that connected over loopback.

    Args:
        client: address and port of the other end.
        server: address and port of our end.

    Returns:
        None when it is not known: the connection comes from elsewhere, has ended, or belongs to
        another network namespace; or the kernel cannot be asked.
    """
    theirs, ours = parse_address(client[0]), parse_address(server[0])
    if theirs is None or ours is None or not (theirs.is_loopback and ours.is_loopback):
        return None
    family = socket.AF_INET if theirs.version == 4 else socket.AF_INET6
    identity = (
        _PORTS.pack(client[1], server[1])
        + theirs.packed.ljust(16, b"\0")
        + ours.packed.ljust(16, b"\0")
        + _INTERFACE_AND_COOKIE.pack(0, _ANY_COOKIE, _ANY_COOKIE)
    )
    question = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + identity
    length = _HEADER.size + len(question)
    header = _HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_TIMEOUT_SECONDS)
            kernel.send(header + question)
            return _account(kernel.recv(4096))
    except OSError:
        return None


def unix_peer(descriptor: int) -> int:
    """Return the user id of the process that connected to a Unix socket (SO_PEERCRED, unix(7)).

    Args:
        descriptor: of our end.
    """
    with socket.socket(fileno=os.dup(descriptor)) as ours:
        content = ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user_id, _ = _CREDENTIALS.unpack(content)
    return int(user_id)


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, a mapped one (``::ffff:127.0.0.1``) as the IPv4 address it is.

    None when the text is no address.

    >>> parse_address("::ffff:127.0.0.1")
    IPv4Address('127.0.0.1')
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _account(answer: bytes) -> int | None:
    if len(answer) < _HEADER.size + _ANSWER.size:
        return None
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None
    _, state, _, _, _, _, _, _, user_id, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    # A socket that no process holds any more has no inode, and 0 for its account: root's.
    return user_id if state == _ESTABLISHED and inode != 0 else None


def groups_of(name: str) -> Sequence[str]:
    """Return the names of an account's groups. A directory service may be asked."""
    found = []
    with contextlib.suppress(KeyError):
        for group_id in os.getgrouplist(name, pwd.getpwnam(name).pw_gid):
            with contextlib.suppress(KeyError):
                found.append(grp.getgrgid(group_id).gr_name)
    return found
