"""The schedulers that the contract's tests run against. A new one is one line in the table."""

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pytest
from tests import real
from tests.fakebin.pbs import Pbs
from tests.fakebin.torque import Torque

from hpcq.domain.actions import Action
from hpcq.schedulers.testing.backend import Backend

__all__ = ["AS_ORIGINAL", "BACKENDS", "SGE", "SLURM", "VARIANTS", "RealBackend"]


class StandIn(Protocol):
    """A stateful imitation of a scheduler's commands."""

    def settings(self) -> dict[str, str]:
        """The variables that make a service use it, ``SCHEDULER`` included."""
        ...


@dataclass(frozen=True, kw_only=True)
class RealBackend(Backend):
    """A scheduler that a script in ``tests/clusters`` starts.

    Attributes:
        cluster: the script.
        instance: what selects a cluster of one's own there, as environment variables.
    """

    cluster: str
    instance: real.Instance = real.SHARED

    def settings(self) -> dict[str, str]:
        """The variables that make a service speak to it; starts the cluster when needed."""
        return {"SCHEDULER": self.name, **real.settings_of(self.cluster, self.instance)}

    def do(self, *words: str) -> None:
        """Do something to the cluster, which must be one's own: ``do("stop", "slurmctld")``."""
        assert self.instance, "this cluster is shared"
        real.call(self.cluster, *words, instance=self.instance)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hpcq-test-stand-ins-", ignore_cleanup_errors=True)


def _shared(make: Callable[[Path], StandIn], name: str) -> Callable[[], Mapping[str, str]]:
    """The settings of the one that all tests of this process share; it is gone with the process."""
    stand_in = functools.cache(lambda: make(Path(_folder().name) / name))
    return lambda: stand_in().settings()


SLURM = RealBackend(
    name="SLURM",
    cluster="slurm",
    arrays=True,
    task_id="{array}_{task}",
    administrator="scancel",
    marks=(pytest.mark.slurm,),
    wall_time_grain_seconds=60,
    keeps_accounts=False,
    actions=frozenset(Action),
    requeues_soon=False,
    keeps_held=False,
    directives="#SBATCH --job-name=theirs\n#SBATCH -o theirs.out\n",
)
SGE = RealBackend(
    name="SGE",
    cluster="sge",
    arrays=True,
    administrator="qdel",
    tells_removals=False,
    marks=(pytest.mark.sge,),
    actions=frozenset(Action) - {Action.SIGNAL},
    requeue_directives="#$ -r y\n",
    directives="#$ -N theirs\n#$ -o theirs.out\n",
    conditions=frozenset({"any"}),
    out_of_memory=frozenset({"OUT_OF_MEMORY", "SIGNAL", "NON_ZERO_EXIT"}),
)
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            name="LOCAL",
            accounts=False,
            actions=frozenset(Action),
            arrays=True,
            first_kill_is_term=True,
            kills_orphans=True,
            obeys_directives=False,
        ),
        SLURM,
        Backend(
            name="PBS",
            variables=_shared(functools.partial(Pbs, queues=["other"]), "PBS"),
            actions=frozenset(Action),
            arrays=True,
            holds_tasks=False,
            administrator="qdel",
            writes_output_at_once=False,
        ),
        SGE,
        Backend(
            name="TORQUE",
            variables=_shared(
                functools.partial(Torque, slots=16, keep_completed=3600, queues=["other"]), "TORQUE"
            ),
            # A signal ends the shell in which Torque runs the script, unless its hosts are told
            # otherwise: see tests/integration/test_torque_backend.py.
            actions=frozenset(Action) - {Action.SIGNAL},
            arrays=True,
            administrator="qdel",
            writes_output_at_once=False,
            out_of_memory=frozenset({"OUT_OF_MEMORY", "SIGNAL", "NON_ZERO_EXIT"}),
        ),
    )
}

# What the contract's tests run against: `COMPATIBILITY=original` is the service's own affair, so
# that the quickest scheduler stands for all.
AS_ORIGINAL = "LOCAL_AS_ORIGINAL"
VARIANTS = {
    **BACKENDS,
    AS_ORIGINAL: replace(BACKENDS["LOCAL"], variables=lambda: {"COMPATIBILITY": "original"}),
}
