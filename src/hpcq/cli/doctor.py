"""The doctor: whether this installation will work, and what to do where it will not."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from hpcq.cli.commands import EXIT_REFUSED, Json, command
from hpcq.cli.screen import print_json, print_row
from hpcq.cli.texts import translated as _

if TYPE_CHECKING:
    from hpcq.cli.findings import Finding

__all__ = ["add_to"]

_VERDICTS = {
    "good": Text(_("good"), "green"),
    "warning": Text(_("warning"), "yellow"),
    "problem": Text(_("problem"), "red"),
    "unchecked": Text(_("unchecked"), "dim"),
}


def add_to(app: typer.Typer) -> None:
    """Add the command to an application."""
    command(app)(doctor)


def doctor(
    with_job: Annotated[
        bool, typer.Option("--job", help=_("Run a job through the service, too."))
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell whether the installation in this folder will work, and what to do where not."""
    # Imported here because the other subcommands do without the service.
    from hpcq.cli.examination import examine, run_job
    from hpcq.cli.findings import Verdict

    async def look() -> list["Finding"]:
        findings = []
        async for finding in examine(Path.cwd()):
            findings.append(finding)
            if not as_json:
                _show(finding)
        return findings

    found = asyncio.run(look())
    if with_job:
        found.append(run_job())
        if not as_json:
            _show(found[-1])
    if as_json:
        print_json(found)
    if any(one.verdict is Verdict.PROBLEM for one in found):
        raise typer.Exit(EXIT_REFUSED)


def _show(finding: "Finding") -> None:
    text = finding.text if finding.remedy is None else f"{finding.text} {finding.remedy}"
    print_row((_VERDICTS[finding.verdict], finding.part, text))
