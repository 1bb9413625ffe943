"""Files, looked at with the rights of this process.

`hpcq.execution.as_account` does so in the name of another account, and wants little to load.
"""

import os
import stat

__all__ = ["OwnFiles"]


class OwnFiles:
    """Looks at files in the name of this process's account; see `hpcq.execution.protocol.Files`."""

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
