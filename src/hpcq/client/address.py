"""The service's address and the token: from arguments, the environment or a profile.

On the head node none of these is needed: the service listens on its own Unix socket or loopback
port, and knows its callers by their accounts.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hpcq.client.errors import ProfileError

__all__ = ["SOCKET", "Address", "find_address", "profile_file"]

SOCKET = Path("/run/hpcq/hpcq.sock")
_LOOPBACK = "http://127.0.0.1:5049"
_UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class Address:
    """A service.

    Attributes:
        url: ``http``, ``https``, or ``unix:`` and the path of a socket.
        token: sent with every request; None where the connection tells who asks.
    """

    url: str
    token: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if self.socket is None and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ProfileError(
                f"{self.url!r} is no address of a service; it has to read https://HOST, "
                "http://HOST:PORT or unix:/PATH."
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ProfileError("The token holds a line break or another character that none has.")

    @property
    def socket(self) -> str | None:
        """The path of the Unix socket; None if it is none."""
        return self.url.removeprefix(_UNIX) if self.url.startswith(_UNIX) else None

    @property
    def base_url(self) -> str:
        """The URL before every path."""
        return "http://localhost" if self.socket is not None else self.url.rstrip("/")

    @property
    def is_local(self) -> bool:
        """True if the service is on this machine, where no proxy leads to it."""
        return urlsplit(self.base_url).hostname in ("localhost", "127.0.0.1", "::1")

    @property
    def may_be_encrypted(self) -> bool:
        """False where no TLS can be: on this machine, over HTTP."""
        return not self.is_local or self.base_url.startswith("https:")


def find_address(
    url: str | None = None,
    token: str | None = None,
    profile: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Address:
    """Return the service to ask.

    The first that there is decides: the argument, ``HPCQ_URL``, the profile, the socket or port of
    a service on this machine. The token of a profile is sent to the profile's own address alone.

    Args:
        url: of the service.
        token: for the service.
        profile: the name of a section of the profile file; default: ``HPCQ_PROFILE``, or
            ``default``.
        environment: ``HPCQ_URL``, ``HPCQ_TOKEN``, ``HPCQ_PROFILE``, ``XDG_CONFIG_HOME``.

    Raises:
        ProfileError: the profile cannot be read, or there is none of this name.

    >>> find_address("https://hpc.site.example/queue/", token="secret").base_url
    'https://hpc.site.example/queue'
    """
    named = profile or environment.get("HPCQ_PROFILE")
    url = url or (None if profile else environment.get("HPCQ_URL"))
    token = token or environment.get("HPCQ_TOKEN")
    if url:
        return Address(url, token)
    section = _read_profile(profile_file(environment), named)
    if section is not None:
        return Address(section["url"], token or section.get("token"))
    return Address(f"{_UNIX}{SOCKET}" if SOCKET.exists() else _LOOPBACK, token)


def profile_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the profile file."""
    folder = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "~")) / ".config"
    return Path(folder).expanduser() / "hpcq" / "config.toml"


def _read_profile(file: Path, name: str | None) -> dict[str, Any] | None:
    """Return a section of the file; None if none was named and there is no ``default``."""
    try:
        sections = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        sections = {}
    except (OSError, ValueError) as error:
        raise ProfileError(f"The profile file {file} cannot be read: {error}.") from None
    section = sections.get(name or "default")
    if section is None and name is None:
        return None
    values = section.values() if isinstance(section, dict) else ()
    if not isinstance(section, dict) or not all(isinstance(value, str) for value in values):
        raise ProfileError(f"{file} has no section [{name}] of texts.")
    if "url" not in section or section.keys() - {"url", "token"}:
        raise ProfileError(
            f"The section [{name or 'default'}] of {file} has to hold url, may hold token, and "
            "nothing else."
        )
    return section
