"""Mails at a real SMTP server: what it takes, what it refuses, and when it is away."""

import datetime as dt
import socket
import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.mail_server import receiving_mails
from tests.unit.domain.test_mails import T0, UID, event, record

from hpcq.domain.jobs import JobRecord, JobUid
from hpcq.domain.webhooks import SubscriberKind, Webhook
from hpcq.services.deliveries.transport import Reply
from hpcq.services.mail import sender as module
from hpcq.services.mail.sender import MailSender
from hpcq.services.mail.settings import MailSettings

pytestmark = pytest.mark.anyio

MAILS = Webhook(
    webhook_id="a",
    url="",
    secret="",
    kinds=None,
    created_by="",
    created_at=T0,
    kind=SubscriberKind.MAIL,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def send(port: int, *records: JobRecord, **settings: Any) -> Reply:
    async def find(uids: Sequence[JobUid]) -> Sequence[JobRecord]:
        assert list(uids) == [UID]
        return records

    asked = {"mail_tls": "off", "mail_from": "hpc@site.example"} | settings
    mail = MailSettings(mail_server=f"localhost:{port}", **asked)
    async with MailSender(mail, "santos", find) as sender:
        return await sender.deliver(MAILS, event(), T0)


async def test_mail_sent() -> None:
    with receiving_mails() as server:
        reply = await send(server.port, record())
    assert reply == Reply(code=250)
    (mail,) = server.mails
    assert (mail.sender, list(mail.recipients)) == ("hpc@site.example", ["ana@site.example"])
    assert mail.key == "<msg_a_7@site.example>"
    assert "has ended." in mail.text


async def test_mail_sent_twice_identical() -> None:
    with receiving_mails() as server:
        for _ in range(2):
            assert (await send(server.port, record())).problem is None
    one, other = server.mails
    assert one.raw == other.raw


@pytest.mark.parametrize(("code", "is_final"), [(550, True), (450, False)])
@pytest.mark.parametrize("part", ["recipient", "mail"])
async def test_mail_refused(part: str, code: int, is_final: bool) -> None:
    with receiving_mails() as server:
        setattr(server, f"answer_{part}", lambda _: f"{code} No such thing")
        reply = await send(server.port, record())
    assert reply == Reply(
        code=code,
        problem=f"The mail server refused the {part} ({code}): No such thing",
        is_final=is_final,
    )
    assert server.mails == []


async def test_mail_server_not_listening() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        reply = await send(taken.getsockname()[1], record())
    assert (reply.code, reply.is_final) == (None, False)
    assert "cannot be sent" in str(reply.problem)


async def test_mail_server_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reply = await send(silent.getsockname()[1], record())
    assert (reply.code, reply.is_final) == (None, False)
    assert reply.problem


@pytest.mark.parametrize("records", [(), (record(spec=None),)])
async def test_mail_job_record_deleted(records: tuple[JobRecord, ...]) -> None:
    reply = await send(1, *records)
    assert reply == Reply(problem="The record of the job is kept no longer.", is_final=True)


class Authority:
    """A certificate for localhost, and what it takes to use and to trust it."""

    def __init__(self, folder: Path) -> None:
        self.certificate, key_file = folder / "server.pem", folder / "server.key"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key_file)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that this machine trusts."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    return authority


def password(tmp_path: Path, text: str) -> dict[str, Any]:
    path = tmp_path / "password"
    path.write_text(text)
    return {"mail_username": "hpc", "mail_password_file": path}


async def test_mail_starttls_with_password(authority: Authority, tmp_path: Path) -> None:
    asked = {"mail_tls": "starttls"} | password(tmp_path, "right\n")
    with receiving_mails(tls_context=authority.context, auth_required=True) as server:
        assert await send(server.port, record(), **asked) == Reply(code=250)
    assert server.users == [("hpc", "right")]
    assert len(server.mails) == 1


async def test_mail_tls(authority: Authority) -> None:
    with receiving_mails(ssl_context=authority.context) as server:
        assert await send(server.port, record(), mail_tls="tls") == Reply(code=250)
    assert len(server.mails) == 1


async def test_mail_wrong_password_retried(authority: Authority, tmp_path: Path) -> None:
    """The administrator sets it right, and no mail is lost."""
    asked = {"mail_tls": "starttls"} | password(tmp_path, "wrong")
    with receiving_mails(tls_context=authority.context, auth_required=True) as server:
        reply = await send(server.port, record(), **asked)
        assert (reply.code, reply.is_final) == (535, False)
        password(tmp_path, "right")
        assert await send(server.port, record(), **asked) == Reply(code=250)


async def test_mail_starttls_not_offered(tmp_path: Path) -> None:
    with receiving_mails() as server:
        reply = await send(server.port, record(), mail_tls="starttls")
    assert reply.problem
    assert not reply.is_final
    assert server.mails == []


async def test_mail_untrusted_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with receiving_mails(ssl_context=authority.context) as server:
        reply = await send(server.port, record(), mail_tls="tls")
    assert "certificate" in str(reply.problem).lower()
    assert server.mails == []


async def test_mail_address_unchanged() -> None:
    spec = record().spec
    assert spec is not None
    with receiving_mails() as server:
        await send(server.port, record(spec=replace(spec, mail_to="a..b+c@site.example")))
    (mail,) = server.mails
    assert list(mail.recipients) == ["a..b+c@site.example"]
    assert mail.message["To"] == "a..b+c@site.example"
