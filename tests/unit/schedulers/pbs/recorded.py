"""The output of real PBS commands: ``tests/recorded/pbs/VERSION/CASE``.

``23.06.06`` are the commands of that release, ``2026.04`` those of a later state of the source,
which calls itself 23.06.06 too; both spoke to the same server.

Most listings were recorded as JSON, of the same attributes. `as_dsv` prints them in the delimiter
format, by the writer of the stand-in, which is proven against recordings of that format.
"""

import json
from collections.abc import Mapping
from typing import Any

from tests.fakebin.pbs import output
from tests.recordings import RECORDED, read_case

from hpcq.execution.protocol import Completed
from hpcq.schedulers.pbs.parse import Answer, Reader

__all__ = ["DELIMITER", "ROOT", "as_dsv", "attributes_in", "cases", "flat", "read", "recorded"]

ROOT = RECORDED / "pbs"
DELIMITER = "\x1f0123456789abcdef\x1f"


def recorded(case: str, version: str = "2026.04") -> Completed:
    return read_case(ROOT / version / case)


def cases(*words: str, version: str = "*") -> list[tuple[str, str]]:
    """The recordings whose command line holds these words: case and version."""
    found = []
    for folder in sorted(ROOT.glob(f"{version}/*")):
        done = recorded(folder.name, folder.parent.name)
        if set(words) <= set(done.argv) and done.stdout:
            found.append((folder.name, folder.parent.name))
    return found


def flat(job: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The attributes of a job in a JSON document, as the server has them."""
    told: list[tuple[str, str]] = []
    for name, value in job.items():
        if name == "Variable_List":
            pairs = (f"{k}={v}".replace(",", "\\,") for k, v in value.items())
            told.append((name, ",".join(pairs)))
        elif isinstance(value, dict):
            told += [(f"{name}.{inner}", str(text)) for inner, text in value.items()]
        else:
            told.append((name, str(value)))
    return told


def as_dsv(document: bytes, delimiter: str = DELIMITER) -> bytes:
    """The jobs of a recorded JSON document in the delimiter format."""
    text = document.decode("utf-8", "surrogateescape")
    jobs = json.loads(text, parse_float=str, parse_int=str, strict=False).get("Jobs", {})
    return "".join(
        output.render_dsv(f"Job Id: {name}", flat(job), delimiter) for name, job in jobs.items()
    ).encode("utf-8", "surrogateescape")


def read(document: bytes, owner: str | None = "alice") -> Answer:
    """The jobs of a recorded JSON document, read in the delimiter format."""
    return Reader(owner).read(as_dsv(document), DELIMITER, None)


def attributes_in(printed: bytes, delimiter: str = DELIMITER) -> dict[str, dict[str, str]]:
    """The attributes of each job in the delimiter format; for values that hold nothing odd."""
    jobs = {}
    for line in printed.decode().splitlines():
        heading, *fields = line.split(delimiter)
        pairs = (field.partition("=") for field in fields)
        jobs[heading.removeprefix("Job Id: ")] = {name: value for name, _, value in pairs}
    return jobs
