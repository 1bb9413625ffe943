"""The TUBER rule: one job script for each program, which is told the version to run."""

from collections.abc import Callable
from pathlib import Path

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders
from hpcq.programs.layout import Found
from hpcq.programs.products import Product

__all__ = ["tuber"]


def tuber(product: Product, script: Path) -> Callable[[Entry, Folders], Found]:
    """Return what tells the version that an entry of the product's root is.

    Each folder is a version. ``executable_path`` is the job script, a blank, and the version
    without its leading ``v``: ``/jobs/mpi_newave.job 28.16.4`` for the folder ``v28.16.4``.

    Args:
        product: whose root it is.
        script: the job script, which need not exist on this machine.
    """

    def look(entry: Entry, _folders: Folders) -> Found:
        told = entry.name.removeprefix("v")
        if not told or not entry.is_folder():
            return None
        return Installation(
            id_prefix=product.id_prefix,
            name=product.name,
            version=entry.name,
            directory=entry.path,
            script=str(script),
            words=(told,),
            parameters=product.parameters,
        )

    return look
