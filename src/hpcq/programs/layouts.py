"""Layouts of installed versions: those of the rules TUBER and PEMAWS, and patterns."""

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpcq.domain.programs import Installation, Parameter, ParameterType
from hpcq.programs.folders import Entry, Folders, enter, is_certain, shown
from hpcq.programs.scanner import UpperFolders

__all__ = [
    "DECOMP",
    "DESSEM",
    "NEWAVE",
    "PatternLayout",
    "Product",
    "RootLayout",
    "check_pattern",
    "dessem",
    "pemaws",
    "tuber",
]

VERSION = "{version}"
_WILD = re.compile(r"[*?\[]")
# What `fnmatch` takes for one: a ] that comes first belongs to it.
_SET = re.compile(r"\[(?:!.|[^!])[^\]]*\]")
_DESSEM_MARK = "dessem_"
_BACKUPS = ("~", ".bak", ".old", ".orig")
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_SLOTS = Parameter(
    name="N_PROC",
    type=ParameterType.INTEGER,
    is_slots=True,
    minimum=1,
    description="How many processes to start.",
)

Look = Callable[[Entry, Folders], Iterable[Installation | str]]
"""See `hpcq.programs.scanner.FolderLayout.look`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A program that the rules know.

    Attributes:
        name: ``NEWAVE``.
        id_prefix: the beginning of its ids: ``NW``.
        parameters: the arguments that its job script expects after the version.
    """

    name: str
    id_prefix: str
    parameters: tuple[Parameter, ...] = ()

    def installed(
        self, version: str, directory: str, script: str, words: tuple[str, ...] = ()
    ) -> Installation:
        """Return a version of it."""
        return Installation(
            id_prefix=self.id_prefix,
            name=self.name,
            version=version,
            directory=directory,
            script=script,
            words=words,
            parameters=self.parameters,
        )


NEWAVE = Product(name="NEWAVE", id_prefix="NW", parameters=(_SLOTS,))
DECOMP = Product(name="DECOMP", id_prefix="DC", parameters=(_SLOTS,))
DESSEM = Product(
    name="DESSEM", id_prefix="DS", parameters=(replace(_SLOTS, is_slots=False, is_optional=True),)
)


class RootLayout:
    """A root folder with an entry for each version.

    Hidden entries (a file server's ``.snapshot``) are left out.

    Args:
        root: the folder.
        look: tells the version that an entry of the root is.
    """

    def __init__(self, root: Path, look: Look) -> None:
        self._root = str(root)
        self.look = look

    def candidates(self, upper: UpperFolders) -> Sequence[Entry]:
        return [one for one in upper.entries(self._root) if not one.name.startswith(".")]


def tuber(product: Product, script: Path) -> Look:
    """Return the layout of the TUBER rule: one job script, which gets the version to run.

    Each folder that this account can enter is a version. ``executable_path`` is the job script, a
    blank, and the version without its leading ``v``: ``/jobs/mpi_newave.job 28.16.4`` for the
    folder ``v28.16.4``.

    Args:
        product: the program of the root.
        script: the job script, which need not exist on this machine.
    """

    def look(entry: Entry, _folders: Folders) -> Iterator[Installation | str]:
        told = entry.name.removeprefix("v")
        if told and entry.is_folder():
            enter(entry.path)
            yield product.installed(entry.name, entry.path, str(script), (told,))

    return look


def pemaws(product: Product) -> Look:
    """Return the look of the PEMAWS rule: a job script in the folder of each version.

    Each folder is a version. ``executable_path`` is the one file in it whose name holds
    ``mpi_newave`` or ``mpi_decomp``. A folder with none, or with several, is left out.
    """
    mark = f"mpi_{product.name.lower()}"

    def look(entry: Entry, folders: Folders) -> Iterator[Installation | str]:
        if not entry.is_folder():
            return
        enter(entry.path)
        inside = folders.entries(entry.path)
        scripts = [one for one in inside if mark in one.name and one.is_file()]
        if len(scripts) != 1:
            yield (
                f"The folder {entry.path} of {product.name} holds {len(scripts)} files with {mark} "
                "in their names instead of one; it is left out."
            )
        elif why := scripts[0].unfit():
            yield f"The name {shown(scripts[0].path)} of {product.name} {why}; it is left out."
        else:
            yield product.installed(entry.name, entry.path, scripts[0].path)

    return look


def dessem(script: Path) -> Look:
    """Return the look at DESSEM, which both rules lay out alike: an executable for each version.

    Each executable file ``dessem_VERSION`` is a version, unless it is an editor's or a person's
    backup (``dessem_20.1~``, ``dessem_20.1.bak``). Executable is what anybody may execute, be it
    not this account. ``executable_path`` is the job script, a blank and the version; the file
    itself is given as the place where it is installed, as clients know it.

    Args:
        script: the job script, which need not exist on this machine.
    """

    def look(entry: Entry, _folders: Folders) -> Iterator[Installation | str]:
        version = entry.name.removeprefix(_DESSEM_MARK)
        if version in ("", entry.name) or version.endswith(_BACKUPS):
            return
        mode = entry.mode()
        if not stat.S_ISREG(mode):
            return
        if mode & _EXECUTABLE:
            yield DESSEM.installed(version, entry.path, str(script), (version,))
        else:
            yield f"The file {entry.path} of {DESSEM.name} is not executable; it is left out."

    return look


def check_pattern(pattern: str) -> None:
    """Check a pattern for versions: ``/opt/gromacs/{version}/bin/gmx*``.

    Raises:
        ValueError: it is none; the text says why.
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


class PatternLayout:
    """Versions that lie where a pattern says.

    Args:
        name: the program's, for messages.
        pattern: an absolute path in which each part may hold ``*``, ``?`` and ``[…]``, and one
            ``{version}``.
        make: from a version and its path to what is installed there.
    """

    def __init__(self, name: str, pattern: str, make: Callable[[str, str], Installation]) -> None:
        check_pattern(pattern)
        parts = pattern.split("/")[1:]
        at = next(number for number, part in enumerate(parts) if VERSION in part)
        before, after = parts[at].split(VERSION)
        self._name = name
        self._above, self._below = parts[:at], parts[at + 1 :]
        self._is_hidden = parts[at].startswith(".")
        self._version = re.compile(f"{_regex(before)}(.+){_regex(after)}", re.DOTALL)
        self._make = make

    def candidates(self, upper: UpperFolders) -> Sequence[Entry]:
        return [
            entry
            for folder in _expand("/", self._above, upper.entries, os.path.isdir)
            for entry in upper.entries(folder)
            if self._version.fullmatch(entry.name) and entry.name.startswith(".") == self._is_hidden
        ]

    def look(self, entry: Entry, folders: Folders) -> Iterator[Installation | str]:
        problems: list[str] = []

        def is_there(path: str) -> bool:
            try:
                os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                return False
            except OSError as error:
                if not is_certain(error):
                    raise
                problems.append(f"{path} of {self._name} cannot be read: {error.strerror}.")
                return False
            return True

        def entries(folder: str) -> Sequence[Entry]:
            try:
                return folders.entries(folder) if is_there(folder) else ()
            except OSError as error:
                if not is_certain(error):
                    raise
                problems.append(
                    f"The folder {shown(folder)} of {self._name} cannot be read: {error.strerror}."
                )
                return ()

        below = _expand(entry.path, self._below, entries)
        paths = [path for path in below if is_there(path)]
        if len(paths) > 1:
            yield f"{entry.path} of {self._name} fits {len(paths)} times; it is left out."
            return
        yield from problems
        match = self._version.fullmatch(entry.name)
        if match is not None:
            yield from (self._make(match[1], path) for path in paths)


def _expand(
    folder: str,
    parts: Sequence[str],
    entries: Callable[[str], Sequence[Entry]],
    fits: Callable[[str], bool] = lambda _path: True,
) -> list[str]:
    """Return the paths below a folder that parts of a pattern name; they may not exist."""
    paths = [folder]
    for part in parts:
        if _WILD.search(part) is None:
            paths = [os.path.join(path, part) for path in paths]
            continue
        is_named = re.compile(_regex(part), re.DOTALL).fullmatch
        paths = [
            entry.path
            for path in paths
            for entry in entries(path)
            if is_named(entry.name)
            and not entry.unfit()
            and not entry.name.startswith(".")
            and fits(entry.path)
        ]
    return paths


def _regex(part: str) -> str:
    return fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z") if part else ""
