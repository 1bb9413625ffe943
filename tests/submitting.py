"""Submission of a job to a backend, as the service does it: with the content of its script."""

from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.execution.files import OwnFiles
from hpcq.schedulers.base import SchedulerBackend

__all__ = ["submit_to"]


async def submit_to(backend: SchedulerBackend, spec: JobSpec, key: SubmissionKey) -> NativeId:
    """Read the script of a job and submit the job."""
    return await backend.submit(spec, key, OwnFiles().read(spec.script_file, 1 << 30) or b"")
