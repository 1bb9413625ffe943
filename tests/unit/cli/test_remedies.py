"""The remedies of the doctor: each names what an administrator of that scheduler has to do."""

import pytest

from hpcq.cli.remedies import is_away, remedy_for
from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    HpcqError,
    NotAuthorized,
    SchedulerError,
    SchedulerUnavailable,
)


def of_accounting() -> SchedulerError:
    error = SchedulerUnavailable("it is down")
    error.of_accounting = True
    return error


def forbidden() -> CommandMissing:
    error = CommandMissing("This account may not run /usr/bin/sacct.")
    error.forbidden = "/usr/bin/sacct"
    return error


@pytest.mark.parametrize(
    ("error", "scheduler", "step"),
    [
        (CommandMissing("no sbatch"), "SLURM", "SCHEDULER_PATH"),
        (CommandTimedOut(("squeue",), 30), "SLURM", "scontrol ping"),
        (SchedulerUnavailable("Munge encode failed: Did you start munged?"), "SLURM", "munge"),
        (
            SchedulerUnavailable('s_p_parse_file: unable to read "slurm.conf": Permission denied'),
            "SLURM",
            "read slurm.conf",
        ),
        (SchedulerUnavailable("Unable to process configuration file"), "SLURM", "Correct"),
        (forbidden(), "SLURM", "`ls -l /usr/bin/sacct`"),
        (SchedulerUnavailable("down"), "SGE", "act_qmaster"),
        (SchedulerUnavailable("down"), "TORQUE", "point its commands to it"),
        (NotAuthorized("no"), "SGE", "qconf -as "),
        (NotAuthorized("no"), "PBS", "operator"),
        (SchedulerError("Slurm takes no job"), "SLURM", "sacctmgr add user "),
        (of_accounting(), "SLURM", "slurmdbd"),
        (of_accounting(), "SGE", "common/accounting"),
        (CommandFailed(("qstat", "-u", "*"), 1, b"odd"), "SGE", "`qstat -u '*'`"),
    ],
)
def test_remedy_for_scheduler(error: HpcqError, scheduler: str, step: str) -> None:
    remedy = remedy_for(error, scheduler)
    assert step in remedy
    assert "{" not in remedy


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (SchedulerUnavailable("down"), True),
        (CommandTimedOut(("squeue",), 30), True),
        (of_accounting(), False),
        (NotAuthorized("no"), False),
    ],
)
def test_is_away_each_error(error: HpcqError, away: bool) -> None:
    assert is_away(error) is away
