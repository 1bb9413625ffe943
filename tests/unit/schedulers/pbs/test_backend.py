"""The backend on the stand-in: with history and JSON, and without either."""

import os
import pwd
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from tests.fakebin.pbs import Pbs
from tests.submitting import submit_to

from hpcq.domain.actions import Action
from hpcq.domain.errors import (
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
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.pbs.backend import PbsBackend, create
from hpcq.schedulers.pbs.settings import PbsSettings
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.anyio

_UNKNOWN = NativeId("99999999")


def _backend(fake: Pbs, *, accounting: bool = False) -> PbsBackend:
    settings = fake.settings(accounting=accounting)
    account = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "USER": _account()}
    options = SchedulerOptions(
        cluster_id="1",
        state_directory=Path("/nonexistent"),
        environment={**account, "PBS_CONF_FILE": settings["PBS_CONF_FILE"]},
        command_path=settings["SCHEDULER_PATH"],
        command_timeout_seconds=PATIENCE_SECONDS,
        listing_limit_bytes=1 << 26,
    )
    return create(options, LocalRunner(), PbsSettings())


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

    async def has_left() -> bool:
        return native_id not in {seen.native_id for seen in (await backend.jobs()).observations}

    await eventually(has_left)
    told = (await backend.history([native_id])).observations
    return told[0] if told else None


@pytest.mark.parametrize(
    ("config", "accounting"),
    [
        ({}, False),
        ({"dsv": False}, False),
        ({"history": False}, True),
        ({"history": False, "dsv": False}, True),
        ({"release": True}, False),
    ],
    ids=["usual", "text", "accounting", "text-accounting", "release"],
)
async def test_job_lifecycle(tmp_path: Path, config: dict[str, object], accounting: bool) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", **config), accounting=accounting)
    key = _key()
    native_id = await submit_to(backend, _spec(tmp_path, hold=True, slots=2), key)
    (queued,) = (await backend.jobs()).observations
    assert (queued.native_id, queued.state) == (native_id, JobState.QUEUED_HELD)
    assert (queued.submission_key, queued.account, queued.slots) == (key, None, 2)
    assert await backend.find(key) == native_id
    assert await backend.find(_key()) is None
    await backend.act(Action.RELEASE, native_id)
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


_OPERATORS_ONLY = [Action.SUSPEND, Action.RESUME, Action.REQUEUE]


@pytest.mark.parametrize("action", _OPERATORS_ONLY)
async def test_action_for_operators_only(tmp_path: Path, action: Action) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", operator=False))
    native_id = await submit_to(backend, _spec(tmp_path, hold=True), _key())
    with pytest.raises(NotAuthorized, match="Unauthorized Request"):
        await backend.act(action, native_id)


@pytest.mark.parametrize("action", _OPERATORS_ONLY)
async def test_action_on_waiting_job(tmp_path: Path, action: Action) -> None:
    backend = _backend(Pbs(tmp_path / "pbs"))
    native_id = await submit_to(backend, _spec(tmp_path, hold=True), _key())
    with pytest.raises(WrongState, match="Request invalid for state of job"):
        await backend.act(action, native_id)


@pytest.mark.parametrize("dsv", [True, False])
async def test_alter_held_job(tmp_path: Path, dsv: bool) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", dsv=dsv, queues=["long"]))
    spec = _spec(tmp_path, hold=True, slots=2, memory_limit_bytes=1 << 30)
    native_id = await submit_to(backend, spec, _key())
    values = {
        "name": "other name",
        "queue": "long",
        "wall_time_limit_seconds": 60,
        "memory_limit_bytes": 1 << 31,
    }
    changed = replace(spec, **values)  # type: ignore[arg-type]
    await backend.alter(native_id, changed, frozenset(values))
    (seen,) = (await backend.details([native_id])).observations
    assert (seen.name, seen.queue, seen.slots) == ("other_name", "long", 2)
    assert (seen.wall_time_limit_seconds, seen.memory_limit_bytes) == (60, 1 << 31)
    with pytest.raises(InvalidSpec):
        await backend.alter(native_id, replace(spec, queue="nosuch"), frozenset({"queue"}))
    # A move that a change behind it does not follow.
    moved = replace(spec, queue="workq", priority=4000)
    with pytest.raises(InvalidSpec) as caught:
        await backend.alter(native_id, moved, frozenset({"queue", "priority"}))
    assert caught.value.field == "priority"
    (seen,) = (await backend.details([native_id])).observations
    assert seen.queue == "workq"
    await backend.cancel(native_id)


async def test_alter_running_job(tmp_path: Path) -> None:
    backend = _backend(Pbs(tmp_path / "pbs"))
    spec = _spec(tmp_path, "sleep 600")
    native_id = await submit_to(backend, spec, _key())
    with pytest.raises(WrongState):
        await backend.alter(native_id, replace(spec, name="x"), frozenset({"name"}))
    with pytest.raises(JobNotFound):
        await backend.alter(_UNKNOWN, spec, frozenset({"name"}))
    await backend.cancel(native_id)


async def test_end_without_history_or_accounting(tmp_path: Path) -> None:
    fake = Pbs(tmp_path / "pbs", history=False)
    (fake.path / "tracejob").unlink()
    backend = _backend(fake)
    native_id = await submit_to(backend, _spec(tmp_path, "exit 0"), _key())
    assert await _ended(backend, native_id) is None


@pytest.mark.parametrize("deleted", [True, False])
async def test_end_from_tracejob(tmp_path: Path, deleted: bool) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", history=False))
    native_id = await submit_to(backend, _spec(tmp_path, hold=deleted), _key())
    if deleted:
        await backend.cancel(native_id)
    end = await _ended(backend, native_id)
    assert end is not None
    kind = FailureKind.CANCELLED if deleted else FailureKind.NON_ZERO_EXIT
    assert (end.failure_kind, end.exit_code) == (kind, None if deleted else 3)
    assert (end.name, end.owner) == ("study", _account())
    assert not (await backend.history([_UNKNOWN])).observations


async def test_end_of_job_with_forgotten_key(tmp_path: Path) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", history=False, exit_seconds=0.1), accounting=True)
    key, since = _key(), datetime.now(UTC)
    spec = _spec(tmp_path, "exit 0", account="project")
    native_id = await submit_to(backend, spec, key)
    await _ended(backend, native_id)
    # Its account is its key: nobody has to guess whose it is.
    await _ended(backend, await submit_to(backend, _spec(tmp_path, "exit 0"), _key()))
    assert await backend.find(key) is None
    assert await backend.find_similar_ended(spec, since) == [native_id]
    assert await backend.find_similar_ended(spec, since + timedelta(days=1)) == []


def _files(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


# 1 succeeds, 2 fails; nobody sees the key.
_TASK = ': > "task.$PBS_ARRAY_INDEX$HPCQ_KEY"; test $PBS_ARRAY_INDEX != 2'


@pytest.mark.parametrize(
    ("config", "accounting"),
    [({}, False), ({"groups_ids": False}, False), ({"history": False}, True)],
    ids=["usual", "without -E", "accounting"],
)
async def test_array_lifecycle(tmp_path: Path, config: dict[str, object], accounting: bool) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", **config), accounting=accounting)
    key = _key()
    array = ArrayRange(first=1, last=4, step=1, max_running=3)
    spec = _spec(tmp_path, _TASK, array=array, hold=True, stdout_path="my out")
    native_id = await submit_to(backend, spec, key)
    assert native_id.isdigit()
    assert await backend.find(key) == native_id
    queued = {seen.native_id: seen for seen in (await backend.jobs()).observations}
    assert queued.keys() == {native_id, *(f"{native_id}[{n}]" for n in range(1, 5))}
    assert (queued[native_id].state, queued[native_id].submission_key) == (
        JobState.QUEUED_HELD,
        key,
    )
    assert queued[native_id].is_array
    task = queued[NativeId(f"{native_id}[2]")]
    assert (task.array_job_id, task.array_task_id, task.submission_key) == (native_id, 2, key)
    await backend.cancel(NativeId(f"{native_id}[4]"))
    await backend.act(Action.RELEASE, native_id)
    end = await _ended(backend, native_id)
    assert end is not None
    assert (end.state, end.failure_kind, end.exit_code) == (
        JobState.FAILED,
        FailureKind.NON_ZERO_EXIT,
        1,
    )
    assert end.submission_key in (key, None)
    tasks = [NativeId(f"{native_id}[{n}]") for n in (1, 2, 4)]
    ends = {seen.native_id: seen for seen in (await backend.history(tasks)).observations}
    assert [(ends[i].state, ends[i].failure_kind) for i in tasks] == [
        (JobState.DONE, None),
        (JobState.FAILED, FailureKind.NON_ZERO_EXIT),
        (JobState.FAILED, FailureKind.CANCELLED),
    ]
    assert _files(tmp_path, "my out*") == [f"my out.{number}" for number in (1, 2, 3)]
    assert _files(tmp_path, "task.*") == ["task.1", "task.2", "task.3"]


async def test_child_jobs_with_inherited_environment(tmp_path: Path) -> None:
    """``qsub -V`` in a job, also in one whose script itself says ``#PBS -V``."""
    fake = Pbs(tmp_path / "pbs", exit_seconds=0.1)
    backend = _backend(fake)
    body = (
        "#PBS -V\n"
        f"echo 'env > child.env; sleep 300' | {fake.path}/qsub -f -V -N child > child.id\n"
        "env > parent.env\n"
        "sleep 300"
    )
    key = _key()
    native_id = await submit_to(backend, _spec(tmp_path, body), key)

    async def both_are_listed() -> bool:
        return len((await backend.jobs()).observations) == 2

    await eventually(both_are_listed)
    seen = {job.native_id: job for job in (await backend.jobs()).observations}
    child = seen[NativeId((tmp_path / "child.id").read_text().partition(".")[0])]
    assert (seen[native_id].submission_key, child.submission_key) == (key, None)
    assert (seen[native_id].name, child.name) == ("study", "child")
    assert await backend.find(key) == native_id
    for env in _files(tmp_path, "*.env"):
        assert "hpcq" not in (tmp_path / env).read_text().replace(str(tmp_path), "").lower()
    await backend.cancel(native_id)
    assert (await _ended(backend, native_id)) is not None
    assert child.native_id in {job.native_id for job in (await backend.jobs()).observations}
    await backend.cancel(child.native_id)


@pytest.mark.parametrize("history", [True, False], ids=["history", "accounting"])
async def test_array_tasks_observed(tmp_path: Path, history: bool) -> None:
    fake = Pbs(tmp_path / "pbs", history=history, exit_seconds=0.1)
    backend = _backend(fake, accounting=not history)
    array = ArrayRange(first=1, last=2)
    native_id = await submit_to(backend, _spec(tmp_path, _TASK, array=array), _key())
    await _ended(backend, native_id)
    told = {seen.native_id: seen for seen in (await backend.history([native_id])).observations}
    assert {i: (seen.state, seen.exit_code) for i, seen in told.items()} == {
        native_id: (JobState.FAILED, 1),
        f"{native_id}[1]": (JobState.DONE, 0),
        f"{native_id}[2]": (JobState.FAILED, 1),
    }


async def test_array_deleted_before_start(tmp_path: Path) -> None:
    for history in (True, False):
        fake = Pbs(tmp_path / str(history), history=history, exit_seconds=0.1)
        backend = _backend(fake, accounting=not history)
        array = ArrayRange(first=1, last=2)
        native_id = await submit_to(backend, _spec(tmp_path, hold=True, array=array), _key())
        assert len((await backend.jobs()).observations) == 3
        await backend.cancel(native_id)
        await _ended(backend, native_id)
        task = NativeId(f"{native_id}[2]")
        (end,) = (await backend.history([task])).observations
        assert (end.native_id, end.array_job_id, end.array_task_id) == (task, native_id, 2)
        assert (end.state, end.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
        assert (end.start_time, end.exit_code) == (None, None)


async def test_array_of_script_directive(tmp_path: Path) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", exit_seconds=0.1))
    body = "#PBS -J 4-6:2 -N own\ntest $PBS_ARRAY_INDEX = 4"
    spec = _spec(tmp_path, body)
    native_id = await submit_to(backend, replace(spec, name="own"), _key())
    assert native_id.isdigit()
    listed = {seen.native_id for seen in (await backend.jobs()).observations}
    assert listed <= {native_id, f"{native_id}[4]", f"{native_id}[6]"}
    end = await _ended(backend, native_id)
    assert end is not None
    assert (end.state, end.exit_code) == (JobState.FAILED, 1)
    assert _files(tmp_path, "own.o*") == [f"own.o{native_id}.{n}" for n in (4, 6)]
    directives = backend.check_script(spec, f"#!/bin/sh\n{body}\n".encode())
    assert directives.stdout == "study.o%j.%a"


async def test_array_end_from_tracejob(tmp_path: Path) -> None:
    """Neither history nor accounting: ``tracejob`` tells of the tasks alone."""
    fake = Pbs(tmp_path / "pbs", history=False, exit_seconds=0.1)
    backend = _backend(fake)
    body = "#PBS -J 1-2\ntest $PBS_ARRAY_INDEX = 1"
    native_id = await submit_to(backend, _spec(tmp_path, body), _key())
    end = await _ended(backend, native_id)
    assert end is not None
    assert (end.state, end.failure_kind, end.exit_code) == (
        JobState.FAILED,
        FailureKind.NON_ZERO_EXIT,
        1,
    )
    assert end.is_array


async def test_end_deleted_while_running_exit_status_0(tmp_path: Path) -> None:
    for history in (True, False):
        fake = Pbs(tmp_path / str(history), history=history, exit_seconds=0.1)
        backend = _backend(fake, accounting=not history)
        body = f"trap 'exit 0' TERM; : > began.{history}; while :; do sleep 0.1; done"
        native_id = await submit_to(backend, _spec(tmp_path, body), _key())

        async def has_begun(name: str = f"began.{history}") -> bool:
            return name in _files(tmp_path, "began.*")

        await eventually(has_begun)
        await backend.cancel(native_id)
        end = await _ended(backend, native_id)
        assert end is not None
        assert (end.state, end.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
        assert end.exit_code == 0
        assert "deleted by" in (end.state_reason or "")


async def test_array_end_one_task_failed(tmp_path: Path) -> None:
    """PBS itself says 0 of it."""
    backend = _backend(Pbs(tmp_path / "pbs", exit_seconds=0.1, ncpus=1))
    body = "test $PBS_ARRAY_INDEX != 1 || exit 4"
    array = ArrayRange(first=1, last=2)
    native_id = await submit_to(backend, _spec(tmp_path, body, array=array), _key())
    end = await _ended(backend, native_id)
    assert end is not None
    assert (end.state, end.failure_kind, end.exit_code) == (
        JobState.FAILED,
        FailureKind.NON_ZERO_EXIT,
        4,
    )


def _with_a_stranger_s_qstat(fake: Pbs, folder: Path, *, knows_exec: bool) -> None:
    """Let another scheduler's ``qstat`` come first in the service's PATH."""
    (folder / "exec").mkdir()
    (folder / "exec" / "bin").symlink_to(fake.path)
    if knows_exec:
        Path(fake.settings()["PBS_CONF_FILE"]).write_text(f"PBS_EXEC={folder}/exec\n")
    fake.path = folder / "stranger"
    fake.path.mkdir()
    qstat = fake.path / "qstat"
    qstat.write_text("#!/bin/sh\necho 'queuename    qtype resv/used/tot. load_avg arch   states'\n")
    qstat.chmod(0o755)


async def test_qstat_of_other_scheduler_ignored(tmp_path: Path) -> None:
    fake = Pbs(tmp_path / "pbs")
    _with_a_stranger_s_qstat(fake, tmp_path, knows_exec=True)
    assert (await _backend(fake).jobs()).observations == []


async def test_qstat_of_other_scheduler_named(tmp_path: Path) -> None:
    fake = Pbs(tmp_path / "pbs")
    _with_a_stranger_s_qstat(fake, tmp_path, knows_exec=False)
    with pytest.raises(OutputParseError, match=f"{tmp_path}/stranger/qstat"):
        await _backend(fake).jobs()


async def test_outputs_in_one_file(tmp_path: Path) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", exit_seconds=0.1))
    for name in ("plain.txt", "odd name.txt"):
        spec = _spec(tmp_path, "echo out; echo err >&2", stdout_path=name, stderr_path=name)
        await _ended(backend, await submit_to(backend, spec, _key()))
        assert (tmp_path / name).read_text() == "out\nerr\n"


async def test_array_tasks_ended_before_array(tmp_path: Path) -> None:
    fake = Pbs(tmp_path / "pbs", history=False, exit_seconds=0.1)
    backend = _backend(fake)
    array = ArrayRange(first=3, last=4)
    spec = _spec(tmp_path, "test $PBS_ARRAY_INDEX = 3 && exit 5; sleep 300", array=array)
    native_id = await submit_to(backend, spec, _key())
    task = NativeId(f"{native_id}[3]")
    end = await _ended(backend, task)
    assert end is not None
    assert (end.state, end.exit_code) == (JobState.FAILED, 5)
    await backend.cancel(native_id)


async def test_array_of_one_task(tmp_path: Path) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", exit_seconds=0.1))
    spec = _spec(tmp_path, "exit 0", array=ArrayRange(first=7, last=7))
    native_id = await submit_to(backend, spec, _key())
    end = await _ended(backend, native_id)
    assert end is not None
    assert (end.state, end.exit_code) == (JobState.DONE, 0)
    assert _files(tmp_path, "study.*") == [f"study.{letter}{native_id}.7" for letter in "eo"]


async def test_array_running_limit_unsupported(tmp_path: Path) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", limits_arrays=False))
    array = ArrayRange(first=1, last=2, max_running=1)
    with pytest.raises(InvalidSpec, match="how many tasks"):
        await submit_to(backend, _spec(tmp_path, array=array), _key())
    assert not (await backend.jobs()).observations


def _after(native_id: NativeId, condition: DependencyCondition) -> tuple[Dependency, ...]:
    return (Dependency(native_id=native_id, uid=JobUid.new(), condition=condition),)


@pytest.mark.parametrize("is_array", [True, False], ids=["array", "job"])
async def test_dependency_conditions(tmp_path: Path, is_array: bool) -> None:
    fake = Pbs(tmp_path / "pbs", exit_seconds=0.1)
    backend = _backend(fake)
    array = ArrayRange(first=1, last=2) if is_array else None
    first = await submit_to(backend, _spec(tmp_path, "exit 4", hold=True, array=array), _key())
    # A service that has just begun does not know which jobs are arrays.
    backend = _backend(fake)
    # PBS itself takes an array for what its last task was, which nobody means by it.
    judged = {DependencyCondition.SUCCESS, DependencyCondition.FAILURE} if is_array else set()
    for condition in judged:
        with pytest.raises(InvalidSpec, match="is an array") as caught:
            spec = _spec(tmp_path, "exit 0", depends_on=_after(first, condition))
            await submit_to(backend, spec, _key())
        assert caught.value.field == "dependsOn"
    waiting = {
        condition: await submit_to(
            backend, _spec(tmp_path, "exit 0", depends_on=_after(first, condition)), _key()
        )
        for condition in DependencyCondition
        if condition not in judged
    }
    seen = {job.native_id: job for job in (await backend.jobs()).observations}
    for native_id in waiting.values():
        assert seen[native_id].state is JobState.QUEUED_HELD
        assert seen[native_id].state_reason == "It waits for the jobs that it depends on."
    await backend.act(Action.RELEASE, first)
    ends = {condition: await _ended(backend, job) for condition, job in waiting.items()}
    expected = {
        DependencyCondition.SUCCESS: JobState.FAILED,
        DependencyCondition.FAILURE: JobState.DONE,
        DependencyCondition.ANY: JobState.DONE,
        DependencyCondition.STARTED: JobState.DONE,
    }
    assert {condition: end and end.state for condition, end in ends.items()} == {
        condition: state for condition, state in expected.items() if condition not in judged
    }
    if is_array:
        return
    hopeless = ends[DependencyCondition.SUCCESS]
    assert hopeless is not None
    assert hopeless.failure_kind is FailureKind.CANCELLED
    assert "what it depends on" in (hopeless.state_reason or "")


@pytest.mark.parametrize("history", [True, False])
async def test_dependency_just_ended(tmp_path: Path, history: bool) -> None:
    fake = Pbs(tmp_path / "pbs", history=history, exit_seconds=0.1)
    backend = _backend(fake)
    first = await submit_to(backend, _spec(tmp_path, "exit 0", hold=True), _key())
    await backend.jobs()
    other = _backend(fake)
    await other.act(Action.RELEASE, first)
    await _ended(other, first)
    spec = _spec(tmp_path, "exit 0", depends_on=_after(first, DependencyCondition.SUCCESS))
    if not history:
        await backend.jobs()
        with pytest.raises(InvalidSpec, match="has ended"):
            await submit_to(backend, spec, _key())
        return
    end = await _ended(backend, await submit_to(backend, spec, _key()))
    assert end is not None
    assert end.state is JobState.DONE


@pytest.mark.parametrize("history", [True, False])
async def test_end_deleted_while_waiting(tmp_path: Path, history: bool) -> None:
    backend = _backend(Pbs(tmp_path / "pbs", history=history), accounting=True)
    native_id = await submit_to(backend, _spec(tmp_path, hold=True), _key())
    await backend.cancel(native_id)
    end = await _ended(backend, native_id)
    assert end is not None
    assert (end.state, end.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
    assert (end.start_time, end.usage) == (None, None)


async def test_unknown_job(tmp_path: Path) -> None:
    backend = _backend(Pbs(tmp_path / "pbs"))
    for change in (
        backend.cancel,
        partial(backend.act, Action.HOLD),
        partial(backend.act, Action.RELEASE),
    ):
        with pytest.raises(JobNotFound):
            await change(_UNKNOWN)
    assert not (await backend.history([_UNKNOWN])).observations
    assert not (await backend.details([_UNKNOWN])).observations


async def test_server_down(tmp_path: Path) -> None:
    fake = Pbs(tmp_path / "pbs")
    backend = _backend(fake)
    native_id = await submit_to(backend, _spec(tmp_path, hold=True), _key())
    fake.go_away()
    asked: list[Callable[[], object]] = [
        backend.jobs,
        lambda: backend.history([_UNKNOWN]),
        lambda: backend.find(_key()),
        lambda: backend.cancel(native_id),
        lambda: submit_to(backend, _spec(tmp_path), _key()),
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
