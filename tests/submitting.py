"""Submission of a job to a backend, as the service does it: with the content of its script."""

from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.schedulers.base import SchedulerBackend
from hpcq.schedulers.command_line import read_script

__all__ = ["submit_to"]


async def submit_to(backend: SchedulerBackend, spec: JobSpec, key: SubmissionKey) -> NativeId:
    """Read the script of a job and submit the job."""
    return await backend.submit(spec, key, read_script(spec.script_file))
