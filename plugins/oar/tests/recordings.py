"""Recordings of a real OAR: ``recorded/VERSION/CASE``."""

import tomllib
from pathlib import Path

from hpcq.execution.protocol import Completed

__all__ = ["recorded"]


def recorded(case: str) -> Completed:
    folder = Path(__file__).parent / "recorded" / "2.5.9" / case
    meta = tomllib.loads((folder / "meta.toml").read_text())
    return Completed(
        argv=tuple(meta["argv"]),
        exit_code=meta["exit_status"],
        stdout=(folder / "stdout").read_bytes(),
        stderr=(folder / "stderr").read_bytes(),
    )
