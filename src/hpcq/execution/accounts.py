"""Accounts of this machine in whose name jobs are submitted."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass

from hpcq.domain.errors import NotAuthorized

__all__ = ["Account", "Accounts", "NoSuchAccount", "account_name"]


def account_name(uid: int) -> str | None:
    """Return the name of an account; None when there is none. A directory service may be asked."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


class NoSuchAccount(NotAuthorized):
    """No account has this name; a directory of accounts that is away says so of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of this machine."""

    name: str
    uid: int
    home: str
    shell: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a login gives it."""
        login = {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}
        return {**login, "SHELL": self.shell or "/bin/sh"}


class Accounts:
    """The accounts of people, and the users whose accounts they are.

    Args:
        table: the account of each user; None: a user's name is the account's.
        min_uid: the lowest number of a person's account.
    """

    def __init__(self, table: Mapping[str, str] | None, min_uid: int) -> None:
        self._table = table
        self._min_uid = min_uid
        self._known: dict[str, Account] = {}

    def of(self, user: str) -> Account:
        """Return the account of a user. Not for the event loop: a directory server may be asked.

        Raises:
            NotAuthorized: the user has none, or none that may be used.
        """
        name = self.name_of(user)
        if name is None:
            raise NotAuthorized(
                f"The user {user!r} has no account here. An administrator of the service can add "
                "one to SUBMIT_AS_ACCOUNTS."
            )
        return self.find(name)

    def name_of(self, user: str) -> str | None:
        """Return the name of a user's account, None for none; looks up nothing."""
        return user if self._table is None else self._table.get(user)

    def find(self, name: str) -> Account:
        """Return an account by its name. Not for the event loop either. Raises as `of` does."""
        try:
            found = pwd.getpwnam(name)
        except (KeyError, ValueError):
            raise NoSuchAccount(
                f"This machine has no account {name!r}, in whose name jobs could be submitted. An "
                "administrator of the service can name another one in SUBMIT_AS_ACCOUNTS."
            ) from None
        if found.pw_name != name or found.pw_uid in (0, os.getuid(), os.geteuid()):
            raise NotAuthorized(
                f"Jobs are submitted in the name of people: the account {name!r} is root's or the "
                "service's own. An administrator of the service can name another one for you in "
                "SUBMIT_AS_ACCOUNTS."
            )
        if found.pw_uid < self._min_uid:
            raise NotAuthorized(
                f"Jobs are submitted in the name of people: the account {name!r} is one of the "
                f"system's (its number {found.pw_uid} is below SUBMIT_AS_MIN_UID)."
            )
        account = Account(
            name=name, uid=found.pw_uid, home=found.pw_dir or "/", shell=found.pw_shell
        )
        self._known[name] = account
        return account

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables that a login gives to an account; looks up nothing.

        Of an account that this process has not found before, only its name is known.
        """
        known = self._known.get(name)
        return (known or Account(name=name, uid=-1, home="/", shell="")).environment
