"""The TUBER rule: one job script for each program, which is told the version to run."""

from pathlib import Path

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders, enter
from hpcq.programs.layout import Look
from hpcq.programs.products import Product

__all__ = ["tuber"]


def tuber(product: Product, script: Path) -> Look:
    """Return what tells the version that an entry of the product's root is.

    Each folder that this account can enter is a version. ``executable_path`` is the job script, a
    blank, and the version without its leading ``v``: ``/jobs/mpi_newave.job 28.16.4`` for the
    folder ``v28.16.4``.

    Args:
        product: whose root it is.
        script: the job script, which need not exist on this machine.
    """

    def look(entry: Entry, _folders: Folders) -> Installation | str | None:
        told = entry.name.removeprefix("v")
        if not told or not entry.is_folder():
            return None
        enter(entry.path)
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
