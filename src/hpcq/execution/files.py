"""Questions about files, answered with the rights of the process that asks.

Standard library only: `hpcq.execution.as_account` answers them in the name of another account.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Protocol

__all__ = ["Files", "OwnFiles", "is_within"]


def is_within(path: str, folders: Sequence[str]) -> bool:
    """Return whether an absolute path without links, dots or doubled slashes is in a folder."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


class Files(Protocol):
    """Looks at files in the name of one account. All methods may raise OSError."""

    def mode(self, path: str) -> int:
        """Return the type and the permissions of a file (``st_mode``), links followed."""
        ...

    def may(self, path: str, access: int) -> bool:
        """Return whether the account has a kind of access (``os.X_OK``) to a path."""
        ...

    def link(self, path: str) -> str:
        """Return where a symbolic link leads."""
        ...

    def real_path(self, path: str) -> str:
        """Return the path, without links, of what a path leads to at this moment."""
        ...

    def read_folder(self, path: str) -> None:
        """Read the beginning of a folder."""
        ...

    def read(self, path: str, most_bytes: int, within: Sequence[str] = ()) -> bytes | None:
        """Return the content of a file, at most so many bytes; None for what is not a file.

        Args:
            path: the file.
            most_bytes: the length of the longest content.
            within: the folders of which one has to hold what was opened (as for `is_within`), or
                EXDEV is raised, as openat2(2) does; none for no bound.
        """
        ...


class OwnFiles:
    """Looks at files in the name of this process's account."""

    def mode(self, path: str) -> int:
        return os.stat(path).st_mode

    def may(self, path: str, access: int) -> bool:
        return os.access(path, access)

    def link(self, path: str) -> str:
        return os.readlink(path)

    def real_path(self, path: str) -> str:
        with _opened(path, os.O_PATH) as descriptor:
            return _real_path(descriptor)

    def read_folder(self, path: str) -> None:
        with os.scandir(path) as entries:
            next(entries, None)

    def read(self, path: str, most_bytes: int, within: Sequence[str] = ()) -> bytes | None:
        # A FIFO would otherwise wait for its writer.
        with _opened(path, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
            # Of what is open, and not of the path, which may lead elsewhere by now.
            if within and not is_within(_real_path(descriptor), within):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(most_bytes)


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _real_path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")
