"""The backend on the stand-in: with history and JSON, and without either."""

import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakebin.pbs import Pbs

from hpcq.domain.errors import JobNotFound, SchedulerUnavailable
from hpcq.domain.jobs import JobSpec, JobUid, NativeId, Observation, SubmissionKey
from hpcq.domain.states import FailureKind, JobState
from hpcq.execution.local import LocalRunner
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.pbs.backend import PbsBackend, create

pytestmark = pytest.mark.anyio

_UNKNOWN = NativeId("99999999")
_PATIENCE_SECONDS = 30


def _backend(fake: Pbs, *, accounting: bool = False) -> PbsBackend:
    settings = fake.settings(accounting=accounting)
    account = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "USER": _account()}
    options = SchedulerOptions(
        cluster_id="1",
        state_directory=Path("/nonexistent"),
        environment={**account, "PBS_CONF_FILE": settings["PBS_CONF_FILE"]},
        command_path=settings["SCHEDULER_PATH"],
        command_timeout_seconds=30,
        listing_limit_bytes=1 << 26,
        max_slots=1,
        cancel_grace_seconds=1,
        parallel_environment="orte",
    )
    return create(options, LocalRunner())


def _account() -> str:

    return pwd.getpwuid(os.geteuid()).pw_name


def _spec(folder: Path, body: str = "exit 3", **fields: object) -> JobSpec:
    script = folder / "s.sh"
    script.write_text(f"#!/bin/sh\n{body}\n")
    return JobSpec(
        name="study",
        working_directory=str(folder),
        script_file=str(script),
        **fields,  # type: ignore[arg-type]
    )


def _key() -> SubmissionKey:
    return SubmissionKey.for_uid(JobUid.new())


async def _ended(backend: PbsBackend, native_id: NativeId) -> Observation | None:
    """Wait until the job has left the queue; what history tells of it then."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while native_id in {seen.native_id for seen in (await backend.jobs()).observations}:
        assert time.monotonic() < deadline, "it never ended"
    told = (await backend.history([native_id])).observations
    return told[0] if told else None


@pytest.mark.parametrize(
    ("config", "accounting"),
    [
        ({}, False),
        ({"json": False}, False),
        ({"history": False}, True),
        ({"history": False, "json": False}, True),
    ],
    ids=["usual", "text", "accounting", "text-accounting"],
)
async def test_a_job_from_its_submission_to_its_end(
    tmp_path: Path, config: dict[str, object], accounting: bool
) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", **config), accounting=accounting)
    key = _key()
    native_id = await backend.submit(_spec(tmp_path, hold=True, slots=2), key)
    (queued,) = (await backend.jobs()).observations
    assert (queued.native_id, queued.state) == (native_id, JobState.QUEUED_HELD)
    assert (queued.submission_key, queued.account, queued.slots) == (key, None, 2)
    assert await backend.find(key) == native_id
    assert await backend.find(_key()) is None
    await backend.release(native_id)
    end = await _ended(backend, native_id)
    assert end is not None
    assert (end.state, end.failure_kind, end.exit_code) == (
        JobState.FAILED,
        FailureKind.NON_ZERO_EXIT,
        3,
    )
    assert end.usage is not None
    assert end.end_time is not None
    assert await backend.find(key) == native_id


async def test_without_history_and_accounting_nothing_is_made_up(tmp_path: Path) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", history=False))
    native_id = await backend.submit(_spec(tmp_path, "exit 0"), _key())
    assert await _ended(backend, native_id) is None


@pytest.mark.parametrize("history", [True, False])
async def test_a_job_that_is_deleted_while_it_waits_is_cancelled(
    tmp_path: Path, history: bool
) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", history=history), accounting=True)
    native_id = await backend.submit(_spec(tmp_path, hold=True), _key())
    await backend.cancel(native_id)
    end = await _ended(backend, native_id)
    assert end is not None
    assert (end.state, end.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
    assert (end.start_time, end.usage) == (None, None)


async def test_unknown_jobs_are_told(tmp_path: Path) -> None:
    backend = _backend(Pbs(tmp_path / "pbs"))
    for change in (backend.cancel, backend.hold, backend.release):
        with pytest.raises(JobNotFound):
            await change(_UNKNOWN)
    assert not (await backend.history([_UNKNOWN])).observations
    assert not (await backend.details([_UNKNOWN])).observations


async def test_a_server_that_is_away_is_told_everywhere(tmp_path: Path) -> None:
    fake = Pbs(tmp_path / "pbs")
    backend = _backend(fake)
    native_id = await backend.submit(_spec(tmp_path, hold=True), _key())
    fake.go_away()
    asked: list[Callable[[], object]] = [
        backend.jobs,
        lambda: backend.history([_UNKNOWN]),
        lambda: backend.find(_key()),
        lambda: backend.cancel(native_id),
        lambda: backend.submit(_spec(tmp_path), _key()),
        backend.queues,
        backend.nodes,
    ]
    for ask in asked:
        with pytest.raises(SchedulerUnavailable):
            await ask()  # type: ignore[misc]
    fake.come_back()
    (seen,) = (await backend.jobs()).observations
    assert seen.native_id == native_id


async def test_queues_and_hosts(tmp_path: Path) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", ncpus=8))
    queues = {queue.name: queue for queue in await backend.queues()}
    assert (queues["workq"].is_open, queues["closed"].is_open) == (True, False)
    (node,) = await backend.nodes()
    assert (node.is_up, node.slots_total, node.slots_used) == (True, 8, 0)
    assert await backend.version() == "pbs_version = 23.06.06"
