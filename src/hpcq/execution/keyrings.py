"""The keyrings of the kernel, see keyrings(7). The standard library only, and little of it."""

# What `ctypes` is made of, which takes twenty times as long to load.
import _ctypes
import os

__all__ = ["leave_keyring"]

# The number of keyctl(2): arch/*/kernel/syscalls/syscall.tbl.
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}.get(
    os.uname().machine
)
_JOIN_SESSION_KEYRING = 1


def leave_keyring() -> None:
    """Give this process an empty session keyring of its own.

    Whoever has the service's can read the keys that a login has put there. Nothing happens where
    the kernel has no keys, or where a container forbids them to all.
    """
    if _KEYCTL is not None:
        syscall = _ctypes.dlsym(_ctypes.dlopen(None, 0), "syscall")  # type: ignore[arg-type]
        _ctypes.call_function(syscall, (_KEYCTL, _JOIN_SESSION_KEYRING, None))
