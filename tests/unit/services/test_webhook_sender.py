"""Messages go to addresses that the site allows, and nowhere else."""

import asyncio
import socket
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from tests.receiver import receiving

from hpcq.domain.errors import InvalidWebhook
from hpcq.services.settings import Networks
from hpcq.services.webhooks import sender as module
from hpcq.services.webhooks.sender import WebhookSender, check_url, is_allowed

pytestmark = pytest.mark.anyio

PUBLIC: Networks = ("public",)
HERE: Networks = (ip_network("127.0.0.1/32"),)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",  # noqa: S104
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "fec0::1",
        "2001:0:53aa:64c:0:0:80ff:fffe",
    ],
)
def test_address_not_public(address: str) -> None:
    assert not is_allowed(ip_address(address), PUBLIC)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_address_public(address: str) -> None:
    assert is_allowed(ip_address(address), PUBLIC)
    assert not is_allowed(ip_address(address), HERE)


def test_address_in_allowed_network() -> None:
    networks: Networks = (ip_network("10.20.0.0/16"), ip_network("fd00:1::/32"))
    allowed = {"10.20.3.4", "::ffff:10.20.3.4", "fd00:1::5"}
    for address in (*allowed, "10.21.0.1", "8.8.8.8", "fd00:2::5"):
        assert is_allowed(ip_address(address), networks) == (address in allowed)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "portal.example/jobs",
        "ftp://portal.example/",
        "file:///etc/passwd",
        "https://",
        "https:///jobs",
        "http://user:secret@portal.example/",
        "http://127.0.0.1:5049/jobs",
        "http://[::1]/",
        "http://[::ffff:169.254.169.254]/latest",
        "http://169.254.169.254/latest",
        "http://portal.example:port/",
        "http://é.example/",
        "http://portal.example/\r\nX: y",
    ],
)
def test_url_invalid(url: str) -> None:
    with pytest.raises(InvalidWebhook) as refused:
        check_url(url, PUBLIC)
    assert refused.value.field == "url"


@pytest.mark.parametrize(
    "url", ["https://portal.example", "http://8.8.8.8/x?y=1", "https://[2606:4700::1111]:8443/"]
)
def test_url_valid(url: str) -> None:
    check_url(url, PUBLIC)


async def test_send_allowed_address() -> None:
    with receiving() as receiver:
        async with WebhookSender(HERE) as sender:
            reply = await sender.send(receiver.url, {"webhook-id": "1"}, b'{"a":1}')
    assert (reply.code, reply.problem) == (204, None)
    (message,) = receiver.messages
    assert message.content == {"a": 1}
    assert message.headers["content-type"] == "application/json"
    assert message.headers["user-agent"].startswith("hpc-queue-api/")


async def test_send_forbidden_address() -> None:
    with receiving() as receiver:
        async with WebhookSender(PUBLIC) as sender:
            reply = await sender.send(receiver.url, {}, b"{}")
    assert reply.code is None
    assert "The site lets no webhook go to" in str(reply.problem)
    assert receiver.messages == []


async def test_send_dns_rebinding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was looked at is connected to, whatever the name means a moment later."""
    answers = [["127.0.0.1"], ["10.9.8.7"], ["10.9.8.7", "127.0.0.1"]]

    async def look_up(_loop: object, host: str, port: int, **_: object) -> list[Any]:
        assert host == "portal.example"
        return [(0, 0, 0, "", (address, port)) for address in answers.pop(0)]

    monkeypatch.setattr(asyncio.get_running_loop().__class__, "getaddrinfo", look_up)
    with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", "portal.example")
        for code in (204, None, 204):
            async with WebhookSender(HERE) as sender:
                reply = await sender.send(url, {}, b"{}")
            assert reply.code == code, reply
    assert len(receiver.messages) == 2
    host = receiver.url.split("/")[2].replace("127.0.0.1", "portal.example")
    assert {message.headers["host"] for message in receiver.messages} == {host}


async def test_send_redirect() -> None:
    with receiving() as receiver, receiving() as other:
        receiver.answer = lambda _: (307, {"Location": other.url})
        async with WebhookSender(HERE) as sender:
            reply = await sender.send(receiver.url, {}, b"{}")
    assert reply.code == 307
    assert "Redirects are not followed" in str(reply.problem)
    assert other.messages == []


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ({}, None),
        ({"Retry-After": "120"}, timedelta(minutes=2)),
        ({"Retry-After": "99999999999"}, timedelta(hours=1)),
        ({"Retry-After": "soon"}, None),
    ],
)
async def test_send_retry_after(header: dict[str, str], pause: timedelta | None) -> None:
    with receiving() as receiver:
        receiver.answer = lambda _: (503, header)
        async with WebhookSender(HERE) as sender:
            reply = await sender.send(receiver.url, {}, b"{}")
    assert (reply.code, reply.pause) == (503, pause)


async def test_send_receiver_not_listening() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with WebhookSender(HERE) as sender:
            reply = await sender.send(f"http://127.0.0.1:{taken.getsockname()[1]}/", {}, b"{}")
    assert reply.code is None
    assert "cannot be reached" in str(reply.problem)


async def test_send_receiver_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with WebhookSender(HERE) as sender:
            reply = await sender.send(f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, b"{}")
    assert reply.code is None
    assert "did not answer within 0.2 s" in str(reply.problem)
