"""The way of one thread through file systems; one that hangs keeps few threads."""

import contextlib
import errno
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from hpcq.domain.errors import PathUnavailable
from hpcq.execution.files import OwnFiles
from hpcq.execution.protocol import Files

__all__ = ["Mounts", "Visit"]

# A mount that hangs keeps so many threads until it answers or is forced off.
_MOST_AT_ONE_MOUNT = 8
# Checks take a millisecond: a mount with all places taken for so long hangs.
_PLACE_SECONDS = 0.5
_MOUNTS_KNOWN_SECONDS = 10.0
_MOST_LINKS = 40


class Mounts:
    """The places of looks at each mount."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, threading.Semaphore] = {}
        self._points: frozenset[str] = frozenset()
        self._read_at: float | None = None

    def points(self) -> frozenset[str]:
        """Return where file systems are mounted; asking for that touches none of them."""
        now = time.monotonic()
        if self._read_at is None or now - self._read_at > _MOUNTS_KNOWN_SECONDS:
            self._points, self._read_at = _mount_points(), now
        return self._points

    def places(self, mount: str) -> threading.Semaphore:
        """Return the places of a mount."""
        with self._lock:
            return self._places.setdefault(mount, threading.Semaphore(_MOST_AT_ONE_MOUNT))


def _mount_points() -> frozenset[str]:
    try:
        with open("/proc/self/mountinfo", "rb") as lines:
            # proc(5): the fifth field, with blanks and the like as octal escapes.
            raw = [line.split(b" ", 5)[4] for line in lines]
    except OSError:
        raw = []
    unescaped = (point.decode("unicode_escape").encode("latin-1") for point in raw)
    return frozenset({"/", *(os.fsdecode(point) for point in unescaped)})


class Visit:
    """One thread's way through file systems; it has a place at one mount at a time.

    Attributes:
        at: the path that it looks at, links followed; None before the first.
        account: the account in whose name it looks; None for the service's own.
        uid: the number of that account.
        files: looks at files in that name.
        allowed: the folders that it may look into, without links; none for all.
    """

    def __init__(self, mounts: Mounts) -> None:
        self.at: str | None = None
        self.account: str | None = None
        self.uid = os.geteuid()
        self.files: Files = OwnFiles()
        self.allowed: Sequence[str] = ()
        self._mounts = mounts
        self._mount: str | None = None
        self._folders: set[str] = set()
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None
        self._is_given_up = False

    @property
    def by_whom(self) -> str:
        """The words that end a sentence about what the account may not do."""
        return "" if self.account is None else f" by the account {self.account!r}"

    @contextlib.contextmanager
    def through(self, files: Files, end: Callable[[], None]) -> Iterator[None]:
        """Look through a process of the account, which may stop it for ever.

        Args:
            files: asks the process.
            end: makes every question to it fail at once; another thread calls it.

        Raises:
            PathUnavailable: the visit was given up.
        """
        with self._lock:
            if self._is_given_up:
                raise PathUnavailable("Nobody waits for this look any more.")
            self.files, self._end = files, end
        try:
            yield
        finally:
            with self._lock:
                self._end = None

    def give_up(self) -> None:
        """End the process that looks, if there is one: its answer comes too late."""
        with self._lock:
            self._is_given_up = True
            if self._end is not None:
                self._end()

    def enter(self, path: str) -> None:
        """Follow an absolute path, each link in it by itself, to the mount where it leads.

        Raises:
            PathUnavailable: a mount on the way has hung for others.
        """
        points = self._mounts.points()
        # The folders that the way leads through, each with its mount.
        way = [("", "/")]
        left = deque(path.split("/"))
        links = 0
        while left:
            part = left.popleft()
            if part in ("", "."):
                continue
            if part == "..":
                del way[max(1, len(way) - 1) :]
                continue
            folder, mount = way[-1]
            step = f"{folder}/{part}"
            mount = step if step in points else mount
            if step in self._folders:
                # It was no link a moment ago; the paths of a job begin alike.
                way.append((step, mount))
                continue
            self._move(step, mount)
            try:
                target = self.files.link(step)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    # It is not there; whoever looks next gets no further.
                    return
                way.append((step, mount))
                self._folders.add(step)
                continue
            links += 1
            if links > _MOST_LINKS:
                return
            left.extendleft(reversed(target.split("/")))
            if target.startswith("/"):
                del way[1:]
        self._move(way[-1][0] or "/", way[-1][1])

    def stay(self, path: str) -> None:
        """Take a place at the mount of what is open already, and touch nothing for that.

        Args:
            path: without links.

        Raises:
            PathUnavailable: the mount has hung for others.
        """
        points = self._mounts.points()
        above = itertools.accumulate(path.split("/"), "{}/{}".format)
        self._move(path, max((point for point in above if point in points), key=len, default="/"))

    def leave(self) -> None:
        """Give the place at a mount back."""
        if self._mount is not None:
            self._mounts.places(self._mount).release()
            self._mount = None

    def _move(self, path: str, mount: str) -> None:
        self.at = path
        if mount == self._mount:
            return
        self.leave()
        if not self._mounts.places(mount).acquire(timeout=_PLACE_SECONDS):
            raise PathUnavailable(
                f"The file system of {path!r} does not answer others either. Try again when it "
                "does."
            )
        self._mount = mount
