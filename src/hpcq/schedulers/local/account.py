"""The account that jobs run under: the service's own."""

import os
import pwd
from collections.abc import Mapping

__all__ = ["environment", "owner"]


def owner() -> str:
    """Return the account's name; its number if it has none."""
    entry = _entry()
    return str(os.geteuid()) if entry is None else entry.pw_name


def environment(known: Mapping[str, str]) -> dict[str, str]:
    """Return what every job's environment begins with.

    The account's variables as they are known (`SchedulerOptions.account_environment`); where they
    are not, ``HOME``, ``USER``, ``LOGNAME`` and ``SHELL`` as after a login.
    """
    entry = _entry()
    if entry is None:
        return dict(known)
    after_login = {
        "HOME": entry.pw_dir,
        "USER": entry.pw_name,
        "LOGNAME": entry.pw_name,
        "SHELL": entry.pw_shell or "/bin/sh",
    }
    return {**after_login, **known}


def _entry() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        # Containers run under numbers that no account has.
        return None
