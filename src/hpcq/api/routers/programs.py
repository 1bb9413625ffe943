"""``/programs``: what is installed and can be run."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from hpcq.api.context import ContextDependency
from hpcq.api.problems import responses
from hpcq.api.schemas import ProgramOut

__all__ = ["router"]

router = APIRouter(tags=["programs"])


class ProgramQuery(BaseModel):
    """Which programs; both are matched exactly."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    version: str | None = None


@router.get(
    "/programs",
    operation_id="listPrograms",
    summary="List programs",
    response_model=list[ProgramOut],
    responses=responses(),
)
async def list_programs(
    context: ContextDependency, query: Annotated[ProgramQuery, Query()]
) -> list[ProgramOut]:
    """List the installed programs, one entry for each version."""
    programs = await context.programs.list(query.name, query.version)
    return [ProgramOut.of(program, context.cluster_id) for program in programs]
