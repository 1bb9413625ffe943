"""The account that jobs run under: the service's own."""

import os
import pwd
from collections.abc import Mapping

__all__ = ["environment", "owner"]

_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG")


def owner() -> str:
    """Return the account's name; its number if it has none."""
    entry = _entry()
    return str(os.geteuid()) if entry is None else entry.pw_name


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return what every job's environment begins with.

    ``PATH``, ``HOME``, ``USER``, ``LOGNAME``, ``SHELL`` and ``LANG`` as the settings give them;
    where they do not, ``HOME``, ``USER``, ``LOGNAME`` and ``SHELL`` as after a login.
    """
    entry = _entry()
    known = {}
    if entry is not None:
        known = {
            "HOME": entry.pw_dir,
            "USER": entry.pw_name,
            "LOGNAME": entry.pw_name,
            "SHELL": entry.pw_shell or "/bin/sh",
        }
    known.update({name: settings[name] for name in _INHERITED if name in settings})
    return known


def _entry() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        # Containers run under numbers that no account has.
        return None
