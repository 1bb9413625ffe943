"""What the rules share: a root folder for each program, in it one folder for each version."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hpcq.domain.programs import Program

__all__ = ["Product", "Reading", "decomp", "entries", "newave", "read_versions"]

# A root that was set to a wrong place, a file server's whole tree, must not keep the answer.
_MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A program and where its versions lie.

    Attributes:
        name: ``NEWAVE``.
        id_prefix: what its ids begin with: ``NW``.
        root: the folder that holds a folder for each version.
    """

    name: str
    id_prefix: str
    root: Path


def newave(root: Path) -> Product:
    """Return NEWAVE, whose versions lie below ``root``."""
    return Product(name="NEWAVE", id_prefix="NW", root=root)


def decomp(root: Path) -> Product:
    """Return DECOMP, whose versions lie below ``root``."""
    return Product(name="DECOMP", id_prefix="DC", root=root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was found: the programs and, beside them, what could not be read.

    Attributes:
        programs: in the order of the version names.
        problems: a sentence for each folder that was left out.
    """

    programs: tuple[Program, ...]
    problems: tuple[str, ...]


def read_versions(product: Product, executable: Callable[[Path, list[str]], str | None]) -> Reading:
    """Return a program for each version folder for which there is an executable.

    Args:
        product: whose versions are wanted.
        executable: given a version's folder and a list to which it adds problems, returns
            ``executable_path``, or None for a folder to leave out.
    """
    problems: list[str] = []
    found = [
        (folder, path)
        for folder in _version_folders(product, problems)
        if (path := executable(folder, problems)) is not None
    ]
    programs = [
        _program(product, number, folder, path) for number, (folder, path) in enumerate(found)
    ]
    return Reading(programs=tuple(programs), problems=tuple(problems))


def _version_folders(product: Product, problems: list[str]) -> list[Path]:
    """Return the folders of a product's versions in the order of their names.

    Files, hidden folders (a file server's ``.snapshot``) and names that are not UTF-8 are left
    out. What cannot be read is added to ``problems``.
    """
    folders = [
        Path(entry.path)
        for entry in entries(product.root, product.name, problems)
        if not entry.name.startswith(".") and _is_folder(entry)
    ]
    return sorted(folders, key=lambda folder: folder.name)


def entries(folder: Path, owner: str, problems: list[str]) -> list[os.DirEntry[str]]:
    """Return what a folder holds, in no order; nothing, and a problem, when it cannot be read."""
    try:
        with os.scandir(folder) as scan:
            found = list(islice(scan, _MOST_ENTRIES + 1))
    except OSError as error:
        problems.append(f"The folder {_shown(folder)} of {owner} cannot be read: {error.strerror}.")
        return []
    if len(found) > _MOST_ENTRIES:
        problems.append(
            f"The folder {_shown(folder)} of {owner} holds more than {_MOST_ENTRIES} entries; "
            "it is left out."
        )
        return []
    return [entry for entry in found if _is_text(entry, owner, problems)]


def _is_text(entry: os.DirEntry[str], owner: str, problems: list[str]) -> bool:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        problems.append(f"The name {_shown(entry.path)} of {owner} is not UTF-8; it is left out.")
        return False
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def _shown(path: os.PathLike[str] | str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _program(product: Product, number: int, folder: Path, executable_path: str) -> Program:
    return Program(
        program_id=f"{product.id_prefix}{number}",
        name=product.name,
        version=folder.name,
        installation_directory=str(folder),
        is_managed=True,
        executable_path=executable_path,
        args=("N_PROC",),
    )
