"""The schedulers that the conformance suite runs against. A new one is one line in the table."""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import pytest
from tests import real
from tests.fakebin.pbs import Pbs
from tests.fakebin.torque import Torque

__all__ = ["AS_ORIGINAL", "BACKENDS", "VARIANTS", "Backend", "those_with"]


ALL_CONDITIONS = frozenset({"success", "failure", "any", "started"})


class StandIn(Protocol):
    """A stateful imitation of a scheduler's commands."""

    def settings(self) -> dict[str, str]:
        """The variables that make a service use it, ``SCHEDULER`` included."""
        ...


@dataclass(frozen=True)
class Backend:
    """One scheduler, and what the contract leaves to it.

    Attributes:
        name: the ``SCHEDULER`` setting.
        cluster: the script in ``tests/clusters`` that starts a real one; None for none needed.
        stand_in: makes one in a folder, where no real one can be installed.
        instance: what selects a cluster of one's own there, as environment variables.
        marks: pytest's markers.
        wall_time_grain_seconds: limits are rounded up to multiples of this, and enforced about
            as late.
        out_of_memory: the ``failureKind`` that a job above its memory limit may have. Grid
            Engine's limit makes allocations fail, and the program decides how it ends.
        accounts: whether a job can carry an account.
        keeps_accounts: whether it then is that account, and not the user's own instead of one
            that the accounting does not know.
        first_kill_is_term: whether a cancelled job is first asked to end.
        kills_orphans: whether a cancel reaches processes that ignore TERM or left the job's
            session, whatever the site's configuration.
        conditions: on which a job can depend on another one.
        arrays: whether it can run arrays.
        administrator: the command by which one ends a job; None where there is none.
        tells_removals: whether a running job that an administrator ended is told from one that
            was killed.
        directive: the mark of its directives in scripts; a comment where it has none.
        obeys_directives: whether it has any.
        is_original: whether the service before it answers clients of the original implementation.
    """

    name: str
    cluster: str | None = None
    stand_in: Callable[[Path], StandIn] | None = None
    instance: real.Instance = real.SHARED
    marks: tuple[pytest.MarkDecorator, ...] = ()
    wall_time_grain_seconds: int = 1
    out_of_memory: frozenset[str] = field(default_factory=lambda: frozenset({"OUT_OF_MEMORY"}))
    accounts: bool = True
    keeps_accounts: bool = True
    first_kill_is_term: bool = False
    kills_orphans: bool = False
    conditions: frozenset[str] = ALL_CONDITIONS
    arrays: bool = False
    directive: str = "#PBS"
    obeys_directives: bool = True
    is_original: bool = False
    administrator: str | None = None
    tells_removals: bool = True

    def settings(self) -> dict[str, str]:
        """The variables that make a service speak to it; starts the cluster when needed."""
        compatibility = {"COMPATIBILITY": "original"} if self.is_original else {}
        return {**self._scheduler_settings(), **compatibility}

    def _scheduler_settings(self) -> dict[str, str]:
        if self.stand_in is not None:
            return _shared(self.name).settings()
        found = {} if self.cluster is None else real.settings_of(self.cluster, self.instance)
        return {"SCHEDULER": self.name, **found}

    def remove(self, job_id: str) -> None:
        """End a job as an administrator does, past the service."""
        assert self.administrator is not None
        settings = self.settings()
        path = settings.get("SCHEDULER_PATH") or settings.get("PATH") or os.environ["PATH"]
        environment = {**os.environ, **settings, "PATH": path}
        command = shutil.which(self.administrator, path=path)
        assert command is not None, f"{self.administrator} is not in {path}"
        subprocess.run([command, job_id], env=environment, check=True, capture_output=True)

    def do(self, *words: str) -> None:
        """Do something to the cluster, which must be one's own: ``do("stop", "slurmctld")``."""
        assert self.cluster is not None and self.instance, "this cluster is shared"
        real.call(self.cluster, *words, instance=self.instance)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hpcq-test-stand-ins-", ignore_cleanup_errors=True)


@functools.cache
def _shared(name: str) -> StandIn:
    """The one that all tests of this process share; it is gone with the process."""
    make = BACKENDS[name].stand_in
    assert make is not None
    return make(Path(_folder().name) / name)


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            "LOCAL",
            accounts=False,
            first_kill_is_term=True,
            kills_orphans=True,
            conditions=frozenset(),
            obeys_directives=False,
        ),
        Backend(
            "SLURM",
            "slurm",
            administrator="scancel",
            marks=(pytest.mark.slurm,),
            wall_time_grain_seconds=60,
            keeps_accounts=False,
            directive="#SBATCH",
        ),
        Backend("PBS", stand_in=Pbs, arrays=True, administrator="qdel"),
        Backend(
            "SGE",
            "sge",
            administrator="qdel",
            tells_removals=False,
            marks=(pytest.mark.sge,),
            directive="#$",
            conditions=frozenset({"any"}),
            out_of_memory=frozenset({"OUT_OF_MEMORY", "SIGNAL", "NON_ZERO_EXIT"}),
        ),
        Backend(
            "TORQUE",
            arrays=True,
            administrator="qdel",
            stand_in=functools.partial(Torque, slots=16, keep_completed=3600),
            out_of_memory=frozenset({"OUT_OF_MEMORY", "SIGNAL", "NON_ZERO_EXIT"}),
        ),
    )
}

# What the conformance suite runs against: `COMPATIBILITY=original` is the service's own affair, so
# that the quickest scheduler stands for all.
AS_ORIGINAL = "LOCAL_AS_ORIGINAL"
VARIANTS = {**BACKENDS, AS_ORIGINAL: replace(BACKENDS["LOCAL"], is_original=True)}


def those_with(quality: Callable[[Backend], object]) -> pytest.MarkDecorator:
    """Run a test on the schedulers that have this quality, and make no case for the others."""
    names = [
        pytest.param(name, marks=backend.marks)
        for name, backend in BACKENDS.items()
        if quality(backend)
    ]
    return pytest.mark.parametrize("backend", names, indirect=True)
