"""Studies to submit, and a client that follows them; shared by all black-box suites."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx

from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

__all__ = [
    "RECORD_ARGUMENTS",
    "RECORD_ENVIRONMENT",
    "Jobs",
    "Json",
    "Study",
    "assert_problem",
    "own_words",
]

Json = dict[str, Any]

# Both write to another name first, so that a reader never sees half a file.
RECORD_ARGUMENTS = (
    'for argument in "$@"; do printf \'%s\\0\' "$argument"; done > argv.part\n'
    "/bin/mv argv.part argv\n"
)
RECORD_ENVIRONMENT = "/bin/cat /proc/$$/environ > environ.part\n/bin/mv environ.part environ\n"


def own_words(output: Path | str) -> str:
    """Return what a job wrote, without the line that slurmstepd adds on a slow machine.

    Args:
        output: a file of its output or errors, or the text of one.
    """
    text = output.read_text() if isinstance(output, Path) else output
    added = r"^slurmstepd-\S+: error: no task list created!\n"
    return re.sub(added, "", text, flags=re.MULTILINE)


class Study:
    """A working directory with scripts in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def script(self, body: str, name: str = "study.sh") -> Path:
        """Write an executable POSIX shell script."""
        path = self.directory / name
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)
        return path

    def job(self, script: Path | str, **fields: Any) -> Json:
        """Return a request body with the mandatory fields and these."""
        return {
            "workingDirectory": str(self.directory),
            "reservedSlots": 1,
            "scriptFile": str(script),
            **fields,
        }

    def arguments(self) -> list[str]:
        """Return the arguments that `RECORD_ARGUMENTS` wrote."""
        return _fields(self.directory / "argv")

    def environment(self) -> dict[str, str]:
        """Return the environment that `RECORD_ENVIRONMENT` wrote."""
        pairs = (entry.partition("=") for entry in _fields(self.directory / "environ"))
        return {name: value for name, _, value in pairs}


class Jobs:
    """Submits and follows jobs; ends those that are still alive when a test is over."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.submitted: list[str] = []

    @property
    def _client(self) -> httpx.Client:
        # Another one after a restart.
        return self._service.client

    def submit(self, body: Json) -> str:
        """Submit a job that must be accepted; returns its id."""
        answer = self._client.post("/jobs", json=body)
        assert answer.status_code == 201, f"{answer.status_code} {answer.text[:2000]}"
        return self.accepted(answer)

    def accepted(self, answer: httpx.Response) -> str:
        """Remember the job of a 201 answer; returns its id."""
        job_id: str = answer.json()["jobId"]
        self.submitted.append(job_id)
        return job_id

    def read(self, job_id: str) -> Json:
        """Return the job with this id."""
        answer = self._client.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:2000]}"
        job: Json = answer.json()
        return job

    def listed(self, query: str = "") -> dict[str, Json]:
        """Return the listed jobs by their ids."""
        answer = self._client.get("/jobs" + query)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:2000]}"
        return {job["jobId"]: job for job in answer.json()}

    def over(self, job_id: str) -> Json:
        """Return a job that has ended, as in the listing, where the service lists such ones."""
        listed = self.listed()
        if self._lists_ended:
            return listed[job_id]
        assert job_id not in listed
        return self.read(job_id)

    @property
    def _lists_ended(self) -> bool:
        return not self._service.is_original

    def delete(self, job_id: str) -> None:
        """Delete it; it must be accepted."""
        answer = self._client.delete(f"/jobs/{job_id}")
        assert answer.status_code == 202, f"{answer.status_code} {answer.text[:2000]}"

    def wait(self, job_id: str, reached: Callable[[Json], bool]) -> Json:
        """Read the job again and again until it is so; returns it."""

        def look() -> Json | None:
            job = self.read(job_id)
            return job if reached(job) else None

        return until(look, lambda: self.read(job_id)) or {}

    def polled(self, times: int) -> None:
        """Wait until the scheduler has answered so many times more."""
        seen = {self._as_of()}

        def more() -> bool:
            seen.add(self._as_of())
            return len(seen) > times

        until(more)

    def _as_of(self) -> str:
        answer = self._client.get("/jobs")
        return str(answer.headers.get("x-as-of"))

    def running(self, job_id: str) -> Json:
        """Wait until the job runs."""
        return self.wait(job_id, lambda job: job["status"] == "RUNNING")

    def ended(self, job_id: str) -> Json:
        """Wait until the job is over and its outcome known."""
        return self.wait(job_id, lambda job: job["status"] == "STOPPED")

    def all_ended(self, job_ids: Iterable[str]) -> dict[str, Json]:
        """Wait until all are over, by reading the listing; returns them by id."""
        wanted = set(job_ids)

        def look() -> dict[str, Json]:
            found = {i: job for i, job in self.listed().items() if i in wanted}
            if not self._lists_ended:
                found |= {i: self.read(i) for i in wanted - found.keys()}
            missing = wanted - found.keys()
            assert not missing, f"not in the listing: {sorted(missing)}"
            return found

        def are_over() -> bool:
            return all(job["status"] == "STOPPED" for job in look().values())

        until(are_over, look)
        return look()

    def clean_up(self) -> None:
        """End what still runs."""
        listed = self.listed()
        for job_id in self.submitted:
            if job_id in listed and listed[job_id]["status"] != "STOPPED":
                self._client.delete(f"/jobs/{job_id}")
        self.submitted.clear()


def assert_problem(answer: httpx.Response, *statuses: int) -> Json:
    """Check that an answer is an RFC 9457 problem with one of these statuses; returns it."""
    assert answer.status_code in statuses, f"{answer.status_code} {answer.text[:2000]}"
    assert answer.headers["content-type"] == "application/problem+json"
    problem: Json = answer.json()
    for member in ("type", "title", "detail", "code"):
        assert isinstance(problem[member], str), problem
        assert problem[member], problem
    assert problem["status"] == answer.status_code
    assert "Traceback" not in answer.text
    return problem


def _fields(path: Path) -> list[str]:
    content = path.read_bytes()
    assert content == b"" or content.endswith(b"\0")
    return [field.decode() for field in content.split(b"\0")[:-1]]
