"""The PEMAWS rule: each version's folder holds the job script that runs it."""

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders, enter, shown
from hpcq.programs.layout import Look
from hpcq.programs.products import Product

__all__ = ["pemaws"]


def pemaws(product: Product) -> Look:
    """Return what tells the version that an entry of the product's root is.

    Each folder is a version. ``executable_path`` is the one file in it whose name holds
    ``mpi_newave`` or ``mpi_decomp``. A folder with none, or with several, is left out.
    """
    mark = f"mpi_{product.name.lower()}"

    def look(entry: Entry, folders: Folders) -> Installation | str | None:
        if not entry.is_folder():
            return None
        enter(entry.path)
        inside = folders.entries(entry.path)
        scripts = [one for one in inside if mark in one.name and one.is_file()]
        if len(scripts) != 1:
            return (
                f"The folder {entry.path} of {product.name} holds {len(scripts)} files with {mark} "
                "in their names instead of one; it is left out."
            )
        if why := scripts[0].unfit():
            return f"The name {shown(scripts[0].path)} of {product.name} {why}; it is left out."
        return Installation(
            id_prefix=product.id_prefix,
            name=product.name,
            version=entry.name,
            directory=entry.path,
            script=scripts[0].path,
            parameters=product.parameters,
        )

    return look
