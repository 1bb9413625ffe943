"""The TUBER rule: one job script for each program, which is told the version to run."""

from pathlib import Path

from hpcq.programs.layout import Product, Reading, read_versions

__all__ = ["read_tuber"]


def read_tuber(product: Product, script: Path) -> Reading:
    """Return the versions of a product.

    ``executable_path`` is the job script, a blank, and the version without its leading ``v``:
    ``/jobs/mpi_newave.job 28.16.4`` for the folder ``v28.16.4``.

    Args:
        product: its root holds a folder for each version.
        script: the job script, which need not exist on this machine.
    """

    def executable(folder: Path, _problems: list[str]) -> str | None:
        version = folder.name.removeprefix("v")
        return f"{script} {version}" if version else None

    return read_versions(product, executable)
