"""The real things that the scripts in ``tests/clusters`` install and start, as tests get them."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["SHARED", "Instance", "call", "settings_of"]

_CLUSTERS = Path(__file__).parent / "clusters"
_CANNOT_BE_INSTALLED = 3


# What selects one of several instances for a script, as environment variables and their values.
Instance = tuple[tuple[str, str], ...]
SHARED: Instance = ()


def settings_of(cluster: str, instance: Instance = SHARED) -> dict[str, str]:
    """The variables that make a service use it; starts it when it is not running."""
    settings: dict[str, str] = json.loads(_printed(cluster, _started(cluster, instance)))
    return settings


def call(cluster: str, *arguments: str, instance: Instance = SHARED) -> str:
    """Return the output of the script; leave the test out, or fail, if it cannot do its work.

    Args:
        cluster: the script's name: ``slurm``.
        arguments: its verb and what the verb needs.
        instance: which of several; the one that all tests share unless given.
    """
    return _printed(cluster, _run(cluster, instance, *arguments))


@functools.cache
def _started(cluster: str, instance: Instance) -> subprocess.CompletedProcess[str]:
    return _run(cluster, instance, "up")


def _run(cluster: str, instance: Instance, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(_CLUSTERS / f"{cluster}.py"), *arguments],
        env={**os.environ, **dict(instance)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def _printed(cluster: str, done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == _CANNOT_BE_INSTALLED and not os.environ.get("HPCQ_REQUIRE_REAL"):
        reason = done.stderr.strip().rpartition("\n")[2] or "it cannot be installed"
        pytest.skip(f"no real {cluster} here: {reason}")
    if done.returncode != 0:
        pytest.fail(f"{cluster} failed ({done.returncode}):\n{done.stderr}", pytrace=False)
    return done.stdout
