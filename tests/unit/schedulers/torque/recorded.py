"""The output of real Torque commands: ``tests/recorded/torque/VERSION/CASE``."""

from datetime import UTC, datetime

from tests.recordings import RECORDED, read_case

from hpcq.execution.protocol import Completed
from hpcq.schedulers.base import Listing
from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.torque.parse import wholes
from hpcq.schedulers.torque.qstat_job import observe

ROOT = RECORDED / "torque"


def recorded(case: str, version: str = "6.1.3") -> Completed:
    return read_case(ROOT / version / case)


def cases(*prefixes: str) -> list[str]:
    """The names of the cases that begin so."""
    return sorted(
        path.name for path in (ROOT / "6.1.3").iterdir() if path.name.startswith(prefixes)
    )


def read_text(output: bytes, now: datetime | None = None) -> Listing:
    """The jobs in the text of ``qstat -f``, of which there are more recordings than of its XML."""
    at = now or datetime.now(UTC)
    records = parse_text_records(output)
    seen = [observe({**r.attributes, "Job_Id": r.name}, None, at) for r in records]
    told = {one.native_id for one in seen}
    arrays = [array for array in wholes(seen) if array.native_id not in told]
    return Listing(observations=[*seen, *arrays], unreadable=[])
