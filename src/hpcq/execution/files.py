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
    """Return whether an absolute path without links, dots or doubled slashes is in a folder.

    >>> is_within("/home/ana/study", ["/home/an", "/srv"])
    False
    """
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

    def open_below(self, folder: str, names: "Sequence[str]") -> "tuple[int, int]":
        base, above = _open_folders(folder, names[:-1])
        try:
            return base, _open_file(above, names[-1])
        except BaseException:
            os.close(base)
            raise
        finally:
            os.close(above)

    def list_below(
        self, folder: str, names: "Sequence[str]", most: int
    ) -> "tuple[int, int, bytes]":
        base, found = _open_folders(folder, names)
        try:
            return base, found, _listing(found, most)
        except BaseException:
            os.close(base)
            os.close(found)
            raise

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


def _open_folders(folder: str, names: "Sequence[str]") -> "tuple[int, int]":
    """Return descriptors of a folder, and of one below it; only on the way to the first are links.

    Neither is open for anything but a look.
    """
    look = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    base = os.open(folder, look)
    at = os.dup(base)
    try:
        for name in names:
            _check_name(name)
            below = os.open(name, look | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
    except BaseException:
        os.close(base)
        os.close(at)
        raise
    return base, at


def _open_file(folder: int, name: str) -> int:
    """Open a regular file in a folder; nothing else is opened at all, not even for a moment."""
    _check_name(name)
    look = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(look).st_mode):
            # As open(2) says it of a link.
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        # The very file that was looked at, whatever has its name by now.
        return os.open(f"/proc/self/fd/{look}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(look)


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def _listing(folder: int, most: int) -> bytes:
    """Return the entries of a folder, see `hpcq.execution.protocol.Files.list_below`."""
    lines: list[bytes] = []
    readable = os.open(f"/proc/self/fd/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(readable) as entries:
            for entry in entries:
                if len(lines) > most:
                    break
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    # It is gone, or only its name may be known.
                    lines.append(b"0 0 0 " + os.fsencode(entry.name))
                    continue
                numbers = (stat.S_IFMT(found.st_mode), found.st_size, found.st_mtime_ns)
                lines.append(b"%d %d %d " % numbers + os.fsencode(entry.name))
    finally:
        os.close(readable)
    return b"\0".join(lines)
