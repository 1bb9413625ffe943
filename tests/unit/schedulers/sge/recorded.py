"""The output of real Grid Engine commands: ``tests/recorded/sge/VERSION/CASE``."""

from tests.recordings import RECORDED, read_case

from hpcq.execution.protocol import Completed

ROOT = RECORDED / "sge"


def recorded(case: str, version: str = "8.1.9") -> Completed:
    return read_case(ROOT / version / case)
