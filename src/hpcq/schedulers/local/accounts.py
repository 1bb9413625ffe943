"""Accounts of this machine that jobs run as. Standard library only: every shepherd imports this."""

import os
import pwd
from typing import TypedDict

__all__ = ["AccountIds", "AccountUnusable", "account_ids", "find_account"]


class AccountUnusable(Exception):
    """No job can run as an account now; the message is a sentence that says why."""


class AccountIds(TypedDict):
    """The numbers by which the kernel knows an account; ``groups`` are all of its groups."""

    uid: int
    gid: int
    groups: list[int]


def find_account(name: str) -> pwd.struct_passwd:
    """Return an account that a job may run as.

    Raises:
        AccountUnusable: there is none of this name, or it is root.
    """
    try:
        account = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise AccountUnusable(f"There is no account {name!r} on this machine.") from None
    if account.pw_uid == 0:
        raise AccountUnusable(f"No job runs as {name!r}: this account is root.")
    return account


def account_ids(account: pwd.struct_passwd) -> AccountIds:
    """Return the numbers of an account, asked of the system's databases now."""
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    return AccountIds(uid=account.pw_uid, gid=account.pw_gid, groups=groups)
