"""What a job finds around it: its variables, and a folder of its own.

Scripts that were written for another scheduler find the names that they know. Not those by which
an MPI library would take this machine for a cluster: with ``SLURM_JOB_ID`` Open MPI calls ``srun``;
with ``PBS_JOBID`` and ``PBS_ENVIRONMENT``, or ``SGE_ROOT`` and ``ARC``, it may ask their daemons.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from hpcq.schedulers.local.entry import QUEUE_NAME, Entry
from hpcq.schedulers.local.files import encode_path

__all__ = ["Surroundings", "make_folder"]

_HOSTS_WITH_SLOTS = "pe_hostfile"
_HOST_FOR_EACH_SLOT = "nodefile"
_TEMPORARY = "tmp"
_KEY_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all jobs have in common.

    Attributes:
        inherited: what every job's environment begins with.
        host: the name of this machine.
    """

    inherited: Mapping[str, str]
    host: str

    def folder(self, entry: Entry) -> str:
        """Return the path of the job's own folder, one that nobody can know before."""
        base = os.fsencode(tempfile.gettempdir()).decode("utf-8", "surrogateescape")
        return f"{base}/hpcq-{entry.run_name}-{entry.key[-_KEY_CHARACTERS:]}"

    def environment(self, entry: Entry, folder: str) -> dict[str, str]:
        """Return the job's environment, given its folder."""
        spec, number = entry.spec, str(entry.number)
        return {
            **self.inherited,
            "JOB_ID": number,
            "JOB_NAME": spec.name,
            "NSLOTS": str(spec.slots),
            "NHOSTS": "1",
            "QUEUE": QUEUE_NAME,
            "TMPDIR": f"{folder}/{_TEMPORARY}",
            "PE_HOSTFILE": f"{folder}/{_HOSTS_WITH_SLOTS}",
            "PBS_NODEFILE": f"{folder}/{_HOST_FOR_EACH_SLOT}",
            "PBS_O_WORKDIR": spec.working_directory,
            "SGE_O_WORKDIR": spec.working_directory,
            "SLURM_SUBMIT_DIR": spec.working_directory,
            **spec.environment,
            "HPCQ_JOB_ID": number,
            "HPCQ_JOB_KEY": entry.key,
            "HPCQ_JOB_NAME": spec.name,
            "HPCQ_SLOTS": str(spec.slots),
        }


def make_folder(path: str, host: str, slots: int) -> None:
    """Make a job's own folder, with the list of its hosts as Grid Engine and PBS write it.

    Raises:
        OSError: it cannot be made.
    """
    os.mkdir(encode_path(path), 0o700)
    os.mkdir(encode_path(f"{path}/{_TEMPORARY}"), 0o700)
    for name, content in (
        # sge_pe(5): host, slots, queue, processors.
        (_HOSTS_WITH_SLOTS, f"{host} {slots} {QUEUE_NAME}@{host} UNDEFINED\n"),
        (_HOST_FOR_EACH_SLOT, f"{host}\n" * slots),
    ):
        with open(encode_path(f"{path}/{name}"), "w", encoding="utf-8") as file:
            file.write(content)
