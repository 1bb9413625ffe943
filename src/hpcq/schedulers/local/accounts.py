"""Accounts of this machine that jobs run as. Standard library only: every shepherd imports this."""

import ctypes
import os
import pwd
from typing import TypedDict

__all__ = ["AccountIds", "AccountUnusable", "account_ids", "become", "find_account"]

# linux/capability.h: the version with two words for each of three sets.
_CAPABILITY_VERSION = 0x20080522

# The number of keyctl(2): arch/*/kernel/syscalls/syscall.tbl.
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}.get(
    os.uname().machine
)
_JOIN_SESSION_KEYRING = 1

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
    if _KEYCTL is not None:
        # An empty keyring: whoever has the service's can read the keys that a login has put there.
        # This fails where the kernel has no keys, or where a container forbids them to all.
        _libc.syscall(_KEYCTL, _JOIN_SESSION_KEYRING, None)
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
