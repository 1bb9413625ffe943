"""Files, looked at with the rights of this process.

`hpcq.execution.as_account` does so in the name of another account, and wants little to load.
"""

import errno
import os
import stat

# Not the one of typing, for the same reason.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OwnFiles", "is_within"]


def is_within(path: str, folders: "Sequence[str]") -> bool:
    """Return whether an absolute path without links, dots or doubled slashes is in a folder."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


class OwnFiles:
    """Looks at files in the name of this process's account; see `hpcq.execution.protocol.Files`."""

    def mode(self, path: str) -> int:
        return os.stat(path).st_mode

    def may(self, path: str, access: int) -> bool:
        return os.access(path, access)

    def link(self, path: str) -> str:
        return os.readlink(path)

    def real_path(self, path: str) -> str:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            return _real_path(descriptor)
        finally:
            os.close(descriptor)

    def read_folder(self, path: str) -> None:
        with os.scandir(path) as entries:
            next(entries, None)

    def read(self, path: str, most_bytes: int, within: "Sequence[str]" = ()) -> bytes | None:
        # A FIFO would otherwise wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            # Of what is open, and not of the path, which may lead elsewhere by now.
            if within and not is_within(_real_path(descriptor), within):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return file.read(most_bytes) if is_file else None


def _real_path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")
