"""What real Torque commands printed: ``tests/recorded/torque/VERSION/CASE``."""

from tests.recordings import RECORDED, read_case

from hpcq.execution.protocol import Completed

ROOT = RECORDED / "torque"


def recorded(case: str, version: str = "6.1.3") -> Completed:
    return read_case(ROOT / version / case)


def cases(*prefixes: str) -> list[str]:
    """The names of the cases that begin so."""
    return sorted(
        path.name for path in (ROOT / "6.1.3").iterdir() if path.name.startswith(prefixes)
    )
