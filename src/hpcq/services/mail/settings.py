"""Settings of mails about jobs."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from hpcq.settings import PATH, AbsolutePath, Section, lower, setting

__all__ = ["ANY_DOMAIN", "MailSettings", "read_password"]

ANY_DOMAIN = "*"
"""The word of ``MAIL_DOMAINS`` for mails to everybody."""

_DOMAIN = r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_SENDER = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.+-]*@{_DOMAIN}", re.IGNORECASE)
_SERVER = re.compile(rf"(?P<host>{_DOMAIN}|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]+))?", re.IGNORECASE)
_PORTS = {"off": 25, "starttls": 587, "tls": 465}


def _domains(value: object) -> object:
    """Return the domains of a list."""
    if not isinstance(value, str):
        return value
    words = re.split(r"[\s,]+", value.strip().lower())
    if not all(word == ANY_DOMAIN or re.fullmatch(_DOMAIN, word) for word in words):
        raise ValueError("each has to be a domain")
    return tuple(words)


def _server(text: str) -> str:
    match = _SERVER.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 25) < 2**16:
        raise ValueError("it is not a host, or a host and a port")
    return text


def _sender(text: str) -> str:
    if _SENDER.fullmatch(text) is None:
        raise ValueError("it is not one address")
    return text


class MailSettings(Section):
    """The SMTP server, and who may get mails through it."""

    mail_server: Annotated[str, AfterValidator(_server)] | None = setting(
        None,
        "The SMTP server for the mails of `mailTo`. With it this service sends them, on every "
        "scheduler, and the scheduler sends none; see [Mail](../mail.md). Unset: the scheduler "
        "sends them, if it can.",
        allowed="a host, or HOST:PORT; without a port that of MAIL_TLS: 587, 465 or 25",
        example="smtp.site.example",
        shown="",
    )
    mail_from: Annotated[str, AfterValidator(_sender)] | None = setting(
        None,
        "The address that mails come from, which also gets what cannot be delivered. "
        "`MAIL_SERVER` needs it.",
        allowed="one address with a domain",
        example="hpc@site.example",
        shown="",
    )
    mail_domains: Annotated[tuple[str, ...], BeforeValidator(_domains)] = setting(
        (),
        "The domains to which mails may go; `*` for all, which lets everybody who may submit "
        "send mails to strangers. Unset: that of `MAIL_FROM`.",
        allowed="domains, separated by blanks or commas, or `*`",
        example="site.example,partner.example",
        shown="",
    )
    mail_tls: Annotated[Literal["starttls", "tls", "off"], BeforeValidator(lower)] = setting(
        "starttls",
        "The protection of the connection to `MAIL_SERVER`: from its second command on, from "
        "its beginning, or none. Certificates are checked with the system's authorities.",
        allowed="starttls, tls, off",
        example="tls",
    )
    mail_username: str | None = setting(
        None,
        "The user at `MAIL_SERVER`, with `MAIL_PASSWORD_FILE`. Unset: it asks for none.",
        allowed="text",
        example="hpc",
        shown="",
    )
    mail_password_file: AbsolutePath | None = setting(
        None,
        "The file that holds the password of `MAIL_USERNAME`. It is read for each connection.",
        allowed=PATH,
        example="/etc/hpcq/mail.password",
        shown="",
    )

    @model_validator(mode="after")
    def _check_mail(self) -> Self:
        if self.mail_server is None:
            return self
        if self.mail_from is None:
            raise ValueError("MAIL_SERVER needs an address that mails come from, in MAIL_FROM")
        if (self.mail_username is None) != (self.mail_password_file is None):
            raise ValueError("MAIL_USERNAME and MAIL_PASSWORD_FILE go together: set both, or none")
        if self.mail_password_file is not None:
            if self.mail_tls == "off":
                raise ValueError("MAIL_TLS=off would show the password of MAIL_USERNAME to all")
            try:
                read_password(self.mail_password_file)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"MAIL_PASSWORD_FILE={str(self.mail_password_file)!r} cannot be used: "
                    f"{getattr(error, 'strerror', None) or error}"
                ) from error
        return self

    @property
    def sends_mails(self) -> bool:
        """True if this service sends the mails about jobs."""
        return self.mail_server is not None

    @property
    def mail_address(self) -> tuple[str, int]:
        """The host and the port of the server."""
        match = _SERVER.fullmatch(self.mail_server or "")
        if match is None:
            raise ValueError("no mails are sent")
        return match["host"].strip("[]"), int(match["port"] or _PORTS[self.mail_tls])

    @property
    def allowed_domains(self) -> tuple[str, ...]:
        """The domains to which mails may go, in lower case."""
        return self.mail_domains or ((self.mail_from or "").rpartition("@")[2].lower(),)


def read_password(path: Path) -> str:
    """Return the password that a file holds, without the end of its line.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds none.
    """
    password = path.read_text(encoding="utf-8").rstrip("\r\n")
    if not password:
        raise ValueError("it is empty")
    return password
