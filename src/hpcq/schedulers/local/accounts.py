"""Accounts of this machine that jobs run as. Standard library only: every shepherd imports this."""

import ctypes
import os
import pwd
from typing import TypedDict

from hpcq.execution.keyrings import leave_keyring

__all__ = ["AccountIds", "AccountUnusable", "account_ids", "become", "find_account"]

# linux/capability.h: the version with two words for each of three sets.
_CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


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


def become(ids: AccountIds) -> None:
    """Turn this process, which is root's, into the account's for good, without any privilege.

    Raises:
        OSError: the kernel refused; the process must go no further.
    """
    leave_keyring()
    os.setgroups(ids["groups"])
    os.setresgid(ids["gid"], ids["gid"], ids["gid"])
    os.setresuid(ids["uid"], ids["uid"], ids["uid"])
    # The kernel has done this, but for inheritable ones, and unless a flag of the service
    # (prctl, SECBIT_NO_SETUID_FIXUP) forbade it.
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    none_at_all = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, none_at_all) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
