"""What real Slurm commands printed: ``tests/recorded/slurm/VERSION/CASE``."""

import tomllib
from pathlib import Path

from hpcq.execution.protocol import Completed
from hpcq.schedulers.slurm.queries import Marks

ROOT = Path(__file__).parents[3] / "recorded" / "slurm"
MARKS = Marks(free="\x1e0123456789abcdef\x1e", end="\x1d0123456789abcdef\x1d")
DELIMITER = "\x1f0123456789abcdef\x1f"
KEY = "hpcq-00000000000000000000000000000001"


def recorded(case: str, version: str = "22.05") -> Completed:
    folder = ROOT / version / case
    meta = tomllib.loads((folder / "meta.toml").read_text())
    return Completed(
        argv=tuple(meta["argv"]),
        exit_code=meta["exit_status"],
        stdout=(folder / "stdout").read_bytes(),
        stderr=(folder / "stderr").read_bytes(),
    )
