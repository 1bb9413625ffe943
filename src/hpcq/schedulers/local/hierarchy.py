"""Where a process stands in the trees of control groups, v1 and v2. Standard library only."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["NoGroup", "Place", "own_group"]


class NoGroup(Exception):
    """A process's group cannot be seen; the message is a sentence that says why."""


class Place(NamedTuple):
    """A process's own group.

    Attributes:
        path: its directory.
        name: its path as the kernel tells it, ``/`` for the top of what can be seen.
    """

    path: Path
    name: str


def own_group(process: Path, controller: str | None = None) -> Place:
    """Return the group of a process.

    Args:
        process: its directory in ``/proc``.
        controller: whose tree of cgroup v1 is meant; None for the one tree of v2.

    Raises:
        NoGroup: there is no such tree, or its group cannot be seen.
    """
    version = "v2" if controller is None else f"v1 with {controller!r}"
    name = _name((process / "cgroup").read_text("utf-8", "surrogateescape"), controller)
    if name is None:
        raise NoGroup(f"This kernel has no cgroup {version}.")
    mounts = (process / "mountinfo").read_text("utf-8", "surrogateescape")
    for root, point in _mounts(mounts, controller):
        path = Path(os.path.normpath(f"{point}/{os.path.relpath(name, root)}"))
        # A group outside the namespace's own is told as "/../…".
        is_below = os.path.commonpath((root, name)) == root and ".." not in name.split("/")
        if is_below and path.is_dir():
            return Place(path, name)
    raise NoGroup(f"The cgroup {version} tree is not mounted where this service can see its group.")


def _name(text: str, controller: str | None) -> str | None:
    # proc_pid_cgroup(5): ID:CONTROLLER,CONTROLLER:PATH, and 0::PATH for v2.
    for line in text.splitlines():
        number, controllers, name = line.split(":", 2)
        if number == "0" if controller is None else controller in controllers.split(","):
            return name
    return None


def _mounts(text: str, controller: str | None) -> Iterator[tuple[str, str]]:
    """Yield the root and the mount point of each mount of a tree, see proc_pid_mountinfo(5)."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        is_wanted = (
            kind == "cgroup2"
            if controller is None
            else kind == "cgroup" and controller in options.split(",")
        )
        if is_wanted:
            root, point = before.split(" ")[3:5]
            yield _unescape(root), _unescape(point)


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
