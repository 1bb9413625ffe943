"""A real Slurm with many held jobs, and slurmrestd in front of it."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.backends import BACKENDS

from bench.load import Address

__all__ = ["held_jobs", "settings", "slurmrestd"]


def settings() -> dict[str, str]:
    """Start the cluster of the tests and return what a service needs to speak to it."""
    return BACKENDS["SLURM"].settings()


def command(environment: Mapping[str, str], *argv: str, stdin: str = "") -> str:
    """Run one of Slurm's commands and return what it printed."""
    done = subprocess.run(
        argv,
        input=stdin,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@contextlib.contextmanager
def held_jobs(environment: Mapping[str, str], count: int, directory: Path) -> Iterator[None]:
    """Keep ``count`` held jobs in the queue."""
    name = f"bench-{os.getpid()}"
    script = directory / "true.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    submit = f"sbatch --hold -J {name} -D {directory} -o /dev/null {script}"
    loop = f"for i in $(seq {count}); do {submit} >/dev/null; done"
    print(f"submitting {count} held jobs …", file=sys.stderr)
    try:
        command(environment, "sh", "-c", loop)
        yield
    finally:
        command(environment, "scancel", "--name", name)


@contextlib.contextmanager
def slurmrestd(environment: Mapping[str, str], directory: Path) -> Iterator[Address]:
    """Run slurmrestd on a Unix socket, with local authentication."""
    path = directory / "slurmrestd.sock"
    ordinary = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    directory.chmod(0o777)
    with (directory / "slurmrestd.log").open("wb") as log:
        process = subprocess.Popen(
            ["slurmrestd", "-a", "rest_auth/local", "-s", "openapi/v0.0.38", f"unix:{path}"],
            env={"PATH": os.environ["PATH"], **environment},
            user=ordinary,
            group="nogroup" if ordinary else None,
            extra_groups=[] if ordinary else None,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 10
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((directory / "slurmrestd.log").read_text())
            time.sleep(0.05)
        yield Address(path=path)
    finally:
        process.terminate()
        process.wait()
