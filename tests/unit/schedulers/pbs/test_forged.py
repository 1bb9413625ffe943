"""Answers in which one job pretends to be another: the backend asks about that one alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpcq.domain.jobs import NativeId
from hpcq.domain.states import JobState
from hpcq.execution.protocol import Command, Completed
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.pbs.backend import PbsBackend, create
from hpcq.schedulers.pbs.settings import PbsSettings
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

_TEXT = "Job Id: {}.s\n    Job_Owner = {}@s\n    job_state = {}\n    project = p\n\n"
_NO_DSV = (b"", b"qstat: invalid option -- 'F'\nusage: qstat [-f]\n", 2)


@dataclass
class _Canned:
    """Runs nothing: answers by the words of the command."""

    answers: Mapping[str, tuple[bytes, bytes, int]]
    asked: list[str] = field(default_factory=list)

    async def run(self, command: Command) -> Completed:
        words = " ".join(word for word in command.argv if "\x1f" not in word)
        self.asked.append(words)
        stdout, stderr, status = self.answers[words]
        delimiters = [word for word in command.argv if "\x1f" in word]
        stdout = stdout.replace(b"|", "".join(delimiters).encode())
        return Completed(argv=command.argv, exit_code=status, stdout=stdout, stderr=stderr)


def _backend(runner: _Canned) -> PbsBackend:
    options = SchedulerOptions(
        cluster_id="1",
        state_directory=Path("/nonexistent"),
        environment={"USER": "service"},
        command_path="/nonexistent",
        command_timeout_seconds=PATIENCE_SECONDS,
        listing_limit_bytes=1 << 26,
    )
    return create(options, runner, PbsSettings())


async def _states(backend: PbsBackend) -> dict[str, tuple[JobState, str | None]]:
    listing = await backend.jobs()
    assert list(listing.unreadable) == []
    return {seen.native_id: (seen.state, seen.owner) for seen in listing.observations}


async def test_jobs_duplicate_in_text() -> None:
    true, other = _TEXT.format(1, "ana", "R"), _TEXT.format(2, "eve", "Q")
    forged, unknown = _TEXT.format(1, "eve", "E"), _TEXT.format(9, "eve", "R")
    runner = _Canned(
        {
            "qstat -t -f -F dsv -D": _NO_DSV,
            "qstat -f": ((true + other + forged + unknown).encode(), b"", 0),
            "qselect": (b"1.s\n2.s\n", b"", 0),
            "qstat -f 1": ((true + forged).encode(), b"", 0),
        }
    )
    assert await _states(_backend(runner)) == {
        "1": (JobState.RUNNING, "ana"),
        "2": (JobState.QUEUED, "eve"),
    }


async def test_jobs_deleted_and_forged() -> None:
    forged = _TEXT.format(1, "eve", "R") + _TEXT.format(1, "eve", "Q")
    runner = _Canned(
        {
            "qstat -t -f -F dsv -D": _NO_DSV,
            "qstat -f": ((_TEXT.format(2, "eve", "Q") + forged).encode(), b"", 0),
            "qselect": (b"1.s\n2.s\n", b"", 0),
            "qstat -f 1": (b"", b"qstat: Unknown Job Id 1.s\n", 153),
        }
    )
    assert await _states(_backend(runner)) == {"2": (JobState.QUEUED, "eve")}


async def test_history_text_one_job_per_command() -> None:
    end, forged = _TEXT.format(1, "ana", "F"), _TEXT.format(1, "eve", "F")
    runner = _Canned(
        {
            "qstat -x -E -f -F dsv -D 1 2": _NO_DSV,
            "qstat -x -f -F dsv -D 1 2": _NO_DSV,
            "qstat -x -f 1": (end.encode(), b"", 0),
            "qstat -x -f 2": ((_TEXT.format(2, "eve", "F") + forged).encode(), b"", 0),
        }
    )
    listing = await _backend(runner).history([NativeId("1"), NativeId("2")])
    assert list(listing.unreadable) == []
    assert {seen.native_id: seen.owner for seen in listing.observations} == {"1": "ana", "2": "eve"}


async def test_history_option_e_unknown() -> None:
    ends = b"Job Id: 1.s|Job_Name=n|job_state=F\nJob Id: 2.s|Job_Name=n|job_state=F\n"
    runner = _Canned(
        {"qstat -x -E -f -F dsv -D 1 2": _NO_DSV, "qstat -x -f -F dsv -D 1 2": (ends, b"", 0)}
    )
    listing = await _backend(runner).history([NativeId("1"), NativeId("2")])
    assert [seen.native_id for seen in listing.observations] == ["1", "2"]


async def test_queues_and_hosts() -> None:
    queue = b"Queue: q\n    enabled = True\n    started = True\n\n"
    runner = _Canned(
        {
            "qstat -Q -f": (queue, b"", 0),
            "pbsnodes -a": (b"n1\n     state = free\n\n", b"", 0),
        }
    )
    backend = _backend(runner)
    assert [queue.name for queue in await backend.queues()] == ["q"]
    assert [node.name for node in await backend.nodes()] == ["n1"]
