"""DESSEM, which both rules lay out alike: one executable file for each version."""

import stat
from pathlib import Path

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders
from hpcq.programs.layout import Look
from hpcq.programs.products import DESSEM

__all__ = ["dessem"]

_MARK = "dessem_"
_BACKUPS = ("~", ".bak", ".old", ".orig")
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def dessem(script: Path) -> Look:
    """Return what tells the version that an entry of DESSEM's root is.

    Each executable file ``dessem_VERSION`` is a version, unless it is an editor's or a person's
    backup (``dessem_20.1~``, ``dessem_20.1.bak``). Executable is what anybody may execute, be it
    not this account. ``executable_path`` is the job script, a blank and the version; the file
    itself is given as the place where it is installed, as clients know it.

    Args:
        script: the job script, which need not exist on this machine.
    """

    def look(entry: Entry, _folders: Folders) -> Installation | str | None:
        version = entry.name.removeprefix(_MARK)
        if version in ("", entry.name) or version.endswith(_BACKUPS):
            return None
        mode = entry.mode()
        if not stat.S_ISREG(mode):
            return None
        if not mode & _EXECUTABLE:
            return f"The file {entry.path} of {DESSEM.name} is not executable; it is left out."
        return Installation(
            id_prefix=DESSEM.id_prefix,
            name=DESSEM.name,
            version=version,
            directory=entry.path,
            script=str(script),
            words=(version,),
            parameters=DESSEM.parameters,
        )

    return look
