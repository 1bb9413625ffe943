"""What real PBS commands printed: ``tests/recorded/pbs/VERSION/CASE``.

``23.06.06`` are the commands of that release, ``2026.04`` those of a later state of the source,
which calls itself 23.06.06 too; both spoke to the same server.
"""

from tests.recordings import RECORDED, read_case

from hpcq.execution.protocol import Completed

__all__ = ["ROOT", "cases", "recorded"]

ROOT = RECORDED / "pbs"


def recorded(case: str, version: str = "2026.04") -> Completed:
    return read_case(ROOT / version / case)


def cases(*words: str) -> list[tuple[str, str]]:
    """The recordings whose command line holds these words: case and version."""
    found = []
    for folder in sorted(ROOT.glob("*/*")):
        done = recorded(folder.name, folder.parent.name)
        if set(words) <= set(done.argv) and done.stdout:
            found.append((folder.name, folder.parent.name))
    return found
