"""The Torque backend in front of the stand-in (``tests/fakebin/torque``)."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.fakebin.torque import Torque
from tests.recordings import RECORDED, read_case
from tests.submitting import submit_to

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import (
    CommandMissing,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    SchedulerUnavailable,
    WrongState,
)
from hpcq.domain.jobs import (
    ArrayRange,
    Dependency,
    DependencyCondition,
    JobSpec,
    JobUid,
    NativeId,
    Observation,
    SubmissionKey,
)
from hpcq.domain.states import FailureKind, JobState
from hpcq.execution.local import LocalRunner
from hpcq.execution.protocol import Command, Completed, Runner
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until
from hpcq.schedulers.torque.backend import TorqueBackend, create
from hpcq.schedulers.torque.parse import parse_qstat_xml
from hpcq.schedulers.torque.settings import TorqueSettings

T = TypeVar("T")


class Site:
    """One installation, a backend in front of it, and synchronous steps."""

    def __init__(self, directory: Path, runner: asyncio.Runner, **config: object) -> None:
        self.torque = Torque(directory / "torque", slots=4, keep_completed=3600, **config)
        self.directory = directory
        self._runner = runner
        self.backend = self.new_backend(self.torque.home)

    def new_backend(self, home: Path, runner: Runner | None = None) -> TorqueBackend:
        options = SchedulerOptions(
            cluster_id="test",
            state_directory=Path("/nonexistent"),
            environment={"PATH": "/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8"},
            command_path=f"{self.torque.path}:{os.environ['PATH']}",
            command_timeout_seconds=PATIENCE_SECONDS,
            listing_limit_bytes=1 << 28,
        )
        return create(options, runner or LocalRunner(), TorqueSettings(torque_home=home))

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(step)

    def spec(self, script: str, **fields: Any) -> JobSpec:
        path = self.directory / "script.sh"
        path.write_text(script)
        return JobSpec(
            name="run", working_directory=str(self.directory), script_file=str(path), **fields
        )

    def submit(self, script: str, key: SubmissionKey | None = None, **fields: Any) -> NativeId:
        return self.run(submit_to(self.backend, self.spec(script, **fields), key or new_key()))

    def listed(self, native_id: NativeId) -> Observation | None:
        listing = self.run(self.backend.jobs())
        assert listing.unreadable == []
        return next((s for s in listing.observations if s.native_id == native_id), None)

    def until_gone(self, native_id: NativeId) -> None:
        """Wait until a job is over, and have it forgotten."""
        until(
            lambda: (seen := self.listed(native_id)) is None or seen.state.is_final,
            lambda: self.listed(native_id),
        )
        self.torque.forget()
        assert self.listed(native_id) is None

    def until(self, native_id: NativeId, state: JobState) -> Observation:
        def look() -> Observation | None:
            seen = self.listed(native_id)
            return seen if seen is not None and seen.state is state else None

        found = until(look, lambda: self.listed(native_id))
        assert found is not None
        return found


def new_key() -> SubmissionKey:
    return SubmissionKey.for_uid(JobUid.new())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with asyncio.Runner() as runner:
        yield Site(tmp_path, runner)


def test_key_finds_job(site: Site) -> None:
    key = new_key()
    native_id = site.submit("true\n", key, hold=True)
    site.submit("true\n", hold=True)
    assert site.run(site.backend.find(key)) == native_id
    assert site.run(site.backend.find(new_key())) is None


@pytest.mark.parametrize("leaks", [False, True])
def test_key_inherited_by_child_job(tmp_path: Path, leaks: bool) -> None:
    with asyncio.Runner() as runner:
        site = Site(tmp_path, runner)
        key = new_key()
        # As a script did that a service had submitted which told it the key.
        variable = f"export HPCQ_KEY={key}\n" if leaks else ""
        child_script = "echo true | qsub -V -h -N child\n"
        script = f"env > seen\n{variable}PATH={site.torque.path}:$PATH\n{child_script}"
        parent = site.submit(script, key)
        site.until(parent, JobState.DONE)
        child = NativeId((tmp_path / f"run.o{parent}").read_text().partition(".")[0])
        seen = {one.native_id: one for one in site.run(site.backend.jobs()).observations}
        assert (seen[parent].submission_key, seen[child].submission_key) == (key, None)
        assert seen[child].name == "child"
        assert site.run(site.backend.find(key)) == parent
        assert "HPCQ" not in (tmp_path / "seen").read_text()
        assert str(key) not in (tmp_path / "seen").read_text()
        qstat = (site.torque.path / "qstat", "-x", child)
        shown = subprocess.run(qstat, capture_output=True, check=True).stdout
        assert (b"HPCQ_KEY=" in shown) == leaks
        site.run(site.backend.cancel(child))


def test_end_from_accounting(site: Site) -> None:
    native_id = site.submit("exit 3\n")
    site.until_gone(native_id)
    (seen,) = site.run(site.backend.history([native_id])).observations
    assert (seen.state, seen.exit_code, seen.name) == (JobState.FAILED, 3, "run")
    assert seen.usage is not None
    assert site.run(site.backend.history([NativeId("99")])).observations == []


def test_end_from_tracejob_accounting_closed(site: Site) -> None:
    backend = site.new_backend(site.directory / "closed")
    native_id = site.submit("exit 3\n")
    other = site.submit("exit 4\n")
    for each in (native_id, other):
        site.until_gone(each)
    unknown = NativeId("99")
    found = site.run(backend.history([native_id, unknown, other])).observations
    assert [(seen.native_id, seen.exit_code) for seen in found] == [(native_id, 3), (other, 4)]


@pytest.mark.parametrize(
    ("script", "kind", "code", "signal"),
    [
        ("kill -9 $$\n", FailureKind.SIGNAL, None, 9),
        ("kill -15 $$\n", FailureKind.SIGNAL, None, 15),
        ("exit 137\n", FailureKind.NON_ZERO_EXIT, 137, None),
        ("exit 255\n", FailureKind.NON_ZERO_EXIT, 255, None),
    ],
)
def test_end_signal_distinct_from_exit_status(
    tmp_path: Path, script: str, kind: FailureKind, code: int | None, signal: int | None
) -> None:
    with asyncio.Runner() as runner:
        site = Site(tmp_path, runner)
        native_id = site.submit(script)
        seen = site.until(native_id, JobState.FAILED)
        assert (seen.failure_kind, seen.exit_code, seen.exit_signal) == (kind, code, signal)
        site.until_gone(native_id)
        (seen,) = site.run(site.backend.history([native_id])).observations
        assert (seen.failure_kind, seen.exit_code, seen.exit_signal) == (kind, code, signal)


def test_usage_running_job(site: Site) -> None:
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


def test_cancel_ended_job(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        site = Site(tmp_path, runner)
        for array in (None, ArrayRange(first=1, last=2)):
            native_id = site.submit("true\n", array=array)
            site.until(native_id, JobState.DONE)
            assert not site.run(site.backend.cancel(native_id))
            assert not site.run(site.new_backend(site.torque.home).cancel(native_id))


def test_hold_running_job(site: Site) -> None:
    native_id = site.submit("sleep 600\n")
    site.until(native_id, JobState.RUNNING)
    with pytest.raises(WrongState):
        site.run(site.backend.act(Action.HOLD, native_id))
    site.run(site.backend.cancel(native_id))


def test_signal_ends_torque_shell(site: Site) -> None:
    native_id = site.submit("trap '' USR1\n: > ready\nexec sleep 600\n")
    until((site.directory / "ready").exists)
    site.run(site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1))
    assert site.until(native_id, JobState.FAILED).failure_kind is FailureKind.SIGNAL


def test_signal_to_exec_script(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        site = Site(tmp_path, runner, exec_with_exec=True)
        # The signal ends the sleep too.
        waits = "until [ -e got ]; do sleep 0.1; done; exit 0\n"
        native_id = site.submit(f"trap ': > got' USR1\n: > ready\n{waits}")
        until((site.directory / "ready").exists)
        site.run(site.backend.act(Action.SIGNAL, native_id, signal=Signal.USR1))
        site.until(native_id, JobState.DONE)


@pytest.mark.parametrize("action", [Action.SUSPEND, Action.RESUME, Action.REQUEUE])
def test_action_for_operators_only(tmp_path: Path, action: Action) -> None:
    with asyncio.Runner() as runner:
        site = Site(tmp_path, runner, operator=False)
        native_id = site.submit("exec sleep 600\n")
        with pytest.raises(NotAuthorized, match="additional permissions"):
            site.run(site.backend.act(action, native_id))
        site.run(site.backend.cancel(native_id))


@pytest.mark.parametrize("action", [Action.SUSPEND, Action.RESUME, Action.REQUEUE])
def test_action_on_job_not_running(site: Site, action: Action) -> None:
    native_id = site.submit("true\n", hold=True)
    with pytest.raises(WrongState):
        site.run(site.backend.act(action, native_id))
    site.run(site.backend.cancel(native_id))


@pytest.mark.parametrize("native_id", ["99", "99[1]", "99.elsewhere"])
def test_job_unknown(site: Site, native_id: str) -> None:
    for act in (
        site.backend.cancel,
        partial(site.backend.act, Action.HOLD),
        partial(site.backend.act, Action.RELEASE),
    ):
        with pytest.raises(JobNotFound):
            site.run(act(NativeId(native_id)))


def test_server_down(site: Site) -> None:
    site.torque.go_away()
    for step in (site.backend.jobs, site.backend.nodes, site.backend.queues):
        with pytest.raises(SchedulerUnavailable):
            site.run(step())
    with pytest.raises(SchedulerUnavailable):
        site.submit("true\n")
    site.torque.come_back()
    assert site.run(site.backend.jobs()).observations == []


def test_refusal_message_from_torque(site: Site) -> None:
    with pytest.raises(InvalidSpec, match="cannot locate feasible nodes") as caught:
        site.submit("true\n", slots=5)
    assert caught.value.field == "reservedSlots"
    with pytest.raises(InvalidSpec, match="requested queue not found") as caught:
        site.submit("true\n", queue="absent")
    assert caught.value.field == "queue"


def test_commands_of_other_scheduler(site: Site) -> None:
    qstat = site.torque.path / "qstat"
    qstat.write_text("#!/bin/sh\n[ $1 != --version ] || echo pbs_version = 23.06.06\n")
    for step in (site.backend.jobs, lambda: site.backend.details([NativeId("1")])):
        with pytest.raises(CommandMissing, match=f"{qstat} is not Torque's"):
            site.run(step())
    with pytest.raises(CommandMissing):
        site.submit("true\n")


def test_queues_hosts_and_version(site: Site) -> None:
    (queue,) = site.run(site.backend.queues())
    assert (queue.name, queue.is_open) == ("batch", True)
    (node,) = site.run(site.backend.nodes())
    assert (node.is_up, node.slots_total, node.slots_used) == (True, 4, 0)
    assert site.run(site.backend.version()) == "Torque 6.1.3.h5"


@pytest.mark.parametrize("release", ["6.1.3.h5", "4.2.10"])
def test_job_to_end_each_release(tmp_path: Path, release: str) -> None:
    with asyncio.Runner() as runner:
        site = Site(tmp_path, runner, release=release)
        assert site.run(site.backend.version()) == f"Torque {release}"
        key = new_key()
        native_id = site.submit("while [ ! -e go ]; do sleep 0.1; done; exit 3\n", key, slots=3)
        seen = site.until(native_id, JobState.RUNNING)
        assert (seen.slots, seen.hosts, seen.submission_key) == (3, ("vm",), key)
        (tmp_path / "go").touch()
        ended = site.until(native_id, JobState.FAILED)
        assert (ended.exit_code, ended.slots, ended.hosts) == (3, 3, ("vm",))
        assert ended.usage is not None


@pytest.mark.parametrize("release", ["6.1.3.h5", "4.2.10"])
def test_recordings_of_other_release(tmp_path: Path, release: str) -> None:
    torque = Torque(tmp_path / "torque", slots=8, keep_completed=300, release=release)
    made = tmp_path / "made"
    done = subprocess.run(
        [sys.executable, RECORDED / "torque" / "record.py", made],
        env={"PATH": f"{torque.path}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    (version,) = made.iterdir()
    assert release.startswith(version.name)
    for case, kind in {
        "deleted": FailureKind.CANCELLED,
        "deleted-queued": FailureKind.CANCELLED,
        "exit137": FailureKind.NON_ZERO_EXIT,
        "sig15": FailureKind.SIGNAL,
        "wallkill": FailureKind.TIME_LIMIT,
    }.items():
        (seen,) = parse_qstat_xml(
            read_case(version / f"qstat-x.complete-{case}").stdout
        ).observations
        assert seen.failure_kind is kind


class Saying:
    """A runner of commands that all print this."""

    def __init__(self, stdout: bytes, stderr: bytes) -> None:
        self.printed = (stdout, stderr)

    async def run(self, command: Command) -> Completed:
        stdout, stderr = self.printed
        return Completed(argv=command.argv, exit_code=0, stdout=stdout, stderr=stderr)


@pytest.mark.parametrize(
    ("stdout", "stderr", "version"),
    [
        (b"Version: 6.1.2\nCommit: abc\n", b"", "Torque 6.1.2"),
        (b"", b"version: 4.2.10\n", "Torque 4.2.10"),
    ],
)
def test_version_each_release(site: Site, stdout: bytes, stderr: bytes, version: str) -> None:
    backend = site.new_backend(site.torque.home, Saying(stdout, stderr))
    assert site.run(backend.version()) == version


def test_history_without_tracejob(site: Site) -> None:
    native_id = site.submit("true\n")
    site.until_gone(native_id)
    (site.torque.path / "tracejob").unlink()
    backend = site.new_backend(site.directory / "closed")
    assert site.run(backend.history([native_id])).observations == []


def test_details_many_jobs(site: Site) -> None:
    ids = [site.submit("true\n", hold=True) for _ in range(10)]
    found = site.run(site.backend.details(ids)).observations
    assert {seen.native_id for seen in found} == set(ids)


def test_fake_server_files_removed_after_end(site: Site) -> None:
    native_id = site.submit("true\n")
    site.until_gone(native_id)
    assert not list((site.torque.home.parent / "spool").iterdir())


def waits_for(native_id: NativeId, condition: DependencyCondition) -> Dependency:
    return Dependency(native_id=native_id, uid=JobUid.new(), condition=condition)


SUCCESS, FAILURE = DependencyCondition.SUCCESS, DependencyCondition.FAILURE
ANY, STARTED = DependencyCondition.ANY, DependencyCondition.STARTED


def test_array_and_array_jobs(site: Site) -> None:
    key = new_key()
    script = 'echo "$PBS_ARRAYID"; test "$PBS_ARRAYID" != 3\n'
    native_id = site.submit(script, key, array=ArrayRange(first=1, last=5, step=2))
    assert native_id.isdecimal()
    assert site.run(site.backend.find(key)) == native_id
    whole = site.until(native_id, JobState.FAILED)
    assert (whole.name, whole.array_job_id, whole.submission_key) == ("run", None, key)
    assert whole.state_reason is not None
    assert whole.state_reason.startswith("1 of 3 tasks failed: 3.")
    site.until_gone(native_id)
    tasks = [NativeId(f"{native_id}[{index}]") for index in (1, 3, 5)]
    seen = site.run(site.backend.history([native_id, *tasks])).observations
    told = {one.native_id: (one.state, one.array_job_id, one.array_task_id) for one in seen}
    assert told == {
        native_id: (JobState.FAILED, None, None),
        tasks[0]: (JobState.DONE, native_id, 1),
        tasks[1]: (JobState.FAILED, native_id, 3),
        tasks[2]: (JobState.DONE, native_id, 5),
    }
    for index in (1, 3, 5):
        assert (site.directory / f"run.o{native_id}-{index}").read_text() == f"{index}\n"


def test_job_from_shell_by_id(site: Site) -> None:
    def qsub(*options: str) -> NativeId:
        argv = [str(site.torque.path / "qsub"), "-h", *options]
        printed = subprocess.run(argv, input=b"true\n", capture_output=True, check=True).stdout
        return NativeId(printed.decode().partition(".")[0].removesuffix("[]"))

    job, array = qsub(), qsub("-t", "1-2")
    task = NativeId(f"{array}[2]")
    for ids in ([job], [array], [task], [task, array, job]):
        backend = site.new_backend(site.torque.home)
        found = site.run(backend.details(ids)).observations
        assert {seen.native_id for seen in found} == set(ids)
    site.run(site.backend.cancel(array))


def test_array_end_from_accounting(site: Site) -> None:
    script = 'while [ -n "$PBS_ARRAYID" ] && [ ! -e "done$PBS_ARRAYID" ]; do sleep 0.1; done\n'
    native_id = site.submit(script, array=ArrayRange(first=1, last=2))
    tasks = [NativeId(f"{native_id}[{number}]") for number in (1, 2)]
    (site.directory / "done1").touch()
    site.until_gone(tasks[0])
    backend = site.new_backend(site.torque.home)
    seen = site.run(backend.history([native_id, *tasks])).observations
    assert [one.native_id for one in seen] == tasks[:1]
    (site.directory / "done2").touch()
    site.until_gone(native_id)
    seen = site.run(site.backend.history([native_id])).observations
    assert [(one.native_id, one.state) for one in seen] == [(native_id, JobState.DONE)]


def test_array_deleted_with_waiting_jobs(site: Site) -> None:
    native_id = site.submit("sleep 600\n", array=ArrayRange(first=1, last=3, max_running=1))
    site.until(NativeId(f"{native_id}[1]"), JobState.RUNNING)
    site.run(site.backend.cancel(native_id))
    site.until_gone(native_id)
    backend = site.new_backend(site.torque.home)
    seen = {one.native_id: one for one in site.run(backend.history([native_id])).observations}
    assert seen[native_id].failure_kind is FailureKind.CANCELLED
    waited = NativeId(f"{native_id}[3]")
    (seen_waiting,) = site.run(backend.history([waited])).observations
    assert seen_waiting.failure_kind is FailureKind.CANCELLED
    assert seen_waiting.start_time is None


class Spoiling:
    """A runner whose listings hold one record that cannot be read."""

    async def run(self, command: Command) -> Completed:
        done = await LocalRunner().run(command)
        spoilt = done.stdout.replace(b"<job_state>", b"<job_state><unknown>", 1)
        return Completed(argv=done.argv, exit_code=0, stdout=spoilt, stderr=done.stderr)


def test_key_in_unparsable_record(site: Site) -> None:
    key = new_key()
    site.submit("true\n", key, hold=True)
    backend = site.new_backend(site.torque.home, Spoiling())
    with pytest.raises(OutputParseError, match="not understood"):
        site.run(backend.find(key))
    assert site.run(backend.find(new_key())) is None


def test_array_with_forgotten_jobs(site: Site) -> None:
    """The first fails and is forgotten while the second runs; another service takes over then."""
    script = 'if [ "$PBS_ARRAYID" = 1 ]; then exit 9; fi; while [ ! -e done ]; do sleep 0.1; done\n'
    native_id = site.submit(script, array=ArrayRange(first=1, last=2))
    site.until_gone(NativeId(f"{native_id}[1]"))
    for backend in (site.backend, site.new_backend(site.torque.home)):
        (seen,) = [
            one for one in site.run(backend.jobs()).observations if one.native_id == native_id
        ]
        assert seen.state is JobState.RUNNING
    site.backend = backend
    (site.directory / "done").touch()
    ended = site.until(native_id, JobState.FAILED)
    assert ended.exit_code == 9


def test_array_max_running_jobs(site: Site) -> None:
    array = ArrayRange(first=0, last=3, max_running=1)
    native_id = site.submit("sleep 600\n", array=array)
    site.until(NativeId(f"{native_id}[0]"), JobState.RUNNING)
    waiting = site.listed(NativeId(f"{native_id}[1]"))
    assert waiting is not None
    assert (waiting.state, waiting.native_state) == (JobState.QUEUED, "H")
    assert waiting.state_reason == "It waits until fewer jobs of its array run."
    # An array that no listing has shown, to a service that has just been started.
    backend = site.new_backend(site.torque.home)
    site.run(backend.cancel(native_id))
    ended = site.until(native_id, JobState.FAILED)
    assert ended.failure_kind is FailureKind.CANCELLED


@pytest.mark.parametrize("directory", ["plain", "with blank"])
def test_array_output_files(site: Site, directory: str) -> None:
    site.directory /= directory
    site.directory.mkdir()
    array = ArrayRange(first=1, last=2)
    for path in (None, "out.txt", "with blank.txt"):
        native_id = site.submit("echo out; echo err >&2\n", array=array, stdout_path=path)
        site.until(native_id, JobState.DONE)
        for index in (1, 2):
            name = path or f"run.o{native_id}"
            assert (site.directory / f"{name}-{index}").read_text() == "out\n"
            assert (site.directory / f"run.e{native_id}-{index}").read_text() == "err\n"


@pytest.mark.parametrize(
    ("code", "condition", "runs"),
    [
        (0, SUCCESS, True),
        (1, SUCCESS, False),
        (1, FAILURE, True),
        (0, FAILURE, False),
        (1, ANY, True),
        (0, STARTED, True),
    ],
)
@pytest.mark.parametrize("array", [None, ArrayRange(first=1, last=2)], ids=["job", "array"])
def test_dependency_each_condition(
    site: Site, code: int, condition: DependencyCondition, runs: bool, array: ArrayRange | None
) -> None:
    # Of an array, one job ends as it is told, and the other well.
    script = f'while [ ! -e go ]; do sleep 0.1; done; [ "$PBS_ARRAYID" = 2 ] || exit {code}\n'
    first = site.submit(script, hold=True, array=array)
    second = site.submit("exit 5\n", depends_on=(waits_for(first, condition),))
    waiting = site.listed(second)
    assert waiting is not None
    assert (waiting.state, waiting.depends_on) == (JobState.QUEUED_HELD, (first,))
    assert waiting.state_reason == "It waits for the jobs that it depends on."
    site.run(site.backend.act(Action.RELEASE, first))
    if condition is not STARTED:
        site.until(first, JobState.RUNNING)
        (site.directory / "go").touch()
    ended = site.until(second, JobState.FAILED)
    (site.directory / "go").touch()
    assert ended.exit_code == (5 if runs else None)
    if not runs:
        assert ended.failure_kind is FailureKind.CANCELLED
        assert ended.state_reason is not None
        assert ended.state_reason.startswith("Job deleted as result of dependency on job")


def test_dependency_on_forgotten_job(site: Site) -> None:
    gone = site.submit("true\n")
    site.until_gone(gone)
    with pytest.raises(InvalidSpec, match="does not know the job") as caught:
        site.submit("true\n", depends_on=(waits_for(gone, ANY),))
    assert caught.value.field == "dependsOn"


def test_dependency_impossible_meanwhile(site: Site) -> None:
    first = site.submit("exit 1\n")
    site.until(first, JobState.FAILED)
    with pytest.raises(InvalidSpec, match="Invalid Job Dependency"):
        site.submit("true\n", depends_on=(waits_for(first, SUCCESS),))


def test_array_too_large(site: Site) -> None:
    with pytest.raises(InvalidSpec, match="Bad Job Array Request") as caught:
        site.submit("true\n", array=ArrayRange(first=0, last=20_000))
    assert caught.value.field == "array"
    with pytest.raises(InvalidSpec, match="knows no step"):
        site.submit("true\n", array=ArrayRange(first=0, last=100_000, step=2))
