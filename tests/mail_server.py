"""An SMTP server on this machine that keeps the mails it takes."""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

__all__ = ["Mail", "MailServer", "receiving_mails"]


@dataclass(frozen=True)
class Mail:
    """A mail as it came, with its envelope."""

    sender: str
    recipients: Sequence[str]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=default)

    @property
    def text(self) -> str:
        return str(self.message.get_content())

    @property
    def key(self) -> str:
        """The name that all attempts to send a mail share."""
        return str(self.message["Message-ID"])


@dataclass
class MailServer:
    """The mails so far, and what it answers.

    Attributes:
        port: where it listens.
        answer_recipient: the answer to an address.
        answer_mail: the answer to a mail; one with 2xx is kept.
        mails: those that were taken.
        refused: those that were not.
        users: who logged in, with which password.
    """

    port: int = 0
    answer_recipient: Callable[[str], str] = lambda _address: "250 OK"
    answer_mail: Callable[[Mail], str] = lambda _mail: "250 OK"
    mails: list[Mail] = field(default_factory=list)
    refused: list[Mail] = field(default_factory=list)
    users: list[tuple[str, str]] = field(default_factory=list)

    async def handle_RCPT(
        self, _server: object, _session: object, envelope: Envelope, address: str, _options: object
    ) -> str:
        answer = self.answer_recipient(address)
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        mail = Mail(str(envelope.mail_from), list(envelope.rcpt_tos), content)
        answer = self.answer_mail(mail)
        (self.mails if answer.startswith("2") else self.refused).append(mail)
        return answer

    def log_in(self, *arguments: Any) -> AuthResult:
        """Let in whoever knows the password."""
        data = arguments[-1]
        assert isinstance(data, LoginPassword)
        self.users.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == b"right", handled=False)


@contextmanager
def receiving_mails(
    port: int = 0, server: MailServer | None = None, **settings: Any
) -> Iterator[MailServer]:
    """Run a server.

    Args:
        port: where it listens; 0 for any free one.
        server: one that ran before.
        settings: of aiosmtpd: ``tls_context``, ``auth_required``; ``ssl_context`` for TLS from
            the beginning.
    """
    server = server or MailServer()
    if not port:
        # The library takes none for itself.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
    server.port = port
    context: ssl.SSLContext | None = settings.pop("ssl_context", None)
    controller = Controller(
        server,
        hostname="127.0.0.1",
        port=port,
        ssl_context=context,
        authenticator=server.log_in,
        ready_timeout=60,
        **settings,
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()
