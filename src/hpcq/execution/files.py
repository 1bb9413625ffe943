"""Questions about files, answered with the rights of the process that asks.

Standard library only: `hpcq.execution.as_account` answers them in the name of another account.
"""

import os
import stat
from typing import Protocol

__all__ = ["Files", "OwnFiles"]


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

    def read_folder(self, path: str) -> None:
        """Read the beginning of a folder."""
        ...

    def read(self, path: str, most_bytes: int) -> bytes | None:
        """Return the content of a file, at most so many bytes; None for what is not a file."""
        ...


class OwnFiles:
    """Looks at files in the name of this process's account."""

    def mode(self, path: str) -> int:
        return os.stat(path).st_mode

    def may(self, path: str, access: int) -> bool:
        return os.access(path, access)

    def link(self, path: str) -> str:
        return os.readlink(path)

    def read_folder(self, path: str) -> None:
        with os.scandir(path) as entries:
            next(entries, None)

    def read(self, path: str, most_bytes: int) -> bytes | None:
        # A FIFO would otherwise wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return file.read(most_bytes) if is_file else None
