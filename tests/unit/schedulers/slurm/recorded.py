"""The output of real Slurm commands: ``tests/recorded/slurm/VERSION/CASE``."""

from tests.recordings import RECORDED, read_case

from hpcq.execution.protocol import Completed
from hpcq.schedulers.slurm.commands import Marks

ROOT = RECORDED / "slurm"
MARKS = Marks(free="\x1e0123456789abcdef\x1e", end="\x1d0123456789abcdef\x1d")
DELIMITER = "\x1f0123456789abcdef\x1f"
KEY = "hpcq-00000000000000000000000000000001"


def recorded(case: str, version: str = "22.05") -> Completed:
    return read_case(ROOT / version / case)
