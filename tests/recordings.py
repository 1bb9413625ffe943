"""The output of real schedulers: ``tests/recorded/SCHEDULER/VERSION/CASE``."""

import tomllib
from pathlib import Path

from hpcq.execution.protocol import Completed

__all__ = ["RECORDED", "read_case"]

RECORDED = Path(__file__).parent / "recorded"


def read_case(folder: Path) -> Completed:
    """Return the command of one case as it ended then."""
    meta = tomllib.loads((folder / "meta.toml").read_text())
    return Completed(
        argv=tuple(meta["argv"]),
        exit_code=meta["exit_status"],
        stdout=(folder / "stdout").read_bytes(),
        stderr=(folder / "stderr").read_bytes(),
    )
