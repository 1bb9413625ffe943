"""The content of folders, read again only after a change."""

import errno
import os
import re
import stat
import time
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

__all__ = ["Entry", "Folders", "TooManyEntries", "enter", "is_certain", "shown"]

# A root that was set to a wrong place, a file server's whole tree, must not keep the answer.
_MOST_ENTRIES = 100_000
# A file system may date changes no finer than this: a younger folder may change unnoticed.
_COARSEST_TIME_NS = 3 * 10**9

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# A link that leads nowhere, or in a circle.
_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_CERTAIN = _NOWHERE | {errno.EACCES, errno.EPERM, 0}


class TooManyEntries(OSError):
    """A folder holds far more than any site's programs."""

    def __init__(self) -> None:
        super().__init__(0, f"it holds more than {_MOST_ENTRIES} entries")


class Entry(NamedTuple):
    """A name in a folder.

    Attributes:
        path: with the folder's own.
        kind: ``d``, ``f``, ``l`` for a link, ``?`` for anything else.
    """

    name: str
    path: str
    kind: str

    def is_folder(self) -> bool:
        """Return whether it is a folder, or a link that leads to one now.

        Raises:
            OSError: that cannot be found out.
        """
        return self.kind == "d" or (self.kind in "l?" and stat.S_ISDIR(self.mode()))

    def is_file(self) -> bool:
        """Return whether it is a file, or a link that leads to one now.

        Raises:
            OSError: that cannot be found out.
        """
        return self.kind == "f" or (self.kind in "l?" and stat.S_ISREG(self.mode()))

    def mode(self) -> int:
        """Return the mode of what is there, or where a link leads; 0 when it leads nowhere.

        Raises:
            OSError: that cannot be found out.
        """
        try:
            return os.stat(self.path).st_mode
        except OSError as error:
            if error.errno in _NOWHERE:
                return 0
            raise

    def unfit(self) -> str | None:
        """Return what keeps its name from being a version's or a script's, or None."""
        try:
            self.name.encode()
        except UnicodeEncodeError:
            return "is not UTF-8"
        return "holds a control character" if _CONTROL.search(self.name) else None


@dataclass(frozen=True, slots=True)
class _Listing:
    signature: tuple[int, ...]
    is_settled: bool
    entries: tuple[Entry, ...]


class Folders:
    """Remembers what folders held; may be used by several threads."""

    def __init__(self) -> None:
        self._known: dict[str, _Listing] = {}
        self._read: set[str] = set()

    def entries(self, folder: str) -> tuple[Entry, ...]:
        """Return what a folder holds, in the order of the names; while that stays, the same object.

        Raises:
            OSError: it cannot be read; `TooManyEntries` when there is too much in it.
        """
        self._read.add(folder)
        status = os.stat(folder)
        signature = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        known = self._known.get(folder)
        if known is not None and known.is_settled and known.signature == signature:
            return known.entries
        self._known.pop(folder, None)
        settled = time.time_ns() - max(signature[2:]) > _COARSEST_TIME_NS
        entries = _read(folder)
        if known is not None and known.entries == entries:
            entries = known.entries
        self._known[folder] = _Listing(signature, settled, entries)
        return entries

    def forget_unread(self) -> None:
        """Forget the folders that were not requested since the last call."""
        read, self._read = self._read, set()
        for folder in self._known.keys() - read:
            self._known.pop(folder, None)


def _read(folder: str) -> tuple[Entry, ...]:
    with os.scandir(folder) as scan:
        found = [Entry(one.name, one.path, _kind(one)) for one in islice(scan, _MOST_ENTRIES + 1)]
    if len(found) > _MOST_ENTRIES:
        raise TooManyEntries
    return tuple(sorted(found))


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "l"
    if entry.is_dir(follow_symlinks=False):
        return "d"
    return "f" if entry.is_file(follow_symlinks=False) else "?"


def enter(folder: str) -> None:
    """Make sure that this account can work in a folder.

    Raises:
        OSError: it cannot.
    """
    if not os.access(folder, os.X_OK):
        os.stat(folder)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)


def is_certain(error: OSError) -> bool:
    """Return whether an error tells what is there; others are a file server's bad moment."""
    return error.errno in _CERTAIN


def shown(path: str) -> str:
    """Return a path as a sentence can carry it, whatever bytes it holds."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c >= " " and c != "\x7f" else f"\\x{ord(c):02x}" for c in text)
