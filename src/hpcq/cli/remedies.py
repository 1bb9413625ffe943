"""Remedies for what a scheduler refuses, as steps that an administrator can follow word by word."""

import os
import shlex
import socket

from hpcq.cli.texts import translated as _
from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    HpcqError,
    NotAuthorized,
    SchedulerError,
    SchedulerUnavailable,
)
from hpcq.execution import accounts

__all__ = ["account_name", "is_away", "remedy_for"]

_TO_REACH = {
    "SLURM": _(
        "Start slurmctld (`scontrol ping` asks for it), or set SLURM_CONF to the path of the site's"
        " slurm.conf."
    ),
    "SGE": _(
        "Start sge_qmaster, or set SGE_ROOT and SGE_CELL: the file common/act_qmaster in the folder"
        " of the cell names its machine."
    ),
}
# What these words of its commands mean, in this order.
_TO_REACH_SLURM = {
    "munge": _(
        "Start munge (`systemctl start munge`), and let {account} reach its socket in /run/munge."
    ),
    "unable to read": _("Let {account} read slurm.conf, and the folder that it is in."),
    "Unable to process configuration file": _(
        "Correct slurm.conf until `scontrol ping` answers {account}."
    ),
}
_TO_REACH_ANY = _("Start it, or point its commands to it: they have to answer {account} here.")
_TO_ALLOW = {
    "SLURM": _(
        "Let {account} do this: `sacctmgr add user {account} account=ACCOUNT`, with one of"
        " `sacctmgr show account`."
    ),
    "SGE": _(
        "Let {account} do this from here: `qconf -as {host}`, and if need be `qconf -ao {account}`."
    ),
}
_TO_ALLOW_ANY = _("Let {account} do this, as an operator of the scheduler.")
_TO_ACCOUNT = {
    "SLURM": _("Start slurmdbd, until `sacct` answers {account}."),
    "SGE": _("Let {account} read the file common/accounting in the folder of the cell."),
}
_TO_ACCOUNT_ANY = _("Start the accounting, and let {account} read it.")


def is_away(error: HpcqError) -> bool:
    """Return whether every other question to the scheduler would end the same way."""
    return isinstance(error, CommandTimedOut | SchedulerUnavailable) and not error.of_accounting


def remedy_for(error: HpcqError, scheduler: str) -> str:
    """Return what an administrator does about an error.

    Args:
        error: the answer to a question of the doctor.
        scheduler: the name of the backend that was asked.
    """
    if isinstance(error, CommandMissing):
        if error.forbidden is not None:
            text = _("Let {account} run it: `ls -l {path}` shows who may.")
            return text.format(account=account_name(os.geteuid()), path=error.forbidden)
        return _(
            "Put the folder of the scheduler's commands into SCHEDULER_PATH: without the command"
            " itself, and several with : between them."
        )
    if isinstance(error, SchedulerError) and error.of_accounting:
        remedy = _TO_ACCOUNT.get(scheduler, _TO_ACCOUNT_ANY)
    # Slurm's refusal of a trial is a SchedulerError, nothing more.
    elif isinstance(error, NotAuthorized) or type(error) is SchedulerError:
        remedy = _TO_ALLOW.get(scheduler, _TO_ALLOW_ANY)
    elif is_away(error):
        remedy = _TO_REACH.get(scheduler, _TO_REACH_ANY)
        if scheduler == "SLURM":
            said = error.detail + (getattr(error, "scheduler_message", None) or "")
            remedy = next((r for words, r in _TO_REACH_SLURM.items() if words in said), remedy)
    else:
        remedy = _("Run `{command}` as {account} to see more; then correct the scheduler.")
    return remedy.format(
        account=account_name(os.geteuid()),
        host=socket.gethostname(),
        command=shlex.join(error.argv) if isinstance(error, CommandFailed) else scheduler,
    )


def account_name(uid: int) -> str:
    """Return the name of an account; its number if it has none."""
    return accounts.account_name(uid) or str(uid)
