"""What the rules share: a root folder for each program, in it an entry for each version."""

import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders, is_certain, shown
from hpcq.programs.pace import Pace
from hpcq.programs.reading import AS_LAST, Reading
from hpcq.programs.sights import Found, Sights, because

__all__ = ["Look", "VersionReader"]

Look = Callable[[Entry, Folders], Installation | str | None]
"""Tells the version that an entry is, or why it is left out, or None for what is no version."""


class VersionReader:
    """Reads the versions of one program, again and again.

    Args:
        name: the program's.
        root: the folder that holds its versions.
        look: what an entry of the root is; it may read further folders. Called in threads. An
            `OSError` is a reason to leave the entry out.
        seconds: how long all of them may take.
    """

    def __init__(self, name: str, root: Path, look: Look, seconds: float) -> None:
        self.name = name
        self._root = str(root)
        self._look = look
        self._folders = Folders()
        self._sights = Sights[Entry](name, seconds)
        self._pace = Pace()
        self._entries: Sequence[Entry] | None = None
        self._reading = Reading(installations=())

    def read(self) -> Reading:
        """Return what is there now; while nothing has changed, the same object.

        Hidden entries (a file server's ``.snapshot``) are left out. What does not answer is given
        as it was last.
        """
        try:
            entries = self._folders.entries(self._root)
        except OSError as error:
            self._entries = None
            return self._keep(self._without_root(error))
        is_due = self._pace.is_due()
        if is_due or entries is not self._entries:
            began = time.monotonic()
            visible = [one for one in entries if not one.name.startswith(".")]
            reading = self._look_at(visible, all_anew=is_due)
            self._entries = entries
            if is_due:
                self._pace.looked(len(entries), began)
            return self._keep(reading)
        return self._reading

    def _keep(self, reading: Reading) -> Reading:
        if reading != self._reading:
            self._reading = reading
        return self._reading

    def _without_root(self, error: OSError) -> Reading:
        known = () if is_certain(error) else self._reading.installations
        problem = f"The folder {shown(self._root)} of {self.name} {because(error)}."
        return Reading(installations=known, problems=(problem + AS_LAST * bool(known),))

    def _look_at(self, entries: Sequence[Entry], *, all_anew: bool) -> Reading:
        seen, problems = self._sights.of(entries, self._looked_at, all_anew=all_anew)
        self._folders.forget_others({self._root, *seen})
        versions = sorted(chain(*seen.values()), key=lambda one: one.version)
        return Reading(installations=tuple(versions), problems=tuple(problems))

    def _looked_at(self, entry: Entry) -> Found:
        if why := entry.unfit():
            return (f"The name {shown(entry.path)} of {self.name} {why}; it is left out.",)
        found = self._look(entry, self._folders)
        return () if found is None else (found,)
