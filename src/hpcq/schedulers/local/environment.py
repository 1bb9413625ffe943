"""The surroundings of a job: its environment variables, and a folder of its own.

Scripts that were written for another scheduler find the variables that they know, except those that
make an MPI library take this machine for a cluster: with ``SLURM_JOB_ID`` Open MPI calls ``srun``;
with ``PBS_JOBID`` and ``PBS_ENVIRONMENT``, or ``SGE_ROOT`` and ``ARC``, it may ask their daemons.
"""

import os
import pwd
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from hpcq.domain.arrays import TASK_VARIABLE
from hpcq.schedulers.local.job import QUEUE_NAME, LocalJob
from hpcq.schedulers.local.job_folder import TEMPORARY

__all__ = [
    "JobEnvironment",
    "account_name",
    "find_place",
    "list_hosts",
    "login_environment",
    "name_folder",
]

_HOSTS_WITH_SLOTS = "pe_hostfile"
_HOST_FOR_EACH_SLOT = "nodefile"
_KEY_CHARACTERS = 12
# qsub(1) of Grid Engine; sbatch(1); qsub(1) of PBS and of Torque.
_TASK_VARIABLES = ("SGE_TASK_ID", "SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnvironment:
    """The part of the environment that all jobs share.

    Attributes:
        inherited: the variables that every job starts from.
        host: the name of this machine.
    """

    inherited: Mapping[str, str]
    host: str

    def environment(
        self, job: LocalJob, folder: str, account: pwd.struct_passwd | None = None
    ) -> dict[str, str]:
        """Return the environment of a job.

        Args:
            job: the job.
            folder: the path of its folder.
            account: whose job it is; None for the service's own.
        """
        spec, number = job.spec, str(job.array or job.number)
        task = {} if job.task is None else {TASK_VARIABLE: str(job.task)}
        return {
            **self.inherited,
            **({} if account is None else _after_login(account)),
            "JOB_ID": number,
            "JOB_NAME": spec.name,
            "NSLOTS": str(spec.slots),
            "NHOSTS": "1",
            "QUEUE": QUEUE_NAME,
            "TMPDIR": f"{folder}/{TEMPORARY}",
            "PE_HOSTFILE": f"{folder}/{_HOSTS_WITH_SLOTS}",
            "PBS_NODEFILE": f"{folder}/{_HOST_FOR_EACH_SLOT}",
            "PBS_O_WORKDIR": spec.working_directory,
            "SGE_O_WORKDIR": spec.working_directory,
            "SLURM_SUBMIT_DIR": spec.working_directory,
            **_task_variables(job.task),
            **spec.environment,
            "HPCQ_JOB_ID": number,
            "HPCQ_JOB_KEY": job.mark,
            "HPCQ_JOB_NAME": spec.name,
            "HPCQ_SLOTS": str(spec.slots),
            **task,
        }


def find_place() -> bytes:
    """Return the folder that this service makes the folders of jobs in, as a path without links."""
    return os.path.realpath(os.fsencode(tempfile.gettempdir()))


def name_folder(job: LocalJob) -> str:
    """Return the path for the own folder of a job's present attempt."""
    base = find_place().decode("utf-8", "surrogateescape")
    return f"{base}/hpcq-{job.run_name}-{job.key[-_KEY_CHARACTERS:]}"


def list_hosts(host: str, slots: int) -> dict[str, str]:
    """Return the lists of a job's hosts as Grid Engine and PBS write them, by their names."""
    return {
        # sge_pe(5): host, slots, queue, processors.
        _HOSTS_WITH_SLOTS: f"{host} {slots} {QUEUE_NAME}@{host} UNDEFINED\n",
        _HOST_FOR_EACH_SLOT: f"{host}\n" * slots,
    }


def account_name() -> str:
    """Return the name of the service's account; its number if it has no name."""
    account = _account()
    return str(os.geteuid()) if account is None else account.pw_name


def login_environment(known: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that every job starts from.

    Args:
        known: the account's variables (`SchedulerOptions.account_environment`). ``HOME``,
            ``USER``, ``LOGNAME`` and ``SHELL`` are added as after a login if they are missing.
    """
    account = _account()
    return {**({} if account is None else _after_login(account)), **known}


def _task_variables(task: int | None) -> dict[str, str]:
    """Return the variables in which scripts for other schedulers look for the number of a task."""
    return {} if task is None else dict.fromkeys(_TASK_VARIABLES, str(task))


def _after_login(account: pwd.struct_passwd) -> dict[str, str]:
    return {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
    }


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        # Containers run under numbers that belong to no account.
        return None
