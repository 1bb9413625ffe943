"""Versions that lie where a pattern says: ``/opt/gromacs/{version}/bin/gmx*``."""

import fnmatch
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders, is_certain, shown
from hpcq.programs.pace import Pace
from hpcq.programs.reading import AS_LAST, Reading
from hpcq.programs.sights import Found, Sights, because

__all__ = ["VERSION", "PatternReader", "check_pattern"]

VERSION = "{version}"
_WILD = re.compile(r"[*?\[]")
# What `fnmatch` takes for one: a ] that comes first belongs to it.
_SET = re.compile(r"\[(?:!.|[^!])[^\]]*\]")


def check_pattern(pattern: str) -> None:
    """Make sure that a pattern says where versions lie.

    Raises:
        ValueError: it does not; the text says why.
    """
    if not pattern.startswith("/"):
        raise ValueError("it is not an absolute path")
    if pattern.count(VERSION) != 1:
        raise ValueError(f"it has to hold {VERSION} once")
    if any(part in ("", ".", "..") for part in pattern.split("/")[1:]):
        raise ValueError("it holds an empty part, a . or a .. part")
    for part in pattern.split("/"):
        if "**" in part:
            raise ValueError("** means no more than *: each part stands for one folder")
        if "[" in _SET.sub("", part):
            raise ValueError("it holds a [ without its ]")


@dataclass(frozen=True, slots=True)
class _Candidate:
    version: str
    path: str


class PatternReader:
    """Reads the versions of one program, again and again.

    Args:
        name: the program's.
        pattern: an absolute path in which each part may hold ``*``, ``?`` and ``[…]``, and one
            ``{version}``.
        make: what a version and its path are.
        seconds: how long all of them may take.
    """

    def __init__(
        self, name: str, pattern: str, make: Callable[[str, str], Installation], seconds: float
    ) -> None:
        check_pattern(pattern)
        parts = pattern.split("/")[1:]
        at = next(number for number, part in enumerate(parts) if VERSION in part)
        before, after = parts[at].split(VERSION)
        self._name = name
        self._above, self._below = parts[:at], parts[at + 1 :]
        self._is_hidden = parts[at].startswith(".")
        self._version = re.compile(f"{_regex(before)}(.+){_regex(after)}", re.DOTALL)
        self._make = make
        self._folders = Folders()
        self._sights = Sights[_Candidate](name, seconds)
        self._pace = Pace()
        self._above_held: dict[str, Sequence[Entry]] = {}
        self._reading = Reading(installations=())

    def read(self) -> Reading:
        """Return what is there now, in the order of the version names.

        While nothing has changed, it is the same object. What does not answer is given as it was
        last.
        """
        is_due = self._pace.is_due()
        if is_due or not self._is_above_as_before():
            reading = self._read(all_anew=is_due)
            if reading != self._reading:
                self._reading = reading
        return self._reading

    def _is_above_as_before(self) -> bool:
        held = self._above_held
        try:
            return all(self._folders.entries(folder) is held[folder] for folder in held)
        except OSError:
            return False

    def _read(self, *, all_anew: bool) -> Reading:
        began = time.monotonic()
        problems: list[str] = []
        try:
            candidates = self._candidates(problems)
        except OSError as error:
            problem = f"The path {error.filename} of {self._name} {because(error)}."
            more = AS_LAST * bool(self._reading.installations)
            return replace(self._reading, problems=(problem + more,))
        seen, left_out = self._sights.of(candidates, self._look, all_anew=all_anew)
        installations: dict[str, Installation] = {}
        for path, found in seen.items():
            problems += [
                f"The version {one.version} of {self._name} is there twice; {path} is left out."
                for one in found
                if installations.setdefault(one.version, one) is not one
            ]
        if all_anew:
            self._pace.looked(len(candidates), began)
        return Reading(
            installations=tuple(sorted(installations.values(), key=lambda one: one.version)),
            problems=(*problems, *left_out),
        )

    def _candidates(self, problems: list[str]) -> Sequence[_Candidate]:
        candidates = []
        above: dict[str, Sequence[Entry]] = {}
        for folder in self._expanded("/", self._above, problems, above):
            for entry in self._entries(folder, problems, above):
                match = self._version.fullmatch(entry.name)
                if match is None or entry.name.startswith(".") != self._is_hidden:
                    continue
                if why := entry.unfit():
                    name = shown(entry.path)
                    problems.append(f"The name {name} of {self._name} {why}; it is left out.")
                else:
                    candidates.append(_Candidate(match[1], entry.path))
        self._above_held = above
        return candidates

    def _look(self, one: _Candidate) -> Found:
        """Return the version, or why there is none, or nothing for what does not fit."""
        problems: list[str] = []
        below = self._expanded(one.path, self._below, problems)
        paths = [path for path in below if self._is_there(path, problems)]
        if len(paths) > 1:
            return [f"{one.path} of {self._name} fits {len(paths)} times; it is left out."]
        return [*problems, *(self._make(one.version, path) for path in paths)]

    def _expanded(
        self,
        folder: str,
        parts: Sequence[str],
        problems: list[str],
        above: dict[str, Sequence[Entry]] | None = None,
    ) -> list[str]:
        """Return the paths below a folder that fit; they may not exist.

        ``above`` is given for the folders above the versions, of which one that does not exist is a
        problem, and gets what each held.
        """
        paths = [folder]
        for part in parts:
            if _WILD.search(part) is None:
                paths = [os.path.join(path, part) for path in paths]
                continue
            fits = re.compile(_regex(part), re.DOTALL).fullmatch
            paths = [
                entry.path
                for path in paths
                if above is not None or self._is_there(path, problems)
                for entry in self._entries(path, problems, above)
                if fits(entry.name) and not entry.unfit() and not entry.name.startswith(".")
            ]
            if above is not None:
                paths = [path for path in paths if os.path.isdir(path)]
        return paths

    def _is_there(self, path: str, problems: list[str]) -> bool:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if not is_certain(error):
                raise
            problems.append(f"{path} of {self._name} {because(error)}.")
            return False
        return True

    def _entries(
        self, folder: str, problems: list[str], above: dict[str, Sequence[Entry]] | None = None
    ) -> Sequence[Entry]:
        try:
            entries = self._folders.entries(folder)
        except OSError as error:
            if not is_certain(error):
                raise
            problems.append(f"The folder {shown(folder)} of {self._name} {because(error)}.")
            return ()
        if above is not None:
            above[folder] = entries
        return entries


def _regex(part: str) -> str:
    return fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z") if part else ""
