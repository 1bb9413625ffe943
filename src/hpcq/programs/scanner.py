"""Scans of the versions of a program, on file servers that may be slow, fail or hang."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders, is_certain, shown
from hpcq.programs.pool import RescanInterval, TimeLimitedPool

__all__ = ["LAST_KNOWN", "FolderLayout", "Scan", "Scanner", "UpperFolders"]

LAST_KNOWN = " What was last known is listed."
"""The end of a problem that hides nothing."""

# Those that did not answer are named one by one only while they are few.
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The programs that were found and, beside them, the problems.

    Attributes:
        installations: in the order of the version names.
        problems: a sentence for each thing that was left out, or is as it was last.
    """

    installations: tuple[Installation, ...]
    problems: tuple[str, ...] = ()


class UpperFolders:
    """The folders of one scan in which versions lie.

    Attributes:
        held: the entries of those that were read.
        problems: a sentence for each that cannot be read.
    """

    def __init__(self, folders: Folders, name: str, fresh: Mapping[str, Sequence[Entry]]) -> None:
        self._folders = folders
        self._name = name
        self._fresh = fresh
        self.held: dict[str, Sequence[Entry]] = {}
        self.problems: list[str] = []

    def entries(self, folder: str) -> Sequence[Entry]:
        """Return the entries of a folder; none, and a problem, where it cannot be read.

        Raises:
            OSError: the file server cannot say now.
        """
        try:
            entries = (
                self._fresh[folder] if folder in self._fresh else self._folders.entries(folder)
            )
        except OSError as error:
            if not is_certain(error):
                raise
            self.problems.append(_unreadable("folder", folder, self._name, error))
            return ()
        self.held[folder] = entries
        return entries


class FolderLayout(Protocol):
    """The way in which a site lays out the versions of one program."""

    def candidates(self, upper: UpperFolders) -> Sequence[Entry]:
        """Return the entries that may be versions.

        Raises:
            OSError: the file server cannot say now.
        """
        ...

    def look(self, entry: Entry, folders: Folders) -> Iterable[Installation | str]:
        """Yield the version that an entry is, or why it is left out, or nothing. In threads.

        Raises:
            OSError: a reason to leave the entry out, or to list it as it was last.
        """
        ...


Answer = Sequence[Installation | str] | OSError


class Scanner:
    """Scans the versions of one program again and again, and remembers what it saw last.

    Args:
        name: the program's, for messages.
        layout: of its versions.
        seconds: the time limit of one scan.
    """

    def __init__(self, name: str, layout: FolderLayout, seconds: float) -> None:
        self.name = name
        self._layout = layout
        self._seconds = seconds
        self._folders = Folders()
        self._pool = TimeLimitedPool[Entry](seconds)
        self._interval = RescanInterval()
        self._upper: Mapping[str, Sequence[Entry]] = {}
        self._answers: dict[Entry, Answer] = {}
        self._versions: dict[str, Sequence[Installation]] = {}
        self._known = Scan(installations=())

    def scan(self) -> Scan:
        """Return the versions that there are now; while nothing has changed, the same object.

        What cannot be seen now is listed as it was last.
        """
        is_due = self._interval.is_over()
        fresh: dict[str, Sequence[Entry]] = {}
        if is_due or not self._is_unchanged(fresh):
            known = self._scan(fresh, all_anew=is_due)
            if known != self._known:
                self._known = known
        return self._known

    def _is_unchanged(self, fresh: dict[str, Sequence[Entry]]) -> bool:
        """Return whether the upper folders are as before; what was read is ``fresh``."""
        try:
            for folder, before in self._upper.items():
                fresh[folder] = self._folders.entries(folder)
                if fresh[folder] is not before:
                    return False
        except OSError:
            return False
        return bool(self._upper)

    def _scan(self, fresh: Mapping[str, Sequence[Entry]], *, all_anew: bool) -> Scan:
        began = time.monotonic()
        upper = UpperFolders(self._folders, self.name, fresh)
        try:
            candidates = self._layout.candidates(upper)
        except OSError as error:
            self._upper = {}
            problem = _unreadable("folder", error.filename, self.name, error)
            known = self._known.installations
            return Scan(installations=known, problems=(problem + LAST_KNOWN * bool(known),))
        problems = self._look_at(candidates, {} if all_anew else self._answers)
        found = [(one, path) for path, versions in self._versions.items() for one in versions]
        # The first of two counts.
        installations = {one.version: one for one, _ in reversed(found)}
        if len(installations) < len(found):
            upper.problems += [
                f"The version {one.version} of {self.name} is there twice; {path} is left out."
                for one, path in found
                if installations[one.version] is not one
            ]
        self._upper = upper.held
        if all_anew:
            self._folders.forget_unread()
            self._interval.restart(len(candidates), began)
        return Scan(
            installations=tuple(sorted(installations.values(), key=attrgetter("version"))),
            problems=(*upper.problems, *problems),
        )

    def _look_at(self, entries: Sequence[Entry], known: Mapping[Entry, Answer]) -> list[str]:
        """Look at the unknown entries; return the problems."""
        anew = [entry for entry in entries if entry not in known]
        answers = {**known, **self._pool.map(anew, self._look)}
        last, self._versions, self._answers = self._versions, {}, {}
        problems: list[str] = []
        silent = []
        for entry in entries:
            answer = answers.get(entry)
            if answer is None or isinstance(answer, OSError):
                before = self._versions[entry.path] = last.get(entry.path, ())
                if answer is None:
                    silent.append(entry.path)
                else:
                    path = answer.filename or entry.path
                    problem = _unreadable("path", path, self.name, answer)
                    problems.append(problem + LAST_KNOWN * bool(before))
            else:
                self._answers[entry] = answer
                self._versions[entry.path] = [o for o in answer if isinstance(o, Installation)]
                problems += [one for one in answer if isinstance(one, str)]
        return problems + self._unanswered(silent)

    def _look(self, entry: Entry) -> Answer:
        if why := entry.unfit():
            return (f"The name {shown(entry.path)} of {self.name} {why}; it is left out.",)
        try:
            return tuple(self._layout.look(entry, self._folders))
        except OSError as error:
            if not is_certain(error):
                return error
            return (_unreadable("path", error.filename or entry.path, self.name, error),)

    def _unanswered(self, paths: Sequence[str]) -> list[str]:
        are_known = any(self._versions.get(path) for path in paths)
        silent = f"of {self.name} did not answer within {self._seconds:g} s."
        silent += LAST_KNOWN * are_known
        if len(paths) > _MOST_NAMED:
            return [f"{shown(paths[0])} and {len(paths) - 1} more paths {silent}"]
        return [f"The path {shown(path)} {silent}" for path in paths]


def _unreadable(kind: str, path: str, name: str, error: OSError) -> str:
    return f"The {kind} {shown(path)} of {name} cannot be read: {error.strerror}."
