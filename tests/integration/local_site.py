"""The LOCAL backend on a spool of a test's own."""

import asyncio
import os
import select
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from tests.submitting import submit_to

from hpcq.domain.jobs import JobSpec, JobUid, NativeId, Observation, SubmissionKey
from hpcq.domain.outputs import place_outputs
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.local.backend import LocalBackend
from hpcq.schedulers.local.processes import Process, boot_id
from hpcq.schedulers.local.settings import LocalSettings
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, eventually

__all__ = ["ENVIRONMENT", "LocalSite", "gone", "new_key"]

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/var/empty",
    "USER": "researcher",
    "LOGNAME": "researcher",
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
}


def new_key() -> SubmissionKey:
    return SubmissionKey.for_uid(JobUid.new())


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    await asyncio.to_thread(_wait_for_end, pid)


def _wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with open(descriptor, "rb"):
        assert select.select([descriptor], [], [], PATIENCE_SECONDS)[0], (
            f"process {pid} never ended"
        )


class LocalSite:
    """A backend, started, and a directory for its jobs to work in."""

    def __init__(self, directory: Path, *, slots: int = 4, grace_seconds: float = 0.5) -> None:
        self.state = directory / "state"
        self.work = directory / "work"
        self.work.mkdir(exist_ok=True, parents=True)
        self.options = SchedulerOptions(
            cluster_id="1",
            state_directory=self.state,
            environment={**ENVIRONMENT, "SLURM_CONF": "/not/for/jobs"},
            command_path="/usr/bin:/bin",
            command_timeout_seconds=5,
            listing_limit_bytes=1 << 20,
        )
        self.settings = LocalSettings(
            internal_scheduler_max_slots=slots, cancel_grace_seconds=grace_seconds
        )
        self.backend: LocalBackend
        self._changed: asyncio.Event

    async def start(self, boot: Callable[[], str] = boot_id) -> Self:
        self._changed = asyncio.Event()
        self.backend = LocalBackend(self.options, self.settings, boot)
        await self.backend.start(self._changed.set)
        return self

    async def stop(self) -> None:
        await self.backend.stop()

    async def restart(self, boot: Callable[[], str] = boot_id) -> None:
        await self.stop()
        await self.start(boot)

    async def clean_up(self) -> None:
        """End all jobs and the backend."""
        for job in (await self.backend.jobs()).observations:
            await self.backend.cancel(job.native_id)
        await self.until(lambda jobs: not jobs)
        await self.stop()

    def script(self, body: str, name: str = "job.sh") -> Path:
        path = self.work / name
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)
        return path

    def spec(self, script: str | Path, **fields: Any) -> JobSpec:
        path = self.script(script) if isinstance(script, str) else script
        return JobSpec(
            **{
                "name": "job",
                "working_directory": str(self.work),
                "script_file": str(path),
                **fields,
            }
        )

    async def submit(self, script: str | Path, **fields: Any) -> NativeId:
        return await submit_to(self.backend, self.placed(self.spec(script, **fields)), new_key())

    def placed(self, spec: JobSpec) -> JobSpec:
        """Return a job with the places of its output, as the service completes it."""
        said = self.backend.check_script(spec, b"")
        outputs = place_outputs(spec, said.stdout, said.stderr, said.task_suffix)
        return replace(spec, outputs=outputs)

    async def run(self, script: str | Path, **fields: Any) -> Observation:
        """Submit a job and wait for its end."""
        return await self.ended(await self.submit(script, **fields))

    async def ended(self, native_id: NativeId) -> Observation:
        """Wait for the end of a job."""
        await self.until(lambda jobs: native_id not in {job.native_id for job in jobs})
        (job,) = (await self.backend.history([native_id])).observations
        return job

    async def running(self, native_id: NativeId) -> Observation:
        """Wait until a job runs."""
        found: list[Observation] = []

        def runs(jobs: Sequence[Observation]) -> bool:
            found[:] = [job for job in jobs if job.native_id == native_id]
            return not found or found[0].native_state == "running"

        await self.until(runs)
        return found[0]

    def shepherd(self, native_id: NativeId) -> Process:
        """Return the shepherd of a job that runs."""
        job = self.backend._engine.jobs.find_job(native_id)
        assert job is not None and job.shepherd is not None
        return job.shepherd

    async def seen(self, native_id: NativeId) -> Observation:
        """Return the observation of a job in the queue now."""
        (job,) = (await self.backend.details([native_id])).observations
        return job

    async def until(self, condition: Callable[[Sequence[Observation]], bool]) -> None:
        """Wait, from one change to the next, until the queue is as wanted."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                self._changed.clear()
                if condition((await self.backend.jobs()).observations):
                    return
                await self._changed.wait()

    async def file(self, name: str) -> str:
        """Wait for a file that a job writes, and return its content."""
        path = self.work / name

        async def content() -> str:
            return path.read_text() if path.exists() else ""

        return await eventually(content)
