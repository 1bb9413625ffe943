"""The Grid Engine backend in front of a real cell (``tests/clusters/sge.py``)."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.backends import BACKENDS
from tests.submitting import submit_to

from hpcq.domain.actions import Action
from hpcq.domain.errors import InvalidSpec, JobNotFound, SchedulerUnavailable
from hpcq.domain.jobs import (
    Gpus,
    JobSpec,
    JobUid,
    MailEvent,
    NativeId,
    Observation,
    SubmissionKey,
)
from hpcq.domain.states import FailureKind, JobState
from hpcq.execution.local import LocalRunner
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.sge.actions import ACTIONS
from hpcq.schedulers.sge.backend import SgeBackend, create
from hpcq.schedulers.sge.settings import SgeSettings
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.sge

T = TypeVar("T")
RECORD = (
    'for a in "$@"; do printf \'%s\\0\' "$a"; done > argv\n'
    "cat /proc/$$/environ > environ\npwd > cwd\n"
)


class Cell:
    """One backend, and synchronous steps with it."""

    def __init__(self, environment: dict[str, str], runner: asyncio.Runner) -> None:
        self._runner = runner
        self.backend = self.new_backend(environment)
        self.environment = environment

    def new_backend(
        self,
        environment: dict[str, str],
        job_shell: str | None = None,
        settings: SgeSettings | None = None,
    ) -> SgeBackend:
        options = SchedulerOptions(
            cluster_id="test",
            state_directory=Path("/nonexistent"),
            environment={"PATH": "/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8", **environment},
            command_path=os.environ["PATH"],
            command_timeout_seconds=PATIENCE_SECONDS,
            listing_limit_bytes=1 << 28,
            job_shell=job_shell,
        )
        return create(options, LocalRunner(), settings or SgeSettings())

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(step)

    def submit(self, spec: JobSpec, key: SubmissionKey | None = None) -> NativeId:
        return self.run(submit_to(self.backend, spec, key or new_key()))

    def submit_with(self, spec: JobSpec, *, job_shell: str) -> NativeId:
        backend = self.new_backend(self.environment, job_shell)
        return self.run(submit_to(backend, spec, new_key()))

    def listed(self, native_id: NativeId) -> Observation | None:
        listing = self.run(self.backend.jobs())
        return next((s for s in listing.observations if s.native_id == native_id), None)

    def detail(self, native_id: NativeId) -> Observation:
        return self.run(self.backend.details([native_id])).observations[0]

    def shown(self, native_id: NativeId) -> dict[str, str]:
        """Return what ``qstat -j`` says of a job, by the names of its lines."""
        environment = {**os.environ, **self.environment}
        command = ["qstat", "-j", native_id]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        pairs = (line.partition(":")[::2] for line in done.stdout.splitlines())
        return {name: value.strip() for name, value in pairs}

    def wait(self, native_id: NativeId, reached: Callable[[Observation | None], bool]) -> None:
        until(lambda: reached(self.listed(native_id)), lambda: self.listed(native_id))

    def running(self, native_id: NativeId) -> None:
        self.wait(native_id, lambda s: s is not None and s.state is JobState.RUNNING)

    def ended(self, native_id: NativeId) -> Observation:
        self.wait(native_id, lambda seen: seen is None)
        return until(lambda: self.run(self.backend.history([native_id])).observations)[-1]


def new_key() -> SubmissionKey:
    return SubmissionKey.for_uid(JobUid.new())


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    environment = BACKENDS["SGE"].settings()
    with asyncio.Runner() as runner:
        cell = Cell({n: v for n, v in environment.items() if n != "SCHEDULER"}, runner)
        yield cell
        cell.run(cell.backend.stop())


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., JobSpec]:
    folder = tmp_path / "run 1"
    folder.mkdir()

    def make(body: str, **fields: Any) -> JobSpec:
        script = folder / "job.sh"
        script.write_text("#!/bin/sh\n" + body)
        script.chmod(0o755)
        base = {"name": "run 1", "working_directory": str(folder), "script_file": str(script)}
        return JobSpec(**(base | fields))

    return make


Make = Callable[..., JobSpec]


def test_submission_fields_in_job(cell: Cell, spec: Make) -> None:
    # Every installation has these two complexes, though for other purposes.
    site = SgeSettings(sge_exclusive_complex="display_win_gui", sge_gpu_complex="num_proc")
    backend = cell.new_backend(cell.environment, settings=site)
    job = spec(
        "true\n",
        hold=True,
        exclusive=True,
        gpus=Gpus(count=2),
        mail_to="nobody@localhost.invalid",
        mail_on=(MailEvent.BEGIN, MailEvent.END, MailEvent.FAIL),
    )
    assert {"exclusive", "gpus"} <= backend.capabilities.fields
    assert {"exclusive", "gpus"}.isdisjoint(cell.backend.capabilities.fields)
    job_id = cell.run(submit_to(backend, job, new_key()))
    said = cell.shown(job_id)
    cell.run(backend.cancel(job_id))
    cell.run(backend.stop())
    resources = set(said["hard resource_list"].split(","))
    assert resources == {"display_win_gui=true", "num_proc=2"}
    assert said["mail_list"] == "nobody@localhost.invalid"
    assert said["mail_options"] == "abe"


def test_change_keeps_other_fields(cell: Cell, spec: Make) -> None:
    job = spec(
        "#$ -l arch=*,s_rt=50 -o $JOB_NAME.log\ntrue\n",
        hold=True,
        slots=2,
        memory_limit_bytes=1 << 30,
        wall_time_limit_seconds=60,
    )
    job_id = cell.submit(job)
    assert (cell.detail(job_id).stdout_path or "").endswith("/run_1.log")
    changed = replace(job, name="run 2", queue="other.q", wall_time_limit_seconds=None)
    fields = {"name", "queue", "wall_time_limit_seconds", "priority"}
    cell.run(cell.backend.alter(job_id, replace(changed, priority=-7), frozenset(fields)))
    said = cell.shown(job_id)
    expected = {"arch=*", "s_rt=50", "h_vmem=536870912"}
    assert set(said["hard resource_list"].split(",")) == expected
    assert (said["job_name"], said["hard_queue_list"]) == ("run_2", "other.q")
    assert said["priority"] == "-7"
    seen = cell.detail(job_id)
    assert (seen.memory_limit_bytes, seen.wall_time_limit_seconds) == (1 << 30, None)
    assert (seen.stdout_path or "").endswith("/run_2.log")
    # All or nothing.
    for field, value in (("queue", "no-such.q"), ("account", "no-such")):
        wrong = replace(changed, name="run 3", priority=-8)
        wrong = replace(wrong, **{field: value})  # type: ignore[arg-type]
        with pytest.raises(InvalidSpec) as caught:
            cell.run(cell.backend.alter(job_id, wrong, frozenset({"name", "priority", field})))
        assert caught.value.field == field
    said = cell.shown(job_id)
    assert (said["job_name"], said["priority"]) == ("run_2", "-7")
    cell.run(cell.backend.cancel(job_id))
    with pytest.raises(JobNotFound):
        cell.run(cell.backend.alter(NativeId("99999999"), job, frozenset({"name"})))


HOSTILE_ARGUMENTS = (
    "a b",
    "",
    "$HOME `id` $(id)",
    "it's",
    'say "x"',
    ";touch x",
    "-N",
    "-t 1-10",
    "@file",
    "--",
    "*",
    "été",
    "back\\slash\\n",
    "tab\tbed",
    "#$ -q nowhere",
)


def test_arguments_byte_for_byte(cell: Cell, spec: Make) -> None:
    job = spec(RECORD, args=HOSTILE_ARGUMENTS)
    cell.ended(cell.submit(job))
    argv = Path(job.working_directory, "argv").read_bytes()
    assert argv.decode().split("\0")[:-1] == list(HOSTILE_ARGUMENTS)
    assert Path(job.working_directory, "cwd").read_text() == job.working_directory + "\n"


def test_arguments_newlines_and_very_long(cell: Cell, spec: Make) -> None:
    args = ("one\ntwo\njob_owner=root\n", "\n", "#$ -q x\n#$ -q nowhere", "x" * 50_000)
    job = spec("#$ -v FROM_SCRIPT=1\n" + RECORD, args=args)
    assert cell.ended(cell.submit(job)).state is JobState.DONE
    argv = Path(job.working_directory, "argv").read_bytes()
    assert argv.decode().split("\0")[:-1] == list(args)
    assert b"FROM_SCRIPT=1\0" in Path(job.working_directory, "environ").read_bytes()


HOSTILE_ENVIRONMENT = {
    "PLAIN": "1",
    "COMMAS": "a,b,,c,",
    "NEWLINES": "a\nb=c\n",
    "QUOTES": 'it\'s "x"',
    "DOLLAR": "$HOME `id`",
    "EQUALS": "=a=b",
    "EMPTY": "",
    "ACCENTS": "été",
    "BACKSLASH": "a\\nb\\",
    "SPACES": "  a  b ",
    "FUNCTION": "() { :; }; echo x",
    "LONG": "x" * 30_000,
    "LD_LIBRARY_PATH": "/opt/a,/opt/b",
    "SGE_ROOT": "/nonexistent",
    "SGE_QMASTER_PORT": "1",
    "PATH": "/usr/bin:/bin",
    "HOME": "/nowhere",
    "JOB_ID": "0",
    "TMPDIR": "/nowhere",
    "LC_ALL": "C",
    "TZ": "Asia/Tokyo",
}


# None of these needs the wrapper: each arrives by ``-v``.
PLAIN_ENVIRONMENT = {
    "PLAIN": "1",
    "DOLLAR": "$HOME `id`",
    "EQUALS": "=a=b",
    "EMPTY": "",
    "ACCENTS": "été",
    "SPACES": "  a  b ",
    "FUNCTION": "() { :; }; echo x",
    "LC_ALL": "C",
    "TZ": "Asia/Tokyo",
}


@pytest.mark.parametrize("wanted", [PLAIN_ENVIRONMENT, HOSTILE_ENVIRONMENT])
def test_environment_byte_for_byte(cell: Cell, spec: Make, wanted: dict[str, str]) -> None:
    job = spec(RECORD, environment=wanted)
    assert cell.ended(cell.submit(job)).state is JobState.DONE
    entries = Path(job.working_directory, "environ").read_bytes().decode().split("\0")
    environment = dict(entry.partition("=")[::2] for entry in entries if entry)
    assert {n: environment.get(n) for n in wanted} == wanted


def test_environment_ld_preload_job_only(cell: Cell, spec: Make) -> None:
    job = spec(RECORD, environment={"LD_PRELOAD": "/nonexistent/lib.so"})
    assert cell.ended(cell.submit(job)).state is JobState.DONE
    environ = Path(job.working_directory, "environ").read_bytes()
    assert b"LD_PRELOAD=/nonexistent/lib.so\0" in environ


def test_environment_without_service_variables(
    cell: Cell, spec: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_SECRET", "s3cret")
    job = spec(RECORD)
    cell.ended(cell.submit(job))
    assert b"s3cret" not in Path(job.working_directory, "environ").read_bytes()
    assert b"\0TZ=" not in b"\0" + Path(job.working_directory, "environ").read_bytes()


def test_script_and_folder_odd_names(cell: Cell, tmp_path: Path) -> None:
    folder = tmp_path / "-x @ é,b;'c\" a$b"
    folder.mkdir()
    script = folder / "-terse @ $x.sh"
    script.write_text("#!/bin/sh\n" + RECORD)
    name = "1 / été : *"
    job = JobSpec(name=name, working_directory=str(folder), script_file=str(script))
    assert cell.ended(cell.submit(job)).state is JobState.DONE
    assert (folder / "argv").exists()


def test_submission_limits_slots_account(cell: Cell, spec: Make) -> None:
    key = new_key()
    job = spec(
        "true\n",
        slots=3,
        queue="all.q",
        account="climate",
        priority=-5,
        wall_time_limit_seconds=600,
        memory_limit_bytes=3 << 30,
        hold=True,
        args=("x", ""),
    )
    native_id = cell.submit(job, key)
    try:
        seen = cell.detail(native_id)
        assert (seen.state, seen.slots, seen.account) == (JobState.QUEUED_HELD, 3, "climate")
        assert (seen.wall_time_limit_seconds, seen.memory_limit_bytes) == (600, 3 << 30)
        assert seen.submission_key == key
        assert seen.args == ("x", "")
        assert seen.stdout_path == f"{job.working_directory}/run_1.o{native_id}"
        assert cell.run(cell.backend.find(key)) == native_id
    finally:
        cell.run(cell.backend.cancel(native_id))


def test_output_path_requested(cell: Cell, spec: Make, tmp_path: Path) -> None:
    out = tmp_path / "out:1 é.txt"
    job = spec("echo out; echo err >&2\n", stdout_path=str(out))
    native_id = cell.submit(job)
    cell.ended(native_id)
    assert out.read_text() == "out\n"
    assert Path(job.working_directory, f"run_1.e{native_id}").read_text() == "err\n"


@pytest.mark.parametrize("name", ["out.txt", "a,b.txt", "$USER.$JOB_NAME", "a$$b", "h:x", "-o\nx"])
@pytest.mark.parametrize("folder", ["PLD +20%Norte", "a,b:c", "$HOME x$$TASK_ID"])
def test_output_path_odd_names(cell: Cell, tmp_path: Path, folder: str, name: str) -> None:
    directory = tmp_path / folder
    directory.mkdir()
    script = directory / "job.sh"
    script.write_text("#!/bin/sh\necho out; echo err >&2; pwd\n")
    job = JobSpec(
        name="study",
        working_directory=str(directory),
        script_file=str(script),
        stdout_path=str(directory / name),
    )
    native_id = cell.submit(job)
    assert cell.ended(native_id).state is JobState.DONE
    assert (directory / name).read_text() == f"out\n{directory}\n"
    assert (directory / f"study.e{native_id}").read_text() == "err\n"


def test_output_path_by_directive(cell: Cell, spec: Make) -> None:
    body = "#$ -t 2-4:2 -o $JOB_NAME.$JOB_ID.$TASK_ID.log -j y\necho out; echo err >&2\n"
    job = spec(body)
    script = Path(job.script_file).read_bytes()
    said = cell.backend.check_script(job, script)
    assert (said.stdout, said.stderr) == ("run_1.%j.%a.log", "run_1.%j.%a.log")
    native_id = cell.submit(job)
    cell.ended(native_id)
    for task in (2, 4):
        log = Path(job.working_directory, f"run_1.{native_id}.{task}.log")
        assert log.read_text() == "out\nerr\n"


def test_environment_directive_all_variables(cell: Cell, spec: Make) -> None:
    job = spec("#$ -V\n" + RECORD, environment={"TZ": "Asia/Tokyo"})
    assert cell.ended(cell.submit(job)).state is JobState.DONE
    environ = b"\0" + Path(job.working_directory, "environ").read_bytes()
    assert b"\0LC_ALL=" not in environ
    assert b"\0TZ=Asia/Tokyo\0" in environ


def test_script_without_interpreter_line(cell: Cell, spec: Make) -> None:
    job = spec("")
    Path(job.script_file).write_text("cases=(a b)\necho ${cases[1]} > shown\n")
    cell.ended(cell.submit_with(job, job_shell="/bin/bash"))
    assert Path(job.working_directory, "shown").read_text() == "b\n"


def test_key_found_after_end(cell: Cell, spec: Make) -> None:
    key = new_key()
    native_id = cell.submit(spec("true\n"), key)
    assert cell.ended(native_id).submission_key == key
    assert cell.run(cell.backend.find(key)) == native_id
    assert cell.run(cell.backend.find(new_key())) is None


@pytest.mark.parametrize(
    ("body", "fields", "kind", "code", "signal"),
    [
        ("exit 0\n", {}, None, 0, None),
        ("exit 3\n", {}, FailureKind.NON_ZERO_EXIT, 3, None),
        ("exit 137\n", {}, FailureKind.NON_ZERO_EXIT, 137, None),
        ("kill -SEGV $$\n", {}, FailureKind.SIGNAL, None, 11),
        ("kill -9 $$\n", {}, FailureKind.SIGNAL, None, 9),
        ("kill -XCPU $$\n", {}, FailureKind.SIGNAL, None, 24),
        ("sleep 60\n", {"wall_time_limit_seconds": 1}, FailureKind.TIME_LIMIT, None, 9),
    ],
)
def test_job_each_end(
    cell: Cell,
    spec: Make,
    body: str,
    fields: dict[str, int],
    kind: FailureKind | None,
    code: int | None,
    signal: int | None,
) -> None:
    seen = cell.ended(cell.submit(spec(body, **fields)))
    assert (seen.failure_kind, seen.exit_code, seen.exit_signal) == (kind, code, signal)
    assert seen.start_time is not None
    assert seen.end_time is not None
    assert seen.end_time >= seen.start_time


def test_accounting_command_same_as_file(cell: Cell, spec: Make) -> None:
    native_id = cell.submit(spec("exit 3\n"))
    by_file = cell.ended(native_id)
    other = cell.new_backend(cell.environment)
    other._history.accounting.path = Path("/nonexistent/accounting")
    (by_command,) = cell.run(other.history([native_id])).observations
    assert by_command.failure_kind == by_file.failure_kind
    assert (by_command.exit_code, by_command.end_time) == (by_file.exit_code, by_file.end_time)
    assert cell.run(other.history([NativeId("99999999")])).observations == []


def test_usage_then_cancel_running_job(cell: Cell, spec: Make) -> None:
    native_id = cell.submit(spec("while :; do :; done\n", slots=2))
    cell.running(native_id)
    until(lambda: (usage := cell.detail(native_id).usage) is not None and usage.cpu_seconds)
    cell.run(cell.backend.cancel(native_id))
    assert cell.ended(native_id).exit_signal == 9


def test_array_by_directive(cell: Cell, spec: Make) -> None:
    native_id = cell.submit(spec("#$ -t 1-3\nsleep 2\nexit $((SGE_TASK_ID - 1))\n"))
    cell.running(native_id)
    assert cell.listed(NativeId(f"{native_id}[2]")) is not None
    cell.wait(native_id, lambda seen: seen is None)
    whole = cell.ended(native_id)
    assert (whole.state, whole.exit_code) == (JobState.FAILED, 1)
    task = NativeId(f"{native_id}[1]")
    assert cell.ended(task).state is JobState.DONE


def test_array_max_running_tasks_end(cell: Cell, spec: Make) -> None:
    native_id = cell.submit(spec("#$ -t 1-3 -tc 1\nsleep 1\nexit $((SGE_TASK_ID - 1))\n"))
    assert cell.listed(NativeId(f"{native_id}[3]")) is not None
    whole = cell.ended(native_id)
    assert (whole.state, whole.exit_code, whole.is_array) == (JobState.FAILED, 1, True)
    tasks = [cell.ended(NativeId(f"{native_id}[{n}]")) for n in (1, 2, 3)]
    assert [task.exit_code for task in tasks] == [0, 1, 2]
    assert (whole.start_time, whole.end_time) == (tasks[0].start_time, tasks[2].end_time)


def test_cancelled_by_administrator_queued_job(cell: Cell, spec: Make) -> None:
    native_id = cell.submit(spec("true\n", hold=True))
    assert cell.listed(native_id) is not None
    subprocess.run(
        ["qdel", native_id], env={**os.environ, **cell.environment}, check=True, capture_output=True
    )
    seen = cell.ended(native_id)
    assert (seen.state, seen.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
    assert (seen.start_time, seen.exit_code) == (None, None)


def test_child_job_without_parent_key(cell: Cell, spec: Make) -> None:
    key = new_key()
    job = spec("qsub -terse -V -h -N child job.sh > child\n")
    native_id = cell.submit(job, key)
    cell.ended(native_id)
    child = NativeId(Path(job.working_directory, "child").read_text().strip())
    try:
        assert cell.detail(child).submission_key is None
        assert cell.run(cell.backend.find(key)) == native_id
    finally:
        cell.run(cell.backend.cancel(child))


@pytest.mark.parametrize(
    ("directives", "kind", "signal"),
    [
        ("-l s_rt=2", FailureKind.TIME_LIMIT, 10),
        ("-l s_cpu=1", FailureKind.TIME_LIMIT, 24),
        ("-l h_rt=0:0:2", FailureKind.TIME_LIMIT, 9),
    ],
)
def test_limit_by_directive(
    cell: Cell, spec: Make, directives: str, kind: FailureKind, signal: int
) -> None:
    seen = cell.ended(cell.submit(spec(f"#$ {directives}\nwhile :; do :; done\n")))
    assert (seen.failure_kind, seen.exit_code, seen.exit_signal) == (kind, None, signal)


def test_hold_and_release(cell: Cell, spec: Make) -> None:
    native_id = cell.submit(spec("true\n", hold=True))
    assert cell.detail(native_id).state is JobState.QUEUED_HELD
    cell.run(cell.backend.act(Action.RELEASE, native_id))
    assert cell.ended(native_id).state is JobState.DONE


def test_pending_reason_text(cell: Cell, spec: Make) -> None:
    native_id = cell.submit(spec("true\n", slots=5000))
    try:
        until(lambda: "slots" in (cell.detail(native_id).state_reason or ""))
    finally:
        cell.run(cell.backend.cancel(native_id))


def test_refusals(cell: Cell, spec: Make) -> None:
    with pytest.raises(InvalidSpec, match="unknown queue") as refused:
        cell.submit(spec("true\n", queue="nowhere.q"))
    assert refused.value.field == "queue"
    with pytest.raises(InvalidSpec) as refused:
        cell.submit(spec("true\n", working_directory="/tmp/a\nb"))
    assert refused.value.field == "workingDirectory"
    with pytest.raises(InvalidSpec, match="nope") as refused:
        cell.submit(spec("#$ -l nope=1\n"))
    assert refused.value.field == "scriptFile"


@pytest.mark.parametrize("action", [None, *ACTIONS])
def test_unknown_job(cell: Cell, action: Action | None) -> None:
    unknown = NativeId("99999999")
    with pytest.raises(JobNotFound):
        if action is None:
            cell.run(cell.backend.cancel(unknown))
        else:
            cell.run(cell.backend.act(action, unknown))
    assert cell.run(cell.backend.details([NativeId("99999999")])).observations == []


def test_qmaster_unreachable(cell: Cell) -> None:
    away = cell.new_backend({**cell.environment, "SGE_QMASTER_PORT": "1"})
    for step in (away.jobs(), away.cancel(NativeId("1")), away.queues(), away.nodes()):
        with pytest.raises(SchedulerUnavailable):
            cell.run(step)


def test_queues_nodes_and_version(cell: Cell) -> None:
    queues = {queue.name: queue for queue in cell.run(cell.backend.queues())}
    assert queues["all.q"].is_open
    assert queues["other.q"].max_wall_time_seconds == 86400
    nodes = cell.run(cell.backend.nodes())
    assert [node.is_up for node in nodes] == [True]
    assert "8.1.9" in cell.run(cell.backend.version())


def test_job_user_same_as_caller(cell: Cell, spec: Make) -> None:
    job = spec("id -u > uid\n")
    cell.ended(cell.submit(job))
    assert Path(job.working_directory, "uid").read_text().strip() == str(os.getuid())
