"""The PEMAWS rule: each version's folder holds the job script that runs it."""

from collections.abc import Callable

from hpcq.domain.programs import Installation
from hpcq.programs.folders import Entry, Folders, shown
from hpcq.programs.layout import Found, because
from hpcq.programs.products import Product

__all__ = ["pemaws"]


def pemaws(product: Product) -> Callable[[Entry, Folders], Found]:
    """Return what tells the version that an entry of the product's root is.

    Each folder is a version. ``executable_path`` is the one file in it whose name holds
    ``mpi_newave`` or ``mpi_decomp``. A folder with none, or with several, is left out.
    """
    mark = f"mpi_{product.name.lower()}"

    def look(entry: Entry, folders: Folders) -> Found:
        if not entry.is_folder():
            return None
        try:
            inside = folders.entries(entry.path)
        except OSError as error:
            return f"The folder {entry.path} of {product.name} {because(error)}."
        scripts = [one for one in inside if mark in one.name and one.is_file()]
        if len(scripts) != 1:
            return (
                f"The folder {entry.path} of {product.name} holds {len(scripts)} files with {mark} "
                "in their names instead of one; it is left out."
            )
        if not scripts[0].is_text():
            return f"The name {shown(scripts[0].path)} of {product.name} is not UTF-8."
        return Installation(
            id_prefix=product.id_prefix,
            name=product.name,
            version=entry.name,
            directory=entry.path,
            script=scripts[0].path,
            parameters=product.parameters,
        )

    return look
