"""Mails of jobs: those that this service sends, each over a connection of its own."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Self

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.events import Event
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid
from hpcq.domain.mails import build_mail
from hpcq.domain.webhooks import Webhook, message_id
from hpcq.services.deliveries.transport import Reply
from hpcq.services.mail.settings import ANY_DOMAIN, MailSettings, read_password

__all__ = ["MailSender", "take_over_mails"]

# RFC 5321 (4.5.3.2) grants a server minutes for each command; a mail that is late is sent again.
_TIMEOUT_SECONDS = 60.0
_FAREWELL_SECONDS = 5.0
_PERMANENT = 500


class MailSender:
    """A client of an SMTP server.

    Args:
        settings: the server, the sender, the protection of the connection.
        cluster_id: the name of the deployment.
        find: returns the records with these uids, as far as there are any.
    """

    def __init__(
        self,
        settings: MailSettings,
        cluster_id: str,
        find: Callable[[Sequence[JobUid]], Awaitable[Sequence[JobRecord]]],
    ) -> None:
        self._settings = settings
        self._cluster_id = cluster_id
        self._find = find
        # That of the system, where sites add their own authorities.
        self._tls = None if settings.mail_tls == "off" else ssl.create_default_context()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close nothing: each mail has its own connection."""

    async def deliver(self, subscriber: Webhook, event: Event, at: datetime) -> Reply:
        """Send the mail about an event once, see `Transport`."""
        records = await self._find([event.uid])
        spec = records[0].spec if records else None
        if spec is None or spec.mail_to is None:
            return Reply(problem="The record of the job is kept no longer.", is_final=True)
        sender = self._settings.mail_from or ""
        name = message_id(subscriber.webhook_id, event.number)
        mail = build_mail(name, event, records[0], self._cluster_id, sender)
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return await self._send(sender, spec.mail_to, mail.as_bytes())
        except TimeoutError:
            return Reply(problem=f"The mail server did not answer within {_TIMEOUT_SECONDS:g} s.")

    async def _send(self, sender: str, recipient: str, mail: bytes) -> Reply:
        # Imported here because only those who send mails need it.
        import aiosmtplib

        settings = self._settings
        host, port = settings.mail_address
        try:
            password = None
            if settings.mail_password_file is not None:
                password = await asyncio.to_thread(read_password, settings.mail_password_file)
            server = aiosmtplib.SMTP(
                hostname=host,
                port=port,
                username=settings.mail_username,
                password=password,
                use_tls=settings.mail_tls == "tls",
                start_tls=settings.mail_tls == "starttls",
                tls_context=self._tls,
                timeout=_TIMEOUT_SECONDS,
            )
            await server.connect()
            try:
                await server.sendmail(sender, [recipient], mail)
                # The mail is taken, whatever comes of the farewell.
                with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                    await server.quit(timeout=_FAREWELL_SECONDS)
            finally:
                server.close()
        except aiosmtplib.SMTPRecipientsRefused as error:
            refusal = error.recipients[0]
            return _refused("recipient", refusal.code, refusal.message)
        except aiosmtplib.SMTPDataError as error:
            return _refused("mail", error.code, error.message)
        except aiosmtplib.SMTPResponseException as error:
            # What it says of the sender, the password or the connection is no word about this mail.
            problem = f"The mail server answered {error.code}: {error.message[:200]}"
            return Reply(code=error.code, problem=problem)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return Reply(problem=f"The mail cannot be sent: {str(error)[:200]}")
        return Reply(code=250)


def _refused(part: str, code: int, message: str) -> Reply:
    problem = f"The mail server refused the {part} ({code}): {message[:200]}"
    return Reply(code=code, problem=problem, is_final=code >= _PERMANENT)


def take_over_mails(spec: JobSpec, settings: MailSettings) -> JobSpec:
    """Return the job with its mails as this service's task, if it asks for any and that sends them.

    Raises:
        InvalidSpec: the site lets no mail go to the address.
    """
    if spec.mail_to is None or not settings.sends_mails:
        return spec
    allowed = settings.allowed_domains
    domain = spec.mail_to.rpartition("@")[2].lower()
    if "@" not in spec.mail_to or not {domain, ANY_DOMAIN}.intersection(allowed):
        where = "any domain" if ANY_DOMAIN in allowed else f"one of {', '.join(allowed)}"
        raise InvalidSpec(
            f"mailTo is {spec.mail_to!r}; mails go to addresses with a domain, here to {where}. "
            "MAIL_DOMAINS says which.",
            field="mailTo",
        )
    return replace(spec, is_mailed_here=True)
