"""Description of a scheduler under test, and of what the contract leaves to it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from hpcq.domain.actions import Action

__all__ = ["ALL_CONDITIONS", "Backend", "those_with"]

ALL_CONDITIONS = frozenset({"success", "failure", "any", "started"})


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One scheduler, and what the contract leaves to it.

    Attributes:
        name: the ``SCHEDULER`` setting.
        variables: starts what is needed, and returns the service's other settings for it. It may
            end in `pytest.skip` where the scheduler cannot be had.
        marks: pytest's markers.
        wall_time_grain_seconds: limits are rounded up to multiples of this, and enforced about
            as late.
        out_of_memory: the ``failureKind`` that a job above its memory limit may have; empty where
            memory cannot be limited. Grid Engine's limit makes allocations fail, and the program
            decides how it ends.
        accounts: whether a job can carry an account.
        keeps_accounts: whether it then is that account, and not the user's own instead of one
            that the accounting does not know.
        first_kill_is_term: whether a cancelled job is first asked to end.
        kills_orphans: whether a cancel reaches processes that ignore TERM or left the job's
            session, whatever the site's configuration.
        conditions: on which a job can depend on another one.
        arrays: whether it can run arrays.
        script_texts: whether a request can hold the text of its script.
        task_id: how it writes the id of a task of an array.
        holds_tasks: whether it holds single tasks, and not only whole arrays.
        administrator: the command by which one ends a job; None where there is none.
        writes_output_at_once: whether output is where it belongs while the job runs, and not only
            after its end.
        every_nth_value: of the hostile values those that are tried; all, but where a job takes
            seconds to start.
        tells_removals: whether a running job that an administrator ended is told from one that
            was killed.
        explains_waits: whether it tells why a job waits.
        actions: what the contract asks of it: those of `Capabilities.actions` that the scheduler
            under test can carry out for the account that runs the tests.
        requeue_directives: lines of a script that let its job run twice.
        requeues_soon: whether a job that was put back starts again within seconds.
        keeps_held: whether a held job stays so when its priority is changed; where not, the
            service refuses that.
        directives: lines of a script that name the job ``theirs`` and send its output to
            ``theirs.out``.
        obeys_directives: whether the scheduler reads them.
    """

    name: str
    variables: Callable[[], Mapping[str, str]] = dict
    marks: tuple[pytest.MarkDecorator, ...] = ()
    wall_time_grain_seconds: int = 1
    out_of_memory: frozenset[str] = frozenset({"OUT_OF_MEMORY"})
    accounts: bool = True
    keeps_accounts: bool = True
    first_kill_is_term: bool = False
    kills_orphans: bool = False
    conditions: frozenset[str] = ALL_CONDITIONS
    arrays: bool = False
    script_texts: bool = True
    task_id: str = "{array}[{task}]"
    holds_tasks: bool = True
    directives: str = "#PBS -N theirs\n#PBS -o theirs.out\n"
    obeys_directives: bool = True
    actions: frozenset[Action] = frozenset({Action.HOLD, Action.RELEASE})
    requeue_directives: str = ""
    requeues_soon: bool = True
    keeps_held: bool = True
    administrator: str | None = None
    tells_removals: bool = True
    explains_waits: bool = True
    writes_output_at_once: bool = True
    every_nth_value: int = 1

    def settings(self) -> dict[str, str]:
        """Return the variables that make a service speak to it; start it when needed."""
        return {"SCHEDULER": self.name, **self.variables()}

    def remove(self, job_id: str) -> None:
        """End a job as an administrator does, past the service."""
        assert self.administrator is not None
        settings = self.settings()
        path = settings.get("SCHEDULER_PATH") or settings.get("PATH") or os.environ["PATH"]
        environment = {**os.environ, **settings, "PATH": path}
        command = shutil.which(self.administrator, path=path)
        assert command is not None, f"{self.administrator} is not in {path}"
        subprocess.run([command, job_id], env=environment, check=True, capture_output=True)


def those_with(quality: Callable[[Backend], object]) -> pytest.MarkDecorator:
    """Run a test on the schedulers that have this quality, and make no case for the others."""
    # Called by its name, a mark would take a function for the one to decorate.
    return pytest.mark.those_with.with_args(quality)
