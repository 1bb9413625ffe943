"""Answers in which one job pretends to be another: the backend asks about that one alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.waiting import PATIENCE_SECONDS

from hpcq.domain.jobs import NativeId
from hpcq.domain.states import JobState
from hpcq.execution.protocol import Command, Completed
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.pbs.backend import PbsBackend, create

pytestmark = pytest.mark.anyio

_JOB = (
    '        "{}.s":{{\n            "Job_Owner":"{}@s",\n            "job_state":"{}"\n        }}'
)
_TEXT = "Job Id: {}.s\n    Job_Owner = {}@s\n    job_state = {}\n    project = p\n\n"
_NO_JSON = (b"", b"qstat: invalid option -- 'F'\nusage: qstat [-f]\n", 2)


@dataclass
class _Canned:
    """Runs nothing: answers by the words of the command."""

    answers: Mapping[str, tuple[bytes, bytes, int]]
    asked: list[str] = field(default_factory=list)

    async def run(self, command: Command) -> Completed:
        words = " ".join(command.argv)
        self.asked.append(words)
        stdout, stderr, status = self.answers[words]
        return Completed(argv=command.argv, exit_code=status, stdout=stdout, stderr=stderr)


def _backend(runner: _Canned) -> PbsBackend:
    options = SchedulerOptions(
        cluster_id="1",
        state_directory=Path("/nonexistent"),
        environment={"USER": "service"},
        command_path="/nonexistent",
        command_timeout_seconds=PATIENCE_SECONDS,
        listing_limit_bytes=1 << 26,
        max_slots=1,
        cancel_grace_seconds=1,
        parallel_environment="orte",
    )
    return create(options, runner)


def _document(*jobs: str) -> tuple[bytes, bytes, int]:
    text = '{\n    "timestamp":1,\n    "Jobs":{\n' + ",\n".join(jobs) + "\n    }\n}\n"
    return text.encode(), b"", 0


async def _states(backend: PbsBackend) -> dict[str, tuple[JobState, str | None]]:
    listing = await backend.jobs()
    assert list(listing.unreadable) == []
    return {seen.native_id: (seen.state, seen.owner) for seen in listing.observations}


async def test_a_job_that_a_document_tells_of_twice_is_asked_about_alone() -> None:
    true, forged = _JOB.format(1, "ana", "R"), _JOB.format(1, "eve", "F")
    runner = _Canned(
        {
            "qstat -t -f -F json": _document(true, _JOB.format(2, "eve", "Q"), forged),
            "qstat -E -f -F json 1": _document(true),
        }
    )
    assert await _states(_backend(runner)) == {
        "1": (JobState.RUNNING, "ana"),
        "2": (JobState.QUEUED, "eve"),
    }
    assert len(runner.asked) == 2


async def test_a_job_that_is_gone_is_told_of_by_nobody() -> None:
    forged = [_JOB.format(1, "eve", letter) for letter in "RQ"]
    runner = _Canned(
        {
            "qstat -t -f -F json": _document(_JOB.format(2, "eve", "Q"), *forged),
            "qstat -E -f -F json 1": (*_document()[:1], b"qstat: Unknown Job Id 1.s\n", 153),
        }
    )
    assert await _states(_backend(runner)) == {"2": (JobState.QUEUED, "eve")}


async def test_an_end_that_is_told_twice_is_asked_about_alone() -> None:
    end = _JOB.format(1, "ana", "F")
    runner = _Canned(
        {
            "qstat -x -E -f -F json 1 2": _document(
                end, _JOB.format(2, "eve", "F"), _JOB.format(1, "eve", "F")
            ),
            "qstat -x -E -f -F json 1": _document(end),
        }
    )
    listing = await _backend(runner).history([NativeId("1"), NativeId("2")])
    assert list(listing.unreadable) == []
    assert {seen.native_id: seen.owner for seen in listing.observations} == {"1": "ana", "2": "eve"}


async def test_a_job_that_a_text_tells_of_twice_is_asked_about_alone() -> None:
    true, other = _TEXT.format(1, "ana", "R"), _TEXT.format(2, "eve", "Q")
    forged, unknown = _TEXT.format(1, "eve", "E"), _TEXT.format(9, "eve", "R")
    runner = _Canned(
        {
            "qstat -t -f -F json": _NO_JSON,
            "qstat -f": ((true + other + forged + unknown).encode(), b"", 0),
            "qselect": (b"1.s\n2.s\n", b"", 0),
            "qstat -f 1": ((true + forged).encode(), b"", 0),
        }
    )
    assert await _states(_backend(runner)) == {
        "1": (JobState.RUNNING, "ana"),
        "2": (JobState.QUEUED, "eve"),
    }


async def test_queues_and_hosts_of_a_pbs_without_json() -> None:
    queue = b"Queue: q\n    enabled = True\n    started = True\n\n"
    runner = _Canned(
        {
            "qstat -Q -f -F json": _NO_JSON,
            "qstat -Q -f": (queue, b"", 0),
            "pbsnodes -a -F json": (b"", b"pbsnodes: invalid option -- 'F'\n", 1),
            "pbsnodes -a": (b"n1\n     state = free\n\n", b"", 0),
        }
    )
    backend = _backend(runner)
    assert [queue.name for queue in await backend.queues()] == ["q"]
    assert [node.name for node in await backend.nodes()] == ["n1"]
