"""Folders as a job's account lists them."""

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

__all__ = ["Entry", "Folder", "read_folder"]

Kind = Literal["file", "folder", "link", "other"]

# The years 1000 to 9998. A job may give its files any time, and not every reader can show others.
_SHOWN_SECONDS = range(-30_610_224_000, 253_370_764_800)
_KINDS: Mapping[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a folder.

    Attributes:
        size: in bytes; None for what is no file.
        modified: the time of its last change, aware; None if that may not be known, or has no year
            of four digits.
    """

    name: str
    kind: Kind
    size: int | None
    modified: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The entries of a folder, in the order of their names.

    Attributes:
        is_complete: False if there are more.
    """

    entries: Sequence[Entry]
    is_complete: bool


def read_folder(content: bytes, most: int) -> Folder:
    """Return a folder from the answer of `hpcq.execution.protocol.Files.list_below`.

    The account may have written it: an entry that cannot be read is left out.

    Args:
        content: the answer.
        most: how many entries are shown.
    """
    lines = content.split(b"\0") if content else []
    entries = [entry for line in lines if (entry := _entry(line)) is not None]
    shown = sorted(entries, key=lambda entry: entry.name)[:most]
    return Folder(entries=shown, is_complete=len(lines) <= most)


def _entry(line: bytes) -> Entry | None:
    kind, _, rest = line.partition(b" ")
    size, _, rest = rest.partition(b" ")
    changed, _, name = rest.partition(b" ")
    if not name or b"/" in name or max(len(kind), len(size), len(changed)) > 24:
        return None
    try:
        mode, size_bytes, seconds = int(kind), int(size), int(changed) // 10**9
    except ValueError:
        return None
    is_time_known = mode != 0 and seconds in _SHOWN_SECONDS
    shown: Kind = _KINDS.get(mode, "other")
    return Entry(
        name=name.decode("utf-8", "replace"),
        kind=shown,
        size=size_bytes if shown == "file" else None,
        modified=datetime.fromtimestamp(seconds, UTC) if is_time_known else None,
    )
