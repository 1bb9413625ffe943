"""A site's catalogue file, read again when it has changed."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from hpcq.programs import Reading
from hpcq.programs.catalogue import CatalogueEntry, CatalogueError, load_catalogue
from hpcq.programs.patterns import PatternReader
from hpcq.services.programs import Source, in_thread

__all__ = ["CatalogueFile"]

_log = structlog.get_logger("hpcq.programs")

_IN_FORCE = "The catalogue stays as it was before."
# A file system may date changes no finer than this: a younger file may change unnoticed.
_COARSEST_TIME_NS = 3 * 10**9


class CatalogueFile:
    """Knows the programs of a catalogue file, and notices when it changes.

    A file that cannot be used changes nothing: it is a problem until it can be.

    Args:
        path: of the file.
        seconds: how long looking for the versions of one program may take.

    Raises:
        CatalogueError: it cannot be used.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.source = Source(str(path), in_thread(self._read))
        self._path = path
        self._seconds = seconds
        self._seen = self._signature()
        self._reading = Reading(installations=())
        self._known = [(entry, self._reader(entry)) for entry in load_catalogue(path)]

    def sources(self) -> Sequence[Source]:
        """Return the programs of the catalogue that is in force."""
        return [source for _, source in self._known]

    def _read(self) -> Reading:
        """Look whether the file has changed; return what keeps it from being in force."""
        signature = self._signature()
        if signature is None or signature != self._seen:
            self._seen = signature
            self._reading = self._take_over()
        return self._reading

    def _take_over(self) -> Reading:
        try:
            entries = load_catalogue(self._path)
        except CatalogueError as error:
            return Reading(installations=(), problems=(*error.problems, _IN_FORCE))
        known = self._known
        if [entry for entry, _ in known] != entries:
            self._known = [
                next((one for one in known if one[0] == entry), (entry, self._reader(entry)))
                for entry in entries
            ]
            _log.info("programs.catalogue_changed", file=str(self._path), programs=len(entries))
        return Reading(installations=())

    def _signature(self) -> tuple[int, ...] | None:
        """Return something that differs when the file does; None when that cannot be said yet."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        times = status.st_mtime_ns, status.st_ctime_ns
        if time.time_ns() - max(times) < _COARSEST_TIME_NS:
            return None
        return status.st_dev, status.st_ino, status.st_size, *times

    def _reader(self, entry: CatalogueEntry) -> Source:
        reader = PatternReader(entry.name, entry.pattern, entry.make, self._seconds)
        return Source(entry.name, in_thread(reader.read))
