"""The answer of ``GET /programs``, made once for all who ask while nothing changes."""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from hpcq.domain.programs import Parameter, Program
from hpcq.services.listing.job_listing import Pieces, pack
from hpcq.services.programs.service import Catalogue

__all__ = ["ProgramListing", "ProgramsJson", "as_array"]

# Proxies give up on headers that are much longer.
_LONGEST_HEADER = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramsJson:
    """A catalogue, as it is answered.

    Attributes:
        objects: the JSON of each program.
        whole: the JSON array of all of them.
        packed: the same, compressed with gzip.
        incomplete: what is missing, in one line of ASCII; None when nothing is.
        version: another one whenever anything has changed; the same on every replica.
    """

    objects: Sequence[bytes]
    whole: Pieces
    packed: Pieces
    incomplete: str | None
    version: str


class ProgramListing:
    """Makes the listing of a catalogue, and keeps the newest.

    Args:
        cluster_id: this deployment's name.
    """

    def __init__(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id
        self._making = asyncio.Lock()
        self._made: tuple[Catalogue, ProgramsJson] | None = None

    async def of(self, catalogue: Catalogue) -> ProgramsJson:
        """Return the listing of a catalogue; all that is slow is done off the event loop."""
        async with self._making:
            if self._made is None or not _is_same(self._made[0], catalogue):
                self._made = catalogue, await asyncio.to_thread(self._make, catalogue)
            return self._made[1]

    def _make(self, catalogue: Catalogue) -> ProgramsJson:
        objects = [msgspec.json.encode(_wire(one, self._cluster_id)) for one in catalogue.programs]
        incomplete = _header(catalogue.problems) if catalogue.problems else None
        whole = as_array(objects)
        digest = hashlib.blake2b(whole[0], digest_size=12)
        digest.update((incomplete or "").encode())
        return ProgramsJson(
            objects=objects,
            whole=whole,
            packed=pack(whole),
            incomplete=incomplete,
            version=digest.hexdigest(),
        )


def _is_same(one: Catalogue, other: Catalogue) -> bool:
    return one.programs is other.programs and one.problems == other.problems


def as_array(objects: Iterable[bytes]) -> Pieces:
    """Return the JSON array of JSON objects, in one piece."""
    return (b"[" + b",".join(objects) + b"]",)


def _wire(program: Program, cluster_id: str) -> dict[str, object]:
    """Return a program as `ProgramOut` describes it."""
    found = program.installation
    return {
        "programId": program.program_id,
        "name": found.name,
        "clusterId": cluster_id,
        "version": found.version,
        "installationDirectory": found.directory,
        "isManaged": found.is_managed,
        "executablePath": found.executable_path,
        "args": [one.name for one in found.parameters if not one.is_optional],
        "isDefault": found.is_default,
        "parameters": [_wire_parameter(parameter) for parameter in found.parameters],
    }


def _wire_parameter(parameter: Parameter) -> dict[str, object]:
    return {
        "name": parameter.name,
        "type": parameter.type,
        "default": "reservedSlots" if parameter.is_slots else parameter.default,
        "minimum": parameter.minimum,
        "maximum": parameter.maximum,
        "choices": list(parameter.choices) or None,
        "description": parameter.description,
        "optional": parameter.is_optional,
    }


def _header(problems: Sequence[str]) -> str:
    """Return the problems in one line of ASCII."""
    line = ""
    for number, problem in enumerate(problems):
        plain = problem.encode("ascii", "backslashreplace").decode()
        plain = "".join(c if c.isprintable() else " " for c in plain)
        longer = f"{line} {plain}" if line else plain[:_LONGEST_HEADER]
        if len(longer) > _LONGEST_HEADER:
            return f"{line} And {len(problems) - number} more, in the service's log."
        line = longer
    return line
