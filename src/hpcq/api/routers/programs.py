"""``/programs``: what is installed and can be run."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from hpcq.api.context import ContextDependency
from hpcq.api.problems import responses
from hpcq.api.schemas import ProgramOut
from hpcq.domain.parameters import Parameter
from hpcq.domain.programs import Program

__all__ = ["INCOMPLETE", "router"]

router = APIRouter(tags=["programs"])

INCOMPLETE = "X-Incomplete"
# Proxies give up on headers that are much longer.
_LONGEST_HEADER = 1000


class ProgramQuery(BaseModel):
    """Which programs; what is given is matched exactly."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    program_id: str | None = Field(default=None, alias="programId")
    name: str | None = None
    version: str | None = None
    is_default: bool | None = Field(
        default=None,
        alias="isDefault",
        description="true: only the versions that are taken when none is named.",
    )

    def fits(self, program: Program) -> bool:
        """Return whether this program is asked for."""
        found = program.installation
        return (
            self.program_id in (None, program.program_id)
            and self.name in (None, found.name)
            and self.version in (None, found.version)
            and self.is_default in (None, bool(found.is_default))
        )


@router.get(
    "/programs",
    operation_id="listPrograms",
    summary="List programs",
    response_model=list[ProgramOut],
    responses={
        200: {
            "headers": {
                INCOMPLETE: {
                    "description": "Only there when something could not be read, which the list "
                    "therefore lacks: what, and why.",
                    "schema": {"type": "string"},
                }
            }
        },
        **responses(),
    },
)
async def list_programs(
    context: ContextDependency, query: Annotated[ProgramQuery, Query()]
) -> Response:
    """List the installed programs, one entry for each version.

    A folder that cannot be read, or does not answer in time, hides itself alone; the header
    `X-Incomplete` tells of it.
    """
    catalogue = await context.programs.catalogue()
    wanted = [_wire(p, context.cluster_id) for p in catalogue.programs if query.fits(p)]
    headers = {"Cache-Control": "no-cache"}
    if catalogue.problems:
        headers[INCOMPLETE] = _header(catalogue.problems)
    return Response(msgspec.json.encode(wanted), media_type="application/json", headers=headers)


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
        "args": [parameter.name for parameter in found.parameters],
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
