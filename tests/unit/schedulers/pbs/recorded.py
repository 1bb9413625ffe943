"""What real PBS commands printed: ``tests/recorded/pbs/VERSION/CASE``.

``23.06.06`` are the commands of that release, ``2026.04`` those of a later state of the source,
which calls itself 23.06.06 too; both spoke to the same server.
"""

import tomllib
from pathlib import Path

from hpcq.execution.protocol import Completed

__all__ = ["ROOT", "cases", "recorded"]

ROOT = Path(__file__).parents[3] / "recorded" / "pbs"


def recorded(case: str, version: str = "2026.04") -> Completed:
    folder = ROOT / version / case
    meta = tomllib.loads((folder / "meta.toml").read_text())
    return Completed(
        argv=tuple(meta["argv"]),
        exit_code=meta["exit_status"],
        stdout=(folder / "stdout").read_bytes(),
        stderr=(folder / "stderr").read_bytes(),
    )


def cases(*words: str) -> list[tuple[str, str]]:
    """The recordings whose command line holds these words: case and version."""
    found = []
    for folder in sorted(ROOT.glob("*/*")):
        done = recorded(folder.name, folder.parent.name)
        if set(words) <= set(done.argv) and done.stdout:
            found.append((folder.name, folder.parent.name))
    return found
