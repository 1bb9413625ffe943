"""Ends of jobs, each told apart. They are submitted together, because some take a minute to end."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hpcq.schedulers.testing.backend import Backend, those_with
from hpcq.schedulers.testing.jobs import Jobs, Json, Study
from hpcq.schedulers.testing.service import Service

SIGNALS = {"kill": 9, "terminate": 15, "abort": 6, "user-1": 10}


@dataclass(frozen=True)
class Endings:
    """The jobs on their way, by case."""

    jobs: Jobs
    ids: dict[str, str]

    def of(self, case: str) -> Json:
        return self.jobs.ended(self.ids[case])


def _cases(study: Study, backend: Backend) -> dict[str, Json]:
    def job(name: str, body: str, **fields: object) -> Json:
        return study.job(study.script(body, f"{name}.sh"), name=name, **fields)

    eater = study.directory / "eater.py"
    eater.write_text(
        "#!/usr/bin/env python3\n"
        "import time\n"
        "held = []\n"
        "for _ in range(60):\n"
        "    held.append(bytearray(b'x') * (10 << 20))\n"
        "    time.sleep(0.05)\n"
        "time.sleep(3600)\n"
    )
    eater.chmod(0o755)
    signals = {
        name: job(name, f"ulimit -c 0\nkill -{number} $$\nsleep 60\n")
        for name, number in SIGNALS.items()
    }
    memory = {"memory": study.job(eater, name="memory", memoryLimit=0.25)}
    return {
        "time": job("time", "sleep 600\n", wallTimeLimit=2),
        **(memory if backend.out_of_memory else {}),
        "zero": job("zero", "exit 0\n"),
        "three": job("three", "exit 3\n"),
        "killed-like": job("killed-like", "exit 137\n"),
        "large": job("large", "exit 255\n"),
        "child": job("child", "ulimit -c 0\n/bin/sh -c 'kill -9 $$'\nexit 4\n"),
        "broken": job("broken", "/no/such/command\n"),
        **signals,
    }


@pytest.fixture(scope="module")
def endings(
    service: Service, backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endings]:
    """All cases, submitted."""
    study = Study(tmp_path_factory.mktemp("endings") / "study")
    jobs = Jobs(service)
    ids = {case: jobs.submit(body) for case, body in _cases(study, backend).items()}
    yield Endings(jobs, ids)
    jobs.clean_up()


def test_exit_status_zero(endings: Endings) -> None:
    job = endings.of("zero")
    assert (job["state"], job["exitCode"], job["exitSignal"]) == ("DONE", 0, None)
    assert job["failureKind"] is None


@pytest.mark.parametrize(
    ("case", "code"),
    [("three", 3), ("killed-like", 137), ("large", 255), ("child", 4), ("broken", 127)],
)
def test_exit_status_nonzero(endings: Endings, case: str, code: int) -> None:
    job = endings.of(case)
    assert (job["state"], job["failureKind"]) == ("FAILED", "NON_ZERO_EXIT")
    assert (job["exitCode"], job["exitSignal"]) == (code, None)
    assert job["status"] == "STOPPED"
    assert job["stateReason"]


@pytest.mark.parametrize(("case", "number"), SIGNALS.items())
def test_signal_distinct_from_exit_status(endings: Endings, case: str, number: int) -> None:
    job = endings.of(case)
    assert (job["state"], job["failureKind"]) == ("FAILED", "SIGNAL")
    assert (job["exitSignal"], job["exitCode"]) == (number, None)


@those_with(lambda backend: backend.out_of_memory)
def test_memory_limit_exceeded(endings: Endings, backend: Backend) -> None:
    job = endings.of("memory")
    assert job["state"] == "FAILED"
    assert job["failureKind"] in backend.out_of_memory, job
    assert job["memoryLimit"] == 0.25


def test_wall_time_exceeded(endings: Endings) -> None:
    job = endings.of("time")
    assert (job["state"], job["failureKind"]) == ("FAILED", "TIME_LIMIT")
    assert job["stateReason"]
    assert job["endTime"] > job["startTime"]


def test_finished_jobs_listed(endings: Endings) -> None:
    ended = {case: endings.of(case) for case in endings.ids}
    listed = endings.jobs.listed()
    for case, job in ended.items():
        assert listed[endings.ids[case]]["status"] == "STOPPED"
        assert listed[endings.ids[case]]["exitCode"] == job["exitCode"]


RUNS = pytest.mark.parametrize("runs", [False, True], ids=["queued", "running"])


def _seen(jobs: Jobs, study: Study, *, runs: bool) -> str:
    """Submit a job and wait until it was seen, running or waiting."""
    job_id = jobs.submit(study.job(study.script("exec sleep 600\n"), hold=not runs))
    if runs:
        jobs.running(job_id)
    else:
        jobs.wait(job_id, lambda job: job["nativeState"] is not None)
    return job_id


def _assert_was_ended(job: Json, kind: str, *, runs: bool) -> None:
    assert (job["state"], job["failureKind"]) == ("FAILED", kind)
    assert job["stateReason"]
    assert (job["startTime"] is not None) == runs
    if not runs:
        assert (job["exitCode"], job["exitSignal"]) == (None, None)


@RUNS
def test_cancelled_by_delete(jobs: Jobs, study: Study, runs: bool) -> None:
    job_id = _seen(jobs, study, runs=runs)
    jobs.delete(job_id)
    _assert_was_ended(jobs.ended(job_id), "CANCELLED", runs=runs)


@RUNS
@those_with(lambda backend: backend.administrator)
def test_cancelled_by_administrator(jobs: Jobs, study: Study, backend: Backend, runs: bool) -> None:
    job_id = _seen(jobs, study, runs=runs)
    backend.remove(job_id)
    is_told = not runs or backend.tells_removals
    _assert_was_ended(jobs.ended(job_id), "CANCELLED" if is_told else "SIGNAL", runs=runs)


@those_with(lambda backend: "success" in backend.conditions)
def test_cancelled_by_impossible_dependency(jobs: Jobs, study: Study) -> None:
    body = "until [ -e go ]; do sleep 0.2; done\nexit 3\n"
    first = jobs.submit(study.job(study.script(body, "first.sh")))
    wanted = [{"jobId": first, "condition": "success"}]
    second = jobs.submit(study.job(study.script(": > ran\n"), dependsOn=wanted))
    jobs.running(first)
    jobs.wait(second, lambda job: job["nativeState"] is not None)
    (study.directory / "go").touch()
    assert jobs.ended(first)["exitCode"] == 3
    job = jobs.ended(second)
    assert (job["state"], job["failureKind"]) == ("FAILED", "CANCELLED")
    assert (job["startTime"], job["exitCode"], job["exitSignal"]) == (None, None, None)
    assert "depend" in job["stateReason"].lower()
    assert not (study.directory / "ran").exists()
