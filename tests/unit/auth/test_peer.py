"""The kernel's word on who is at the other end, with real sockets and real accounts."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing

import pytest

from hpcq.auth.peer import groups_of, loopback_peer, unix_peer


@pytest.fixture(params=["127.0.0.1", "127.0.0.2", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with closing(socket.socket(family)) as listener:
        listener.bind((request.param, 0))
        listener.listen()
        yield listener


def test_peer_own_connection(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        ours, _ = listener.accept()
        with ours:
            ends = client.getsockname()[:2], client.getpeername()[:2]
            assert loopback_peer(*ends) == os.geteuid()
            mapped = [(f"::ffff:{host}", port) for host, port in ends]
            if "." in ends[0][0]:
                assert loopback_peer(mapped[0], mapped[1]) == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_peer_connection_of_other_account(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    connect = f"exec 3<>/dev/tcp/{host}/{port} && read"
    with subprocess.Popen(
        ["/bin/bash", "-c", connect], stdin=subprocess.PIPE, user="nobody", text=True
    ) as other:
        ours, client = listener.accept()
        with ours:
            assert loopback_peer(client[:2], (host, port)) == 65534
        other.communicate("")


@pytest.mark.parametrize("how", ["closed", "half closed"])
def test_peer_connection_closed(listener: socket.socket, how: str) -> None:
    """The kernel answers 0, root's number, for a socket that no process holds any more."""
    client = socket.create_connection(listener.getsockname()[:2])
    ours, _ = listener.accept()
    ends = client.getsockname()[:2], client.getpeername()[:2]
    with ours:
        if how == "closed":
            client.close()
        else:
            client.shutdown(socket.SHUT_WR)
        assert loopback_peer(*ends) is None
        client.close()


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (("10.1.2.3", 4000), ("10.1.2.4", 80)),
        (("10.1.2.3", 4000), ("127.0.0.1", 80)),
        (("127.0.0.1", 4000), ("10.1.2.3", 80)),
        (("127.0.0.1", 1), ("127.0.0.1", 2)),
        (("testclient", 50000), ("testserver", 80)),
    ],
)
def test_peer_connection_unknown_to_kernel(
    client: tuple[str, int], server: tuple[str, int]
) -> None:
    assert loopback_peer(client, server) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_unix_peer_other_account() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(socket.socket(socket.AF_UNIX)) as listener,
    ):
        os.chmod(folder, 0o755)
        path = f"{folder}/socket"
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen()
        connect = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); input()"
        command = ["/usr/bin/python3", "-c", connect]
        with subprocess.Popen(command, stdin=subprocess.PIPE, user="nobody", text=True) as other:
            ours, _ = listener.accept()
            with ours:
                assert unix_peer(ours.fileno()) == 65534
            other.communicate("\n")


def test_groups_of_account() -> None:
    assert "root" in groups_of("root")
    assert groups_of("no such account") == []
