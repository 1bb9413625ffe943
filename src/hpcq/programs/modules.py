"""The MODULES rule: each environment module is a program, as ``module avail`` lists them."""

import os
import re
import stat
from collections import deque
from collections.abc import Collection
from pathlib import Path

from hpcq.domain.programs import Installation
from hpcq.programs.scanner import Scan

__all__ = ["ID_PREFIX", "find_modules", "signature_of"]

ID_PREFIX = "MOD"
# ``gcc/12(default:stable)``, as Environment Modules gives a version's symbols, and as both give
# aliases: ``gnu(@)``, ``gnu(@gcc/12)``.
_LINE = re.compile(r"([^()<>\s]*[^()<>\s:])(?:\(([^)]*)\))?(?: ?<[^>]*>)?")
_MOST_PATHS = 100_000

Signature = tuple[tuple[str, int, int], ...]


def find_modules(listed: bytes, defaults: bytes, script: Path) -> Scan:
    """Return the modules, in the order of their names and versions.

    Args:
        listed: what ``modulecmd python -t avail`` of Environment Modules 5 or Lmod 8 prints on
            standard error: for each folder of modules its path and a colon, then a line for each
            module. Lmod adds lines that end in a slash, for names.
        defaults: the same of ``-t -d avail``: of each name the version that is loaded when none
            is named; Environment Modules gives one for each folder, of which the first counts.
        script: the job script, which gets the module's full name.
    """
    problems: list[str] = []
    default_names: dict[str, str] = {}
    for _, full_name in _modules(defaults, []):
        default_names.setdefault(_split(full_name)[0], full_name)
    found: dict[str, Installation] = {}
    for folder, full_name in _modules(listed, problems):
        name, version = _split(full_name)
        # What lies in an earlier folder hides what has the same name in a later one.
        found.setdefault(
            full_name,
            Installation(
                id_prefix=ID_PREFIX,
                name=name,
                version=version,
                directory=f"{folder}/{name}",
                script=str(script),
                words=(full_name,),
                is_default=default_names.get(name) == full_name,
            ),
        )
    ordered = sorted(found.values(), key=lambda one: (one.name, one.version))
    return Scan(installations=tuple(ordered), problems=tuple(problems))


def _split(full_name: str) -> tuple[str, str]:
    name, _, version = full_name.rpartition("/")
    return (name, version) if name else (version, "")


def _modules(printed: bytes, problems: list[str]) -> list[tuple[str, str]]:
    """Return the folder and the full name of each module."""
    modules = []
    folder = ""
    for line in printed.decode("utf-8", "replace").splitlines():
        line = line.strip()
        if line.startswith("/") and line.endswith(":"):
            folder = line[:-1]
        elif line and not line.endswith("/"):
            match = _LINE.fullmatch(line)
            if match is None:
                problems.append(f"The line {line[:200]!r} of module avail is no module.")
            elif not any(symbol.startswith("@") for symbol in (match[2] or "").split(":")):
                modules.append((folder, match[1]))
    return modules


def signature_of(folders: Collection[str]) -> Signature:
    """Return something that differs when a module below these folders comes, goes or changes."""
    seen: list[tuple[str, int, int]] = []
    entered: set[tuple[int, int]] = set()
    waiting = deque(folders)
    while waiting and len(seen) < _MOST_PATHS:
        path = waiting.popleft()
        try:
            status = os.stat(path)
            identity = status.st_dev, status.st_ino
            # A link may lead to a folder above it.
            if stat.S_ISDIR(status.st_mode) and identity not in entered:
                entered.add(identity)
                waiting.extend(os.path.join(path, name) for name in sorted(os.listdir(path)))
        except OSError:
            continue
        seen.append((path, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(seen)
