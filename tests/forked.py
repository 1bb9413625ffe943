"""Service processes forked from one that has loaded the code already.

Loading it takes 1.5 s of processor time, and a run of all tests starts hundreds of services. A
forked one runs what ``main.py`` runs, in a session and with an environment of its own.
"""

import functools
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from hpcq.cli.serve import serve

__all__ = ["fork_service"]

# Loaded by the process to fork from. Some of it a service loads while it starts.
_LOADED = (
    __name__,
    "hpcq.cli.server",
    *(f"hpcq.schedulers.{name}.backend" for name in ("local", "pbs", "sge", "slurm", "torque")),
    "alembic.command",
    "alembic.ddl.sqlite",
    "pygments.formatters.html",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)


def fork_service(
    python: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
) -> ForkServerProcess:
    """Start the service of an installation folder and return its process.

    Args:
        python: the command that starts Python for the process to fork from.
        environment: all variables of the service.
        log: a file that the service's output is appended to.
    """
    process = _context(tuple(python)).Process(
        target=_run, args=(folder, dict(environment), log), daemon=True
    )
    process.start()
    return process


@functools.cache
def _context(python: tuple[str, ...]) -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    command = Path(tempfile.mkdtemp(prefix="forked")) / "python"
    command.write_text(f'#!/bin/sh\nexec {" ".join(python)} "$@"\n')
    command.chmod(0o755)
    context.set_executable(str(command))
    return context


def _run(folder: Path, environment: dict[str, str], log: Path) -> None:
    os.setsid()
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    if any(name.startswith("PYTHON") for name in environment):
        # Python reads these when it begins.
        os.execve(sys.executable, [sys.executable, "main.py"], environment)  # noqa: S606
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(serve(folder))
