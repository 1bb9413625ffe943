"""Privileges of root, given up for an account. The standard library only, and little of it."""

# What `ctypes` is made of, see hpcq.execution.keyrings.
import _ctypes
import os
import sys

from hpcq.execution.keyrings import leave_keyring

__all__ = ["become"]

# linux/capability.h: the version with two words for each of three sets, and no process: this one.
_HEADER = (0x20080522).to_bytes(4, sys.byteorder) + bytes(4)
_NONE_AT_ALL = bytes(2 * 3 * 4)


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Turn this process, which is root's, into the account's for good, without any privilege.

    Args:
        uid: the account's number.
        gid: the number of its own group.
        groups: the numbers of all of its groups.

    Raises:
        OSError: the kernel refused; the process must go no further.
    """
    leave_keyring()
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # The kernel has done this, but for inheritable ones, and unless a flag of the service
    # (prctl, SECBIT_NO_SETUID_FIXUP) forbade it.
    capset = _ctypes.dlsym(_ctypes.dlopen(None, 0), "capset")  # type: ignore[arg-type]
    if _ctypes.call_function(capset, (_HEADER, _NONE_AT_ALL)) != 0:
        raise OSError("the kernel does not take the capabilities of this process away")
