"""What real Torque commands printed: ``tests/recorded/torque/VERSION/CASE``."""

import tomllib
from pathlib import Path

from hpcq.execution.protocol import Completed

ROOT = Path(__file__).parents[3] / "recorded" / "torque"


def recorded(case: str, version: str = "6.1.3") -> Completed:
    folder = ROOT / version / case
    meta = tomllib.loads((folder / "meta.toml").read_text())
    return Completed(
        argv=tuple(meta["argv"]),
        exit_code=meta["exit_status"],
        stdout=(folder / "stdout").read_bytes(),
        stderr=(folder / "stderr").read_bytes(),
    )


def cases(*prefixes: str) -> list[str]:
    """The names of the cases that begin so."""
    return sorted(
        path.name for path in (ROOT / "6.1.3").iterdir() if path.name.startswith(prefixes)
    )
