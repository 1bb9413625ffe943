"""The Torque backend in front of the stand-in (``tests/fakebin/torque``)."""

import asyncio
import os
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.fakebin.torque import Torque

from hpcq.domain.errors import CommandFailed, JobNotFound, SchedulerUnavailable, WrongState
from hpcq.domain.jobs import JobSpec, JobUid, NativeId, Observation, SubmissionKey
from hpcq.domain.states import FailureKind, JobState
from hpcq.execution.local import LocalRunner
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.torque.backend import TorqueBackend, create

T = TypeVar("T")


class Site:
    """One installation, a backend in front of it, and synchronous steps."""

    def __init__(self, directory: Path, runner: asyncio.Runner) -> None:
        self.torque = Torque(directory / "torque", slots=4, keep_completed=1)
        self.directory = directory
        self._runner = runner
        self.backend = self.new_backend(self.torque.home)

    def new_backend(self, home: Path) -> TorqueBackend:
        options = SchedulerOptions(
            cluster_id="test",
            state_directory=Path("/nonexistent"),
            environment={"PATH": "/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8"},
            command_path=f"{self.torque.path}:{os.environ['PATH']}",
            command_timeout_seconds=30,
            listing_limit_bytes=1 << 28,
            max_slots=1,
            cancel_grace_seconds=1,
            parallel_environment="orte",
            torque_home=home,
        )
        return create(options, LocalRunner())

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(step)

    def spec(self, script: str, **fields: Any) -> JobSpec:
        path = self.directory / "script.sh"
        path.write_text(script)
        return JobSpec(
            name="run", working_directory=str(self.directory), script_file=str(path), **fields
        )

    def submit(self, script: str, key: SubmissionKey | None = None, **fields: Any) -> NativeId:
        return self.run(self.backend.submit(self.spec(script, **fields), key or new_key()))

    def listed(self, native_id: NativeId) -> Observation | None:
        listing = self.run(self.backend.jobs())
        assert listing.unreadable == []
        return next((s for s in listing.observations if s.native_id == native_id), None)

    def until_gone(self, native_id: NativeId) -> None:
        deadline = time.monotonic() + 60
        while (seen := self.listed(native_id)) is not None:
            assert time.monotonic() < deadline, seen
            time.sleep(0.1)

    def until(self, native_id: NativeId, state: JobState) -> Observation:
        deadline = time.monotonic() + 60
        while (seen := self.listed(native_id)) is None or seen.state is not state:
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        return seen


def new_key() -> SubmissionKey:
    return SubmissionKey.for_uid(JobUid.new())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with asyncio.Runner() as runner:
        yield Site(tmp_path, runner)


def test_a_job_is_found_by_its_key(site: Site) -> None:
    key = new_key()
    native_id = site.submit("true\n", key, hold=True)
    site.submit("true\n", hold=True)
    assert site.run(site.backend.find(key)) == native_id
    assert site.run(site.backend.find(new_key())) is None


def test_an_end_is_told_by_the_accounting_when_the_queue_has_forgotten_it(site: Site) -> None:
    native_id = site.submit("exit 3\n")
    site.until_gone(native_id)
    (seen,) = site.run(site.backend.history([native_id])).observations
    assert (seen.state, seen.exit_code, seen.name) == (JobState.FAILED, 3, "run")
    assert seen.usage is not None
    assert site.run(site.backend.history([NativeId("99")])).observations == []


def test_an_end_is_told_by_the_traces_where_the_accounting_is_closed(site: Site) -> None:
    backend = site.new_backend(site.directory / "closed")
    native_id = site.submit("exit 3\n")
    other = site.submit("exit 4\n")
    for each in (native_id, other):
        site.until_gone(each)
    unknown = NativeId("99")
    found = site.run(backend.history([native_id, unknown, other])).observations
    assert [(seen.native_id, seen.exit_code) for seen in found] == [(native_id, 3), (other, 4)]


def test_what_a_running_job_uses_is_a_detail(site: Site) -> None:
    native_id = site.submit("sleep 600\n", slots=2)
    listed = site.until(native_id, JobState.RUNNING)
    assert listed.usage is None
    assert listed.slots == 2
    (seen,) = site.run(site.backend.details([native_id])).observations
    assert seen.usage is not None
    both = site.run(site.backend.details([native_id, NativeId("99")])).observations
    assert [seen.native_id for seen in both] == [native_id]
    assert site.run(site.backend.details([NativeId("99")])).observations == []
    site.run(site.backend.cancel(native_id))
    ended = site.until(native_id, JobState.FAILED)
    assert ended.failure_kind is FailureKind.CANCELLED
    site.run(site.backend.cancel(native_id))  # a finished job is left alone


def test_a_running_job_cannot_be_held(site: Site) -> None:
    native_id = site.submit("sleep 600\n")
    site.until(native_id, JobState.RUNNING)
    with pytest.raises(WrongState):
        site.run(site.backend.hold(native_id))
    site.run(site.backend.cancel(native_id))


@pytest.mark.parametrize("native_id", ["99", "99[1]", "99.elsewhere"])
def test_unknown_jobs(site: Site, native_id: str) -> None:
    for act in (site.backend.cancel, site.backend.hold, site.backend.release):
        with pytest.raises(JobNotFound):
            site.run(act(NativeId(native_id)))


def test_a_server_that_is_away(site: Site) -> None:
    site.torque.go_away()
    for step in (site.backend.jobs, site.backend.nodes, site.backend.queues):
        with pytest.raises(SchedulerUnavailable):
            site.run(step())
    with pytest.raises(SchedulerUnavailable):
        site.submit("true\n")
    site.torque.come_back()
    assert site.run(site.backend.jobs()).observations == []


def test_refusals_are_told_in_torque_s_words(site: Site) -> None:
    with pytest.raises(CommandFailed, match="cannot locate feasible nodes"):
        site.submit("true\n", slots=5)
    with pytest.raises(CommandFailed, match="requested queue not found"):
        site.submit("true\n", queue="absent")


def test_queues_hosts_and_version(site: Site) -> None:
    (queue,) = site.run(site.backend.queues())
    assert (queue.name, queue.is_open) == ("batch", True)
    (node,) = site.run(site.backend.nodes())
    assert (node.is_up, node.slots_total, node.slots_used) == (True, 4, 0)
    assert site.run(site.backend.version()) == "Torque 6.1.3.h5"


def test_more_jobs_than_are_asked_for_one_by_one(site: Site) -> None:
    ids = [site.submit("true\n", hold=True) for _ in range(10)]
    found = site.run(site.backend.details(ids)).observations
    assert {seen.native_id for seen in found} == set(ids)


def test_the_stand_in_keeps_no_files_of_jobs_that_ended(site: Site) -> None:
    native_id = site.submit("true\n")
    site.until_gone(native_id)
    assert not list((site.torque.home.parent / "spool").iterdir())
