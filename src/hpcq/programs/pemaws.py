"""The PEMAWS rule: each version's folder holds the job script that runs it."""

import os
from pathlib import Path

from hpcq.programs.layout import Product, Reading, entries, read_versions

__all__ = ["read_pemaws"]


def read_pemaws(product: Product) -> Reading:
    """Return the versions of a product whose folder says how to run them.

    ``executable_path`` is the one file of the folder whose name holds ``mpi_newave`` or
    ``mpi_decomp``. A folder with none, or with several, is left out.

    Args:
        product: its root holds a folder for each version.
    """
    mark = f"mpi_{product.name.lower()}"

    def executable(folder: Path, problems: list[str]) -> str | None:
        known = len(problems)
        listed = entries(folder, product.name, problems)
        found = [entry.path for entry in listed if mark in entry.name and os.path.isfile(entry)]
        if len(found) == 1:
            return found[0]
        if len(problems) == known:
            problems.append(
                f"The folder {folder} of {product.name} holds {len(found)} files with {mark} in "
                "their names instead of one; it is left out."
            )
        return None

    return read_versions(product, executable)
