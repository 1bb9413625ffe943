"""The Slurm adapter against a real Slurm: what only the real thing can prove."""

import asyncio
import os
import random
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.backends import BACKENDS
from tests.submitting import submit_to

from hpcq.domain.actions import Action
from hpcq.domain.errors import InvalidSpec, JobNotFound, WrongState
from hpcq.domain.jobs import JobSpec, JobUid, MailEvent, NativeId, Observation, SubmissionKey
from hpcq.domain.states import FailureKind, JobState
from hpcq.execution.local import LocalRunner
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.slurm.backend import SlurmBackend, create
from hpcq.schedulers.slurm.settings import SlurmSettings
from hpcq.schedulers.testing.jobs import own_words
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.slurm

UNHEARD_OF = "of the service alone"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {k: v for k, v in BACKENDS["SLURM"].settings().items() if k.startswith("SLURM_")}


@pytest.fixture
def slurm(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SlurmBackend]:
    monkeypatch.setenv("UNHEARD_OF", UNHEARD_OF)
    account = {"PATH": "/usr/bin:/bin", "HOME": "/root", "USER": "root", "LANG": "C.UTF-8"}
    options = SchedulerOptions(
        cluster_id="1",
        state_directory=tmp_path,
        environment=account | settings,
        command_path=os.environ["PATH"],
        command_timeout_seconds=PATIENCE_SECONDS,
        listing_limit_bytes=1 << 28,
    )
    yield create(options, LocalRunner(), SlurmSettings())


class Desk:
    """Submits scripts of one test and ends what is left of them."""

    def __init__(self, backend: SlurmBackend, directory: Path) -> None:
        self.backend = backend
        self.directory = directory
        self.submitted: list[NativeId] = []
        directory.mkdir()

    async def submit(self, body: str, **fields: object) -> NativeId:
        script = self.directory / f"job {len(self.submitted)}.sh"
        script.write_text(f"#!/bin/bash\n{body}\n")
        spec = JobSpec(
            **{  # type: ignore[arg-type]
                "name": "study",
                "working_directory": str(self.directory),
                "script_file": str(script),
                **fields,
            }
        )
        job = await submit_to(self.backend, spec, SubmissionKey.for_uid(JobUid.new()))
        self.submitted.append(job)
        return job

    async def seen(self, job: NativeId) -> Observation | None:
        observations = (await self.backend.jobs()).observations
        return next((one for one in observations if one.native_id == job), None)

    async def until(self, job: NativeId, state: JobState) -> Observation:
        async def reached() -> Observation | None:
            one = await self.seen(job)
            return one if one is not None and one.state is state else None

        return await eventually(reached)

    async def end(self, job: NativeId) -> Observation:
        async def over() -> Observation | None:
            found = (await self.backend.history([job])).observations
            return found[0] if found else None

        return await eventually(over)


@asynccontextmanager
async def desk(backend: SlurmBackend, directory: Path) -> AsyncIterator[Desk]:
    one = Desk(backend, directory)
    try:
        yield one
    finally:
        for job in one.submitted:
            await backend.cancel(job)


def test_submission_fields_in_job(
    slurm: SlurmBackend, settings: dict[str, str], tmp_path: Path
) -> None:
    async def main() -> str:
        async with desk(slurm, tmp_path / "w") as one:
            job = await one.submit(
                "true",
                hold=True,
                slots=8,
                nodes=1,
                slots_per_node=8,
                cpus_per_task=2,
                exclusive=True,
                qos="normal",
                memory_limit_bytes=1 << 30,
                mail_to="nobody@localhost.invalid",
                mail_on=(MailEvent.BEGIN, MailEvent.FAIL),
            )
            command = ("scontrol", "--oneliner", "show", "job", job)
            environment = {**os.environ, **settings}
            done = await asyncio.to_thread(
                subprocess.run, command, env=environment, check=True, capture_output=True
            )
            return done.stdout.decode()

    shown = set(asyncio.run(main()).split())
    expected = "NumTasks=4 CPUs/Task=2 NtasksPerN:B:S:C=4:0:*:* NumNodes=1-1 OverSubscribe=NO"
    expected += " MinMemoryNode=1G QOS=normal MailUser=nobody@localhost.invalid"
    assert set(f"{expected} MailType=BEGIN,FAIL".split()) - shown == set()


def test_change_fields_in_slurm(
    slurm: SlurmBackend, settings: dict[str, str], tmp_path: Path
) -> None:
    async def main() -> str:
        async with desk(slurm, tmp_path / "w") as one:
            job = await one.submit("true", hold=True, slots=2, wall_time_limit_seconds=60)
            spec = JobSpec(
                name="a=b 'c' Nice=7 ",
                working_directory="/",
                script_file="/x",
                slots=2,
                queue="short",
                wall_time_limit_seconds=7170,
                memory_limit_bytes=1 << 30,
            )
            changes = {"name", "queue", "wall_time_limit_seconds", "memory_limit_bytes"}
            await slurm.alter(job, spec, frozenset(changes))
            with pytest.raises(InvalidSpec) as caught:
                await slurm.alter(job, replace(spec, queue="no-such"), frozenset({"queue"}))
            assert caught.value.field == "queue"
            with pytest.raises(JobNotFound):
                await slurm.alter(NativeId("99999999"), spec, frozenset({"name"}))
            with pytest.raises(WrongState):
                await slurm.alter(job, spec, frozenset({"name", "priority"}))
            command = ("scontrol", "--oneliner", "show", "job", job)
            environment = {**os.environ, **settings}
            done = await asyncio.to_thread(
                subprocess.run, command, env=environment, check=True, capture_output=True
            )
            return done.stdout.decode()

    shown = asyncio.run(main())
    assert "JobName=a=b 'c' Nice=7  UserId=" in shown
    expected = "Partition=short TimeLimit=02:00:00 MinMemoryCPU=512M Nice=0 Priority=0"
    assert set(expected.split()) - set(shown.split()) == set()


def test_options_allowed_by_site(settings: dict[str, str], tmp_path: Path) -> None:
    account = {"PATH": "/usr/bin:/bin", "HOME": "/root", "USER": "root"}
    site = SchedulerOptions(
        cluster_id="1",
        state_directory=tmp_path,
        environment=account | settings,
        command_path=os.environ["PATH"],
        command_timeout_seconds=PATIENCE_SECONDS,
        listing_limit_bytes=1 << 28,
        submit_options=("--nice", "--reservation", "--contiguous"),
    )
    backend = create(site, LocalRunner(), SlurmSettings())

    async def main() -> str:
        async with desk(backend, tmp_path / "w") as one:
            options = ("--nice=77", "--contiguous")
            job = await one.submit("true", hold=True, options=options)
            # Without its value it takes the next word, which is none that the service needs.
            with pytest.raises(InvalidSpec):
                await one.submit("true", hold=True, options=("--reservation",))
            with pytest.raises(InvalidSpec):
                await one.submit("true", hold=True, options=("--nice=1\n", "--output=/x"))
            command = ("scontrol", "--oneliner", "show", "job", job)
            environment = {**os.environ, **settings}
            done = await asyncio.to_thread(
                subprocess.run, command, env=environment, check=True, capture_output=True
            )
            return done.stdout.decode()

    shown = asyncio.run(main()).split()
    assert {"Nice=77", "Contiguous=1", "JobName=study"} <= set(shown)


def hostile_environment() -> dict[str, str]:
    chance = random.Random(7)  # noqa: S311 - repeatable on purpose
    alphabet = "ab=,'\"$`;\\\n\t \r%#{}!~*é€😀\x01\x1b|&"
    values = {f"V{i}": "".join(chance.choices(alphabet, k=i % 17)) for i in range(120)}
    return values | {
        "odd name": "1",
        "n,m": "2",
        "é": "x",
        "LARGE": "z" * 100_000,
        "LD_PRELOAD": "",
        "LD_LIBRARY_PATH": "/opt/x:'\"$(id)`\n\r\n#SBATCH --wait\n",
        "SLURM_CONF": "/nonexistent",
        "HOSTNAME": "mine",
        "n" * 300: "a longer name than Slurm keeps",
        "SBATCH_PARTITION": "no-such-partition",
        "SBATCH_EXPORT": "NONE",
        "SBATCH_HOLD": "1",
        "SQUEUE_FORMAT": "%i",
        "SLURM_CLUSTERS": "no-such-cluster",
    }


def test_environment_byte_for_byte_and_nothing_else(slurm: SlurmBackend, tmp_path: Path) -> None:
    wanted = hostile_environment()

    async def main() -> None:
        async with desk(slurm, tmp_path / "w") as one:
            # Not bash's own view, which leaves out what it does not take for names.
            job = await one.submit("exec cat /proc/$$/environ > env", environment=wanted)
            assert (await one.end(job)).state is JobState.DONE

    asyncio.run(main())
    data = (tmp_path / "w" / "env").read_bytes()
    entries = [entry.split(b"=", 1) for entry in data.split(b"\0") if entry]
    got = {os.fsdecode(name): os.fsdecode(value) for name, value in entries}
    assert {name: got.get(name) for name in wanted} == wanted
    assert (got["PATH"], got["HOME"], got["USER"]) == ("/usr/bin:/bin", "/root", "root")
    assert got["SLURM_JOB_NAME"] == "study"
    assert UNHEARD_OF not in got.values()
    foreign = set(got) - set(wanted) - {"PATH", "HOME", "USER", "LANG"}
    ours = {n for n in foreign if not n.startswith("SLURM")}
    # Set by slurmstepd (sbatch(1), OUTPUT ENVIRONMENT VARIABLES) and by the shell.
    usual = {"ENVIRONMENT", "HOSTNAME", "TMPDIR", "PWD", "SHLVL", "OLDPWD", "_"}
    # For the launchers of MPI (24.11).
    mpi = ("HYDRA_", "I_MPI_HYDRA_", "OMPI_MCA_plm_slurm_", "PRTE_MCA_plm_slurm_")
    assert {name for name in ours if not name.startswith(mpi)} <= usual


def test_arguments_byte_for_byte(slurm: SlurmBackend, tmp_path: Path) -> None:
    args = ("a b", "", "'q\"", "$(id) `id` $HOME", ";x|y&", "new\nline", "é€😀", "--wrap=id", "-")

    async def main() -> None:
        async with desk(slurm, tmp_path / "-w é") as one:
            job = await one.submit('printf "%s\\0" "$@" > args', args=args)
            assert (await one.end(job)).state is JobState.DONE

    asyncio.run(main())
    written = (tmp_path / "-w é" / "args").read_bytes().split(b"\0")[:-1]
    assert tuple(map(os.fsdecode, written)) == args


@pytest.mark.parametrize("name", ["plain", "a/b %j \\ 'é😀\n-", "-x;touch y", "y" * 300])
def test_output_path_same_as_details(slurm: SlurmBackend, tmp_path: Path, name: str) -> None:
    async def main() -> Observation:
        async with desk(slurm, tmp_path / "w") as one:
            job = await one.submit("echo out; echo err >&2; sleep 3", name=name)
            await one.until(job, JobState.RUNNING)
            (seen,) = (await slurm.details([job])).observations
            await one.end(job)
            return seen

    seen = asyncio.run(main())
    assert Path(seen.stdout_path or "").read_text() == "out\n"
    assert own_words(Path(seen.stderr_path or "")) == "err\n"
    assert (seen.stdout_path or "").endswith(f".o{seen.native_id}")


@pytest.mark.parametrize("file", ["50%jota", "back\\slash%N", "with space\nline"])
def test_output_path_literal(slurm: SlurmBackend, tmp_path: Path, file: str) -> None:
    path = tmp_path / "w" / file

    async def main() -> None:
        async with desk(slurm, tmp_path / "w") as one:
            await one.end(await one.submit("echo here", stdout_path=str(path)))

    asyncio.run(main())
    assert path.read_text() == "here\n"


@pytest.mark.parametrize(
    ("body", "fields", "kind", "code", "signal"),
    [
        ("true", {}, None, 0, None),
        ("exit 3", {}, FailureKind.NON_ZERO_EXIT, 3, None),
        ("exit 200", {}, FailureKind.NON_ZERO_EXIT, 200, None),
        ("kill -SEGV $$", {}, FailureKind.SIGNAL, None, 11),
        (
            "exec python3 -c 'import time; b = bytearray(300 << 20); time.sleep(3600)'",
            {"memory_limit_bytes": 50 << 20},
            FailureKind.OUT_OF_MEMORY,
            None,
            9,
        ),
    ],
)
def test_job_each_end(
    slurm: SlurmBackend,
    tmp_path: Path,
    body: str,
    fields: dict[str, object],
    kind: FailureKind | None,
    code: int | None,
    signal: int | None,
) -> None:
    async def main() -> Observation:
        async with desk(slurm, tmp_path / "w") as one:
            return await one.end(await one.submit(body, **fields))

    seen = asyncio.run(main())
    assert (seen.failure_kind, seen.exit_code, seen.exit_signal) == (kind, code, signal)
    assert seen.start_time is not None
    assert seen.end_time is not None
    assert seen.end_time >= seen.start_time


def test_job_held_to_cancelled(slurm: SlurmBackend, tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(slurm, tmp_path / "w") as one:
            key = SubmissionKey.for_uid(JobUid.new())
            job = await one.submit("exec sleep 60", hold=True, slots=2)
            seen = await one.until(job, JobState.QUEUED_HELD)
            assert seen.submission_key is not None
            assert await slurm.find(seen.submission_key) == job
            assert await slurm.find(key) is None
            await slurm.act(Action.RELEASE, job)
            seen = await one.until(job, JobState.RUNNING)
            assert (seen.slots, seen.hosts) == (2, ("localhost",))
            await slurm.cancel(job)
            end = await one.end(job)
            assert end.failure_kind is FailureKind.CANCELLED
            assert end.submission_key == seen.submission_key
            assert await slurm.find(end.submission_key or key) == job
            await slurm.cancel(job)

    asyncio.run(main())


def test_usage_running_job(slurm: SlurmBackend, tmp_path: Path) -> None:
    code = "import time; b = bytearray(80 << 20); time.sleep(3600)"

    async def main() -> None:
        async with desk(slurm, tmp_path / "w") as one:
            body = f"exec python3 -c {shlex.quote(code)}"
            job = await one.submit(body, memory_limit_bytes=200 << 20)

            async def measured() -> Observation | None:
                listing = await slurm.details([job, NativeId("99999999")])
                for seen in listing.observations:
                    if seen.usage and (seen.usage.memory_bytes or 0) > 80 << 20:
                        return seen
                return None

            seen = await eventually(measured)
            assert seen.memory_limit_bytes == 200 << 20

    asyncio.run(main())


def test_refusal_message_from_slurm(slurm: SlurmBackend, tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(slurm, tmp_path / "w") as one:
            with pytest.raises(InvalidSpec, match="partition") as caught:
                await one.submit("true", queue="no-such-partition")
            assert caught.value.field == "queue"
            for act in (
                slurm.cancel,
                partial(slurm.act, Action.HOLD),
                partial(slurm.act, Action.RELEASE),
            ):
                with pytest.raises(JobNotFound):
                    await act(NativeId("99999999"))

    asyncio.run(main())


def test_array_by_directive_end_of_tasks(slurm: SlurmBackend, tmp_path: Path) -> None:
    body = "#SBATCH --array=1-2\nexit $((SLURM_ARRAY_TASK_ID - 1))"

    async def main() -> None:
        async with desk(slurm, tmp_path / "w") as one:
            job = await one.submit(body)

            async def whole() -> Observation | None:
                seen = {o.native_id: o for o in (await slurm.history([job])).observations}
                return seen.get(job)

            end = await eventually(whole)
            assert (end.state, end.exit_code) == (JobState.FAILED, 1)
            assert end.submission_key is not None
            assert await slurm.find(end.submission_key) == job
            assert (await one.end(NativeId(f"{job}_1"))).state is JobState.DONE
            assert (await one.end(NativeId(f"{job}_2"))).exit_code == 1
            assert (tmp_path / "w" / f"study.o{job}.2").exists()

    asyncio.run(main())


def test_record_of_refused_submission(slurm: SlurmBackend, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n#SBATCH --gres=gpu:9\n#SBATCH --exclude=nope\n")
    spec = JobSpec(name="study", working_directory=str(tmp_path), script_file=str(script))
    huge = replace(spec, memory_limit_bytes=1 << 50)
    key = SubmissionKey.for_uid(JobUid.new())

    async def main() -> None:
        for refused in (spec, huge):
            with pytest.raises(InvalidSpec):
                await submit_to(slurm, refused, key)
            assert await slurm.find(key) is None

    asyncio.run(main())


def test_check_submission(slurm: SlurmBackend) -> None:
    asyncio.run(slurm.check_submission())


def test_cluster_queues_nodes_version(slurm: SlurmBackend) -> None:
    async def main() -> None:
        queues = {queue.name: queue for queue in await slurm.queues()}
        assert queues["debug"].is_open
        assert queues["debug"].slots_total == 64
        assert [node.name for node in await slurm.nodes()] == ["localhost"]
        assert "slurm" in await slurm.version()

    asyncio.run(main())
