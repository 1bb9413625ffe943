"""What real Grid Engine commands printed: ``tests/recorded/sge/VERSION/CASE``."""

import tomllib
from pathlib import Path

from hpcq.execution.protocol import Completed

ROOT = Path(__file__).parents[3] / "recorded" / "sge"


def recorded(case: str, version: str = "8.1.9") -> Completed:
    folder = ROOT / version / case
    meta = tomllib.loads((folder / "meta.toml").read_text())
    return Completed(
        argv=tuple(meta["argv"]),
        exit_code=meta["exit_status"],
        stdout=(folder / "stdout").read_bytes(),
        stderr=(folder / "stderr").read_bytes(),
    )
