"""Service processes forked from one that has loaded the code already.

Loading it takes 1.5 s of processor time, and a run of all tests starts hundreds of services. A
forked one runs what ``main.py`` runs, in a session and with an environment of its own.
"""

import functools
import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

__all__ = ["fork_service"]

# Loaded by the process to fork from. Some of it a service loads while it starts.
_LOADED = (
    __name__,
    "hpcq.cli.serve",
    "hpcq.cli.server",
    *(f"hpcq.schedulers.{name}.backend" for name in ("local", "pbs", "sge", "slurm", "torque")),
    "alembic.command",
    "alembic.ddl.sqlite",
    "pygments.formatters.html",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)

_START = "import pathlib, sys, hpcq.cli.serve as s; sys.exit(s.serve(pathlib.Path.cwd()))"


def fork_service(
    folder: Path, environment: Mapping[str, str], log: Path, *, anew: bool
) -> ForkServerProcess:
    """Start the service of an installation folder and return its process.

    Args:
        folder: its working directory, with its ``.env``.
        environment: all variables of the service.
        log: a file that the service's output is appended to.
        anew: whether it runs ``main.py`` in a Python of its own after all, for variables that
            Python and the C library read once, at their start.
    """
    process = _context().Process(
        target=_run, args=(folder, dict(environment), log, anew), daemon=True
    )
    process.start()
    return process


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    command = Path(_folder().name) / "python"
    python = shlex.join([*_without_root_override(), sys.executable])
    command.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    command.chmod(0o755)
    context.set_executable(str(command))
    return context


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hpcq-test-python-", ignore_cleanup_errors=True)


def _without_root_override() -> list[str]:
    """Return a command that makes root respect permission bits, as ordinary accounts do."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    given_up = "-dac_override,-dac_read_search"
    return ["setpriv", f"--inh-caps={given_up}", f"--bounding-set={given_up}"]


def _run(folder: Path, environment: dict[str, str], log: Path, anew: bool) -> None:
    os.setsid()
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    if anew:
        started = ["main.py"] if (folder / "main.py").exists() else ["-c", _START]
        os.execve(sys.executable, [sys.executable, *started], environment)  # noqa: S606
    os.environ.clear()
    os.environ.update(environment)
    # By its name: the layers below the command line know nothing of it.
    sys.exit(import_module("hpcq.cli.serve").serve(folder))
