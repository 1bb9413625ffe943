"""What folders hold, read again only when they have changed."""

import os
import time
from dataclasses import dataclass
from itertools import islice

__all__ = ["Entry", "Folders", "TooManyEntries", "shown"]

# A root that was set to a wrong place, a file server's whole tree, must not keep the answer.
_MOST_ENTRIES = 100_000
# A file system may date changes no finer than this: a younger folder may change unnoticed.
_COARSEST_TIME_NS = 3 * 10**9


class TooManyEntries(OSError):
    """A folder holds far more than any site's programs."""

    def __init__(self) -> None:
        super().__init__(0, f"it holds more than {_MOST_ENTRIES} entries")


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder.

    Attributes:
        path: with the folder's own.
        kind: ``d``, ``f``, ``l`` for a link, ``?`` for anything else.
    """

    name: str
    path: str
    kind: str

    def is_folder(self) -> bool:
        """Return whether it is a folder, or a link that leads to one now."""
        return self.kind == "d" or (self.kind in "l?" and os.path.isdir(self.path))

    def is_file(self) -> bool:
        """Return whether it is a file, or a link that leads to one now."""
        return self.kind == "f" or (self.kind in "l?" and os.path.isfile(self.path))

    def is_text(self) -> bool:
        """Return whether its name is UTF-8, which an answer can carry."""
        try:
            self.name.encode()
        except UnicodeEncodeError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Listing:
    signature: tuple[int, ...]
    is_settled: bool
    entries: tuple[Entry, ...]


class Folders:
    """Remembers what folders held; may be used by several threads."""

    def __init__(self) -> None:
        self._known: dict[str, _Listing] = {}

    def entries(self, folder: str) -> tuple[Entry, ...]:
        """Return what a folder holds, in the order of the names.

        Raises:
            OSError: it cannot be read; `TooManyEntries` when there is too much in it.
        """
        status = os.stat(folder)
        signature = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        known = self._known.get(folder)
        if known is not None and known.is_settled and known.signature == signature:
            return known.entries
        self._known.pop(folder, None)
        settled = time.time_ns() - max(signature[2:]) > _COARSEST_TIME_NS
        entries = _read(folder)
        self._known[folder] = _Listing(signature, settled, entries)
        return entries

    def forget_others(self, folders: set[str]) -> None:
        """Forget all folders but these."""
        for folder in self._known.keys() - folders:
            self._known.pop(folder, None)


def _read(folder: str) -> tuple[Entry, ...]:
    with os.scandir(folder) as scan:
        found = [Entry(one.name, one.path, _kind(one)) for one in islice(scan, _MOST_ENTRIES + 1)]
    if len(found) > _MOST_ENTRIES:
        raise TooManyEntries
    return tuple(sorted(found, key=lambda entry: entry.name))


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "l"
    if entry.is_dir(follow_symlinks=False):
        return "d"
    return "f" if entry.is_file(follow_symlinks=False) else "?"


def shown(path: str) -> str:
    """Return a path as a sentence can carry it, whatever bytes it holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
