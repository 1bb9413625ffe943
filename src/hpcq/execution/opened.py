"""Files that are open: checked by what they are, wherever their names led, and read in pieces."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpcq.domain.errors import NoSuchFile
from hpcq.execution.files import is_within

__all__ = ["Bounds", "OpenedFile", "check_folder", "check_opened"]

_BLOCK_BYTES = 64 * 1024
_GONE = NoSuchFile("The file or its folder was moved or removed at this moment.")
# What is read there is the kernel's, and some of it with the rights of whoever reads.
_OF_THE_KERNEL = frozenset(
    {
        "autofs",
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "mqueue",
        "nfsd",
        "nsfs",
        "proc",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "sysfs",
        "tracefs",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The folders whose content may be shown, all without links.

    Attributes:
        allowed: those outside of which nothing is; none for no such bound.
        hidden: those in which nothing is.
    """

    allowed: Sequence[str] = ()
    hidden: Sequence[str] = ()


def check_opened(
    base: int, found: int, uid: int, bounds: Bounds, *, is_foreign_allowed: bool
) -> str:
    """Make sure that an open file may be shown as an account's; return its path, without links.

    The descriptors may come from another account: only what the kernel says of them counts.

    Args:
        base: a descriptor of the folder that it has to be below.
        found: a descriptor of the file.
        uid: the number of the account.
        bounds: where it may be.
        is_foreign_allowed: whether it may be another account's, if it has no other name.

    Raises:
        NoSuchFile: it may not.
    """
    path = _check_place(base, found, bounds)
    status = os.fstat(found)
    if not stat.S_ISREG(status.st_mode):
        raise NoSuchFile("It is no regular file; links, devices, pipes and sockets are not read.")
    if status.st_nlink == 0:
        raise _GONE
    if status.st_uid != uid and not (is_foreign_allowed and status.st_nlink == 1):
        raise NoSuchFile("The file belongs to another account than the job.")
    return path


def check_folder(base: int, found: int, bounds: Bounds) -> str:
    """Make sure that an open folder may be shown; arguments, result and errors as above."""
    path = _check_place(base, found, bounds)
    if not stat.S_ISDIR(os.fstat(found).st_mode):
        raise NoSuchFile("It is no folder.")
    return path


def _check_place(base: int, found: int, bounds: Bounds) -> str:
    folder, path = (os.readlink(f"/proc/self/fd/{number}") for number in (base, found))
    if not stat.S_ISDIR(os.fstat(base).st_mode) or not is_within(path, [folder]):
        raise _GONE
    mount = _mount_of(found)
    if mount != _mount_of(base):
        raise NoSuchFile("It is on another file system than the folder of the job.")
    if _kind_of_mount(mount) is None or _kind_of_mount(mount) in _OF_THE_KERNEL:
        raise NoSuchFile("The file system holds no files of jobs.")
    if bounds.allowed and not is_within(path, bounds.allowed):
        raise NoSuchFile("It is not in the folders that jobs may use here (ALLOWED_DIRECTORIES).")
    if is_within(path, bounds.hidden):
        raise NoSuchFile("It is in the service's own folder, of which nothing is shown.")
    return path


def _mount_of(descriptor: int) -> bytes:
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as lines:
        return next(line.split()[1] for line in lines if line.startswith(b"mnt_id:"))


def _kind_of_mount(mount: bytes) -> str | None:
    """Return the type of the file system that is mounted; None for what no path leads to."""
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            # proc(5): the id is the first field, and the type the one behind the hyphen.
            fields = line.split()
            if fields[0] == mount:
                return fields[fields.index(b"-", 6) + 1].decode("ascii", "replace")
    return None


class OpenedFile:
    """A file that is open to be read. It is closed with its last user.

    Args:
        descriptor: of the file.
        path: where it is, without links.
        close: has a descriptor closed, by somebody who may wait for that.
    """

    def __init__(self, descriptor: int, path: str, close: Callable[[int], None]) -> None:
        self.path = path
        self._descriptor = descriptor
        self._close = close

    def __del__(self) -> None:
        self._close(self._descriptor)

    def status(self) -> os.stat_result:
        """Return what the file system says of it now."""
        return os.fstat(self._descriptor)

    def is_same(self, other: "OpenedFile") -> bool:
        """Return whether both are one file, whatever its name."""
        return os.path.samestat(self.status(), other.status())

    def read(self, offset: int, most_bytes: int) -> bytes:
        """Return bytes from a place on; none at the end."""
        return os.pread(self._descriptor, most_bytes, offset)

    def tail_offset(self, lines: int, most_bytes: int) -> int:
        """Return where the last lines begin.

        It reads from the end, one block at a time.

        Args:
            lines: their number; a line without an end counts.
            most_bytes: how far from the end they may begin.
        """
        size = self.status().st_size
        first = max(0, size - most_bytes)
        end = size
        # The end of the last line ends nothing before it.
        wanted = lines + (self.read(size - 1, 1) == b"\n" if size else 0)
        while end > first:
            begin = max(first, end - _BLOCK_BYTES)
            block = self.read(begin, end - begin)
            found = block.count(b"\n")
            if found >= wanted:
                at = len(block)
                for _ in range(wanted):
                    at = block.rindex(b"\n", 0, at)
                return begin + at + 1
            wanted -= found
            end = begin
        return first
