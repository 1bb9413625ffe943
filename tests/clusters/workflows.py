"""Snakemake and Jupyter, users' own tools that the examples are run with.

    python tests/clusters/workflows.py up       install them (idempotent), print where

`up` prints one JSON object: ``folder``, which has their commands.

Exit status: 0; 1 for a failure; 2 wrong usage; 3 when they cannot be installed here.
Standard library only, so that it runs before anything is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.clusters.machine import CannotInstall, command_line, log

# A fixed place, which runs of the tests share.
VENV = Path("/var/tmp/hpcq-test-workflows")
LOCK = VENV.with_suffix(".lock")
LOCKED = Path(__file__).with_name("workflows-requirements.txt")


def up() -> dict[str, str]:
    """Install them into an environment of their own, as far as that was not done."""
    installed = VENV / "installed"
    if not installed.exists() or installed.read_bytes() != LOCKED.read_bytes():
        shutil.rmtree(VENV, ignore_errors=True)
        log("installing Snakemake and Jupyter")
        pip = (str(VENV / "bin/pip"), "install")
        for command in (
            [sys.executable, "-m", "venv", str(VENV)],
            [*pip, "--quiet", "--no-compile", "--require-hashes", "-r", str(LOCKED)],
        ):
            if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
                raise CannotInstall("Snakemake and Jupyter cannot be installed")
        shutil.copy(LOCKED, installed)
    return {"folder": str(VENV / "bin")}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    action = up if arguments == ["up"] else None
    sys.exit(command_line(arguments, action, usage=__doc__, lock=LOCK, variables=()))
