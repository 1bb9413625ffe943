"""Versions that lie where a pattern says: ``/opt/gromacs/{version}/bin/gmx*``."""

import fnmatch
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders, shown
from hpcq.programs.layout import because, late
from hpcq.programs.patience import Patience
from hpcq.programs.reading import Reading

__all__ = ["VERSION", "PatternReader", "check_pattern"]

VERSION = "{version}"
_WILD = re.compile(r"[*?\[]")


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
        raise ValueError("it holds an empty part, or . or ..")


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
        self._seconds = seconds
        self._folders = Folders()
        self._patience = Patience[_Candidate](seconds)

    def read(self) -> Reading:
        """Return what is there now, in the order of the version names."""
        problems: list[str] = []
        candidates = self._candidates(problems)
        found = self._patience.each(candidates, self._look)
        silent = [one.path for one in candidates if one not in found]
        problems += late(self._name, silent, self._seconds)
        installations: dict[str, Installation] = {}
        for one in candidates:
            problems += [answer for answer in found.get(one, ()) if isinstance(answer, str)]
            for answer in found.get(one, ()):
                if isinstance(answer, str):
                    continue
                kept = installations.setdefault(answer.version, answer)
                if kept is not answer:
                    problems.append(
                        f"The version {answer.version} of {self._name} is there twice; "
                        f"{one.path} is left out."
                    )
        return Reading(
            installations=tuple(sorted(installations.values(), key=lambda one: one.version)),
            problems=tuple(problems),
        )

    def _candidates(self, problems: list[str]) -> Sequence[_Candidate]:
        candidates = []
        for folder in self._expanded("/", self._above, problems, is_needed=True):
            for entry in self._entries(folder, problems):
                match = self._version.fullmatch(entry.name)
                if match is None or entry.name.startswith(".") != self._is_hidden:
                    continue
                if entry.is_text():
                    candidates.append(_Candidate(match[1], entry.path))
                else:
                    problems.append(f"The name {shown(entry.path)} is not UTF-8; it is left out.")
        return candidates

    def _look(self, one: _Candidate) -> Sequence[Installation | str]:
        """Return the version, or why there is none, or nothing for what does not fit."""
        problems: list[str] = []
        below = self._expanded(one.path, self._below, problems)
        paths = [path for path in below if self._is_there(path, problems)]
        if len(paths) > 1:
            return [f"{one.path} of {self._name} fits {len(paths)} times; it is left out."]
        return [*problems, *(self._make(one.version, path) for path in paths)]

    def _expanded(
        self, folder: str, parts: Sequence[str], problems: list[str], *, is_needed: bool = False
    ) -> list[str]:
        """Return the paths below a folder that fit; they may not exist.

        A folder that does not exist is a problem when it is needed.
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
                if is_needed or self._is_there(path, problems)
                for entry in self._entries(path, problems)
                if fits(entry.name) and entry.is_text() and not entry.name.startswith(".")
            ]
            if is_needed:
                paths = [path for path in paths if os.path.isdir(path)]
        return paths

    def _is_there(self, path: str, problems: list[str]) -> bool:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            problems.append(f"{path} of {self._name} {because(error)}.")
            return False
        return True

    def _entries(self, folder: str, problems: list[str]) -> Sequence[Entry]:
        try:
            return self._folders.entries(folder)
        except OSError as error:
            problems.append(f"The folder {shown(folder)} of {self._name} {because(error)}.")
            return ()


def _regex(part: str) -> str:
    return fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z") if part else ""
