"""DESSEM, which both rules lay out alike: one executable file for each version."""

from collections.abc import Callable
from pathlib import Path

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders
from hpcq.programs.layout import Found
from hpcq.programs.products import DESSEM

__all__ = ["dessem"]

_MARK = "dessem_"


def dessem(script: Path) -> Callable[[Entry, Folders], Found]:
    """Return what tells the version that an entry of DESSEM's root is.

    Each file ``dessem_VERSION`` is a version. ``executable_path`` is the job script, a blank and
    the version; the file itself is given as the place where it is installed, as clients know it.
    Whether this account may execute the file says nothing about the accounts that run jobs.

    Args:
        script: the job script, which need not exist on this machine.
    """

    def look(entry: Entry, _folders: Folders) -> Found:
        version = entry.name.removeprefix(_MARK)
        if version in ("", entry.name) or not entry.is_file():
            return None
        return Installation(
            id_prefix=DESSEM.id_prefix,
            name=DESSEM.name,
            version=version,
            directory=entry.path,
            script=str(script),
            words=(version,),
        )

    return look
