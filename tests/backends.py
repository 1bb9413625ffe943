"""The schedulers that the conformance suite runs against. A new one is one line in the table."""

from dataclasses import dataclass, field

import pytest
from tests import real

__all__ = ["BACKENDS", "Backend"]


@dataclass(frozen=True)
class Backend:
    """One scheduler, and what the contract leaves to it.

    Attributes:
        name: the ``SCHEDULER`` setting.
        cluster: the script in ``tests/clusters`` that starts a real one; None for none needed.
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
        needs_interpreter_line: whether a script has to begin with ``#!``.
    """

    name: str
    cluster: str | None = None
    instance: tuple[tuple[str, str], ...] = ()
    marks: tuple[pytest.MarkDecorator, ...] = ()
    wall_time_grain_seconds: int = 1
    out_of_memory: frozenset[str] = field(default_factory=lambda: frozenset({"OUT_OF_MEMORY"}))
    accounts: bool = True
    keeps_accounts: bool = True
    first_kill_is_term: bool = False
    kills_orphans: bool = False
    needs_interpreter_line: bool = False

    def settings(self) -> dict[str, str]:
        """The variables that make a service speak to it; starts the cluster when needed."""
        found = {} if self.cluster is None else _environment(self.cluster, self.instance)
        return {"SCHEDULER": self.name, **found}

    def do(self, *words: str) -> None:
        """Do something to the cluster, which must be one's own: ``do("stop", "slurmctld")``."""
        assert self.cluster is not None and self.instance, "this cluster is shared"
        exit_code, _, messages = _run_script(self.cluster, self.instance, *words)
        assert exit_code == 0, messages


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("LOCAL", accounts=False, first_kill_is_term=True, kills_orphans=True),
        Backend(
            "SLURM",
            "slurm",
            marks=(pytest.mark.slurm,),
            wall_time_grain_seconds=60,
            needs_interpreter_line=True,
            keeps_accounts=False,
        ),
        Backend(
            "SGE",
            "sge",
            marks=(pytest.mark.sge,),
            out_of_memory=frozenset({"OUT_OF_MEMORY", "SIGNAL", "NON_ZERO_EXIT"}),
        ),
    )
}


def _run_script(
    cluster: str, instance: tuple[tuple[str, str], ...], *words: str
) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, str(_CLUSTERS / f"{cluster}.py"), *words],
        env={**os.environ, **dict(instance)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@functools.cache
def _started(cluster: str, instance: tuple[tuple[str, str], ...]) -> tuple[int, str, str]:
    return _run_script(cluster, instance, "up")


def _environment(cluster: str, instance: tuple[tuple[str, str], ...]) -> dict[str, str]:
    exit_code, output, messages = _started(cluster, instance)
    if exit_code == _CANNOT_BE_INSTALLED and not os.environ.get("HPCQ_REQUIRE_REAL"):
        reason = messages.strip().rpartition("\n")[2] or "it cannot be installed"
        pytest.skip(f"no real {cluster} here: {reason}")
    if exit_code != 0:
        pytest.fail(
            f"the {cluster} cluster did not start ({exit_code}):\n{messages}", pytrace=False
        )
    environment: dict[str, str] = json.loads(output)
    return environment
