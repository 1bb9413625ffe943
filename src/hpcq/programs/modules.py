"""The MODULES rule: each environment module is a program, as ``module avail`` lists them."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from hpcq.domain.programs import Installation
from hpcq.programs.reading import Reading

__all__ = ["ID_PREFIX", "find_modules", "signature_of"]

ID_PREFIX = "MOD"
# ``gromacs/2024.1(default)``, as Environment Modules marks symbols; Lmod marks none.
_LINE = re.compile(r"([^()<>\s:]+)(?:\(([^)]*)\))?(?: ?<[^>]*>)?")

Signature = tuple[tuple[str, int, int], ...]


def find_modules(listed: bytes, defaults: bytes, script: Path) -> Reading:
    """Return the modules, in the order of their names and versions.

    Args:
        listed: what ``modulecmd python -t avail`` of Environment Modules 5 or Lmod 8 prints on
            standard error: for each folder of modules its path and a colon, then a line for each
            module. Lmod adds lines that end in a slash, for names.
        defaults: the same of ``-t -d avail``: of each name the version that is loaded when none
            is named.
        script: the job script, which is told the module's full name.
    """
    problems: list[str] = []
    default_names = {name for _, name in _modules(defaults, [])}
    found: dict[str, Installation] = {}
    for folder, full_name in _modules(listed, problems):
        name, _, version = full_name.rpartition("/")
        # What lies in an earlier folder hides what has the same name in a later one.
        found.setdefault(
            full_name,
            Installation(
                id_prefix=ID_PREFIX,
                name=name or version,
                version=version if name else "",
                directory=f"{folder}/{name or version}",
                script=str(script),
                words=(full_name,),
                is_default=full_name in default_names,
            ),
        )
    ordered = sorted(found.values(), key=lambda one: (one.name, one.version))
    return Reading(installations=tuple(ordered), problems=tuple(problems))


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
            elif "@" not in (match[2] or "").split(":"):
                modules.append((folder, match[1]))
    return modules


def signature_of(folders: Collection[str]) -> Signature:
    """Return something that differs when a module below these folders comes, goes or changes."""
    seen = []
    for root in folders:
        for folder, _, files in os.walk(root):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                try:
                    status = os.stat(path)
                except OSError:
                    continue
                seen.append((path, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(seen)
