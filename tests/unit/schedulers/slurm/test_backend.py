"""The wiring: which answers of Slurm become which results; every answer is a recorded one."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from tests.unit.schedulers.slurm.recorded import DELIMITER, KEY, MARKS, ROOT, recorded

from hpcq.domain.actions import Action
from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    HpcqError,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    QuotaExceeded,
    SchedulerError,
    SchedulerUnavailable,
    WrongState,
)
from hpcq.domain.jobs import ArrayRange, JobSpec, NativeId, Observation, SubmissionKey
from hpcq.domain.states import JobState
from hpcq.execution.protocol import Command, Completed
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.slurm import commands, parse
from hpcq.schedulers.slurm.backend import SlurmBackend, create
from hpcq.schedulers.slurm.settings import SlurmSettings

T = TypeVar("T")

SPEC = JobSpec(
    name="demo",
    working_directory="/srv",
    script_file="/srv/job.sh",
    queue="nowhere",
    priority=5,
    memory_limit_bytes=1 << 45,
)


class Recorded:
    """Answers every command of one program with a recording, and notes what was asked."""

    def __init__(self, **answers: Completed | HpcqError) -> None:
        self.answers = answers
        self.asked: list[Command] = []

    async def run(self, command: Command) -> Completed:
        self.asked.append(command)
        words = [Path(word).name for word in command.argv]
        program = next(word for word in words if word in self.answers)
        answer = self.answers[program]
        if isinstance(answer, HpcqError):
            raise answer
        return replace(answer, argv=command.argv)


SCRIPT = b"#!/bin/sh\ntrue\n"


def answer(stdout: str = "", stderr: str = "", exit_code: int = 0) -> Completed:
    return Completed(
        argv=("sbatch",), exit_code=exit_code, stdout=stdout.encode(), stderr=stderr.encode()
    )


@pytest.fixture(autouse=True)
def _marks_of_the_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "new_marks", lambda: MARKS)
    monkeypatch.setattr("hpcq.schedulers.slurm.history.new_delimiter", lambda: DELIMITER)


def backend(runner: Recorded) -> SlurmBackend:
    options = SchedulerOptions(
        cluster_id="1",
        state_directory=Path("/state"),
        environment={"PATH": "/bin", "HOME": "/home/me", "USER": "me", "SLURM_CONF": "/c"},
        command_path="/opt/slurm/bin",
        command_timeout_seconds=5,
        listing_limit_bytes=1 << 20,
    )
    return create(options, runner, SlurmSettings())


def run(work: Awaitable[T]) -> T:
    async def main() -> T:
        return await work

    return asyncio.run(main())


def submit(done: Completed, spec: JobSpec = SPEC) -> NativeId:
    return run(backend(Recorded(sbatch=done)).submit(spec, SubmissionKey(KEY), SCRIPT))


def test_submit_accepted() -> None:
    runner = Recorded(sbatch=recorded("sbatch-ok"))
    assert run(backend(runner).submit(SPEC, SubmissionKey(KEY), SCRIPT)).isdigit()
    (asked,) = runner.asked
    assert asked.env == {"PATH": "/bin", "HOME": "/home/me", "USER": "me", "SLURM_CONF": "/c"}
    assert asked.stdin == b""
    assert asked.search_path == "/opt/slurm/bin"


def versions(case: str) -> list[str]:
    return sorted(folder.parent.name for folder in ROOT.glob(f"*/{case}"))


@pytest.mark.parametrize(
    ("case", "field", "message"),
    [
        ("sbatch-no-shebang", "scriptFile", "does not look like a batch script"),
        ("sbatch-dos-line-ends", "scriptFile", "DOS line breaks"),
        ("sbatch-unknown-partition", "queue", "Invalid partition name specified"),
        ("sbatch-too-much-memory", "memoryLimit", "Memory specification can not be satisfied"),
        ("sbatch-negative-nice-as-user", "priority", "Invalid --nice value"),
        ("sbatch-nice-out-of-range", "priority", "out of range"),
        ("sbatch-unknown-qos", "scriptFile", "Invalid qos specification"),
        ("sbatch-refused-account", "scriptFile", "Invalid account or account/partition"),
        ("sbatch-bad-dependency", "scriptFile", "Job dependency problem"),
        ("sbatch-array-too-large", "scriptFile", "Invalid job array specification"),
        ("sbatch-bad-gres", "scriptFile", "Invalid generic resource"),
        ("sbatch-bad-feature", "scriptFile", "Invalid feature specification"),
        ("sbatch-too-many-cpus", "reservedSlots", "QOSMaxCpuPerJobLimit"),
    ],
)
def test_submit_invalid_field(case: str, field: str, message: str) -> None:
    for version in versions(case):
        with pytest.raises(InvalidSpec, match=message) as caught:
            submit(recorded(case, version))
        assert caught.value.field == field
        assert "Try " not in caught.value.detail
        assert "sbatch:" not in caught.value.detail


def test_submit_array_too_large() -> None:
    done = recorded("sbatch-array-too-large")
    with pytest.raises(InvalidSpec) as caught:
        submit(done, replace(SPEC, array=ArrayRange(first=1, last=9999)))
    assert caught.value.field == "array"


def test_submit_wrong_account() -> None:
    done = recorded("sbatch-refused-account")
    with pytest.raises(InvalidSpec) as caught:
        submit(done, replace(SPEC, account="nobody-pays"))
    assert caught.value.field == "account"


@pytest.mark.parametrize("case", ["sbatch-controller-down", "sbatch-no-configuration-file"])
def test_submit_controller_down(case: str) -> None:
    for version in versions(case):
        with pytest.raises(SchedulerUnavailable):
            submit(recorded(case, version))


def test_submit_configuration_source_missing() -> None:
    # Printed by 22.05 without slurm.conf, and without a server that gives one out.
    text = """sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host
sbatch: error: fetch_config: DNS SRV lookup failed
sbatch: error: _establish_config_source: failed to fetch config
sbatch: fatal: Could not establish a configuration source
"""
    with pytest.raises(SchedulerUnavailable):
        submit(answer(stderr=text, exit_code=1))


def test_submit_quota_exceeded() -> None:
    with pytest.raises(QuotaExceeded, match="AssocMaxSubmitJobLimit"):
        submit(recorded("sbatch-too-many-jobs"))


@pytest.mark.parametrize(
    ("limit", "field"),
    [
        ("AssocMaxWallDurationPerJobLimit", "wallTimeLimit"),
        ("QOSMaxMemoryPerJob", "memoryLimit"),
        ("AssocMaxNodePerJobLimit", "reservedSlots"),
        ("QOSMinGRES", None),
    ],
)
def test_submit_limit_exceeded_by_job(limit: str, field: str | None) -> None:
    done = recorded("sbatch-too-many-cpus")
    stderr = done.stderr.replace(b"QOSMaxCpuPerJobLimit", limit.encode())
    with pytest.raises(InvalidSpec, match=limit) as caught:
        submit(replace(done, stderr=stderr))
    assert caught.value.field == field


def test_submit_queue_full_timeout() -> None:
    for version in versions("sbatch-queue-full"):
        done = recorded("sbatch-queue-full", version)
        ended = CommandTimedOut(done.argv, 5, done.stdout, done.stderr)
        with pytest.raises(QuotaExceeded, match="takes no more jobs at present"):
            run(backend(Recorded(sbatch=ended)).submit(SPEC, SubmissionKey(KEY), SCRIPT))


def test_submit_no_configuration_timeout() -> None:
    done = recorded("sbatch-no-configuration-file")
    ended = CommandTimedOut(done.argv, 5, b"", done.stderr.splitlines()[0])
    with pytest.raises(SchedulerUnavailable):
        run(backend(Recorded(sbatch=ended)).submit(SPEC, SubmissionKey(KEY), SCRIPT))


def test_submit_timeout_silent() -> None:
    with pytest.raises(CommandTimedOut):
        run(
            backend(Recorded(sbatch=CommandTimedOut(("sbatch",), 5))).submit(
                SPEC, SubmissionKey(KEY), SCRIPT
            )
        )


def test_submit_unknown_option_in_script() -> None:
    done = recorded("sbatch-bad-option")
    with pytest.raises(InvalidSpec, match="--no-such-option") as caught:
        submit(done)
    assert caught.value.field == "scriptFile"


def test_submit_unknown_option_of_service() -> None:
    done = recorded("sbatch-bad-option")
    stderr = done.stderr.replace(b"--no-such-option", b"--parsable")
    with pytest.raises(CommandFailed):
        submit(replace(done, stderr=stderr))


@pytest.mark.parametrize(
    ("done", "error"),
    [
        (
            answer(stderr="sbatch: error: Socket timed out on send/recv operation", exit_code=1),
            CommandTimedOut,
        ),
        (answer("141\n", "sbatch: error: something", 1), OutputParseError),
        (answer("Welcome!\n141\n"), OutputParseError),
        (answer(exit_code=-9), OutputParseError),
    ],
)
def test_submit_uncertain(done: Completed, error: type[HpcqError]) -> None:
    with pytest.raises(error):
        submit(done)


def test_submit_sbatch_missing() -> None:
    with pytest.raises(CommandMissing):
        submit(answer(stderr="/bin/sh: 1: exec: sbatch: not found", exit_code=127))


class Asked(Recorded):
    """Answers a search for a key with the first answer, a question for some with the second."""

    def __init__(self, **answers: tuple[Completed, Completed]) -> None:
        super().__init__()
        self.both = answers

    async def run(self, command: Command) -> Completed:
        is_search = any(word == "--me" or "--starttime" in word for word in command.argv)
        self.answers = {name: both[0 if is_search else 1] for name, both in self.both.items()}
        return await super().run(command)


def found(runner: Recorded) -> NativeId | None:
    return run(backend(runner).find(SubmissionKey(KEY)))


def test_find_in_queue() -> None:
    runner = Asked(squeue=(recorded("find-in-queue"), recorded("details-held")))
    assert found(runner) is not None
    assert [command.argv[0] for command in runner.asked] == ["squeue", "squeue"]


@pytest.mark.parametrize("case", ["find-in-accounting", "find-in-accounting-without-comments"])
def test_find_in_accounting(case: str) -> None:
    sacct = (recorded(case), recorded("history-completed"))
    runner = Asked(squeue=(answer(), answer()), sacct=sacct)
    assert found(runner) is not None
    other = SubmissionKey(f"hpcq-{'f' * 32}")
    assert run(backend(runner).find(other)) is None


def test_find_refused_submission() -> None:
    refused = recorded("details-refused")
    job = refused.stdout.split(b"\x1f", 1)[0].decode()
    search = answer(f"{job}{MARKS.free}{KEY}{MARKS.end}\n")
    assert found(Asked(squeue=(search, refused))) is None
    # The controller has forgotten it, accounting has not.
    told = (answer(), recorded("history-refused"))
    assert found(Asked(squeue=(search, answer()), sacct=told)) is None
    unknown = (answer(), recorded("history-unknown"))
    assert found(Asked(squeue=(search, answer()), sacct=unknown)) == job


def test_find_accounting_down() -> None:
    runner = Recorded(squeue=answer(), sacct=recorded("find-in-accounting-down"))
    with pytest.raises(SchedulerUnavailable) as caught:
        run(backend(runner).find(SubmissionKey(KEY)))
    assert caught.value.of_accounting


def test_find_controller_down() -> None:
    runner = Recorded(squeue=recorded("listing-controller-down"))
    with pytest.raises(SchedulerUnavailable) as caught:
        run(backend(runner).find(SubmissionKey(KEY)))
    assert not caught.value.of_accounting


def test_jobs_controller_down() -> None:
    with pytest.raises(SchedulerUnavailable):
        run(backend(Recorded(squeue=recorded("listing-controller-down"))).jobs())


def cancel(done: Completed, history: str = "history-unknown") -> None:
    runner = Recorded(scancel=done, sacct=recorded(history))
    assert run(backend(runner).cancel(NativeId("99999"))) is False


def test_cancel_ended_job() -> None:
    cancel(recorded("scancel-verbose-finished"))
    cancel(recorded("scancel-verbose-running"))
    # The controller has forgotten it, accounting has not.
    cancel(recorded("scancel-verbose-unknown"), "history-completed")


def test_cancel_unknown_job() -> None:
    with pytest.raises(JobNotFound):
        cancel(recorded("scancel-verbose-unknown"))


def test_cancel_not_authorized() -> None:
    with pytest.raises(NotAuthorized):
        cancel(recorded("scancel-verbose-stranger"))
    with pytest.raises(SchedulerUnavailable):
        cancel(recorded("scancel-verbose-controller-down"))


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("scontrol-uhold-unknown", JobNotFound),
        ("scontrol-release-unknown", JobNotFound),
        ("scontrol-uhold-stranger", NotAuthorized),
        ("scontrol-uhold-finished", WrongState),
        ("scontrol-uhold-controller-down", SchedulerUnavailable),
    ],
)
def test_hold_failed(case: str, error: type[HpcqError]) -> None:
    with pytest.raises(error):
        away = recorded("details-controller-down")
        runner = Recorded(scontrol=recorded(case), squeue=away)
        run(backend(runner).act(Action.HOLD, NativeId("99999")))


def history(squeue: Completed, sacct: Completed, *ids: str) -> dict[str, Observation]:
    runner = Recorded(squeue=squeue, sacct=sacct)
    listing = run(backend(runner).history([NativeId(job) for job in ids]))
    return {seen.native_id: seen for seen in listing.observations}


def test_history_completed_by_controller() -> None:
    accounted = recorded("history-shell-reports-signal")
    job = accounted.stdout.decode().split("\x1f")[0]
    seen = history(recorded("details-finished"), accounted, job)[job]
    # sacct says 9.
    assert seen.exit_code == 137
    assert seen.state_reason == "It exited with 137."
    assert seen.script_file == "/tmp/hpcq-recording/job.sh"
    assert seen.stdout_path == f"/tmp/hpcq-recording/demo.o{job}"
    assert seen.usage is not None


def test_history_without_accounting() -> None:
    for sacct in (
        recorded("history-database-down"),
        answer(stderr="Slurm accounting storage is disabled", exit_code=1),
    ):
        seen = history(recorded("details-database-down"), sacct, "1")
        assert [one.state for one in seen.values()] == [JobState.DONE]


def test_history_accounting_down_missing_job() -> None:
    runner = Recorded(
        squeue=recorded("details-database-down"), sacct=recorded("history-database-down")
    )
    listing = run(backend(runner).history([NativeId("1"), NativeId("99999")]))
    assert len(listing.observations) == 1
    assert listing.partial_reason is not None
    assert "Problem talking to the database" in listing.partial_reason.detail
    with pytest.raises(SchedulerUnavailable, match="Problem talking to the database"):
        history(recorded("details-unknown"), recorded("history-database-down"), "99999")


def test_history_accounting_window_clock_ahead() -> None:
    """A controller whose clock is ahead dates jobs into our future (real: test_clocks_slurm)."""
    sacct = (recorded("find-in-accounting"), recorded("history-unknown"))
    runner = Asked(squeue=(answer(), answer()), sacct=sacct)
    run(backend(runner).history([NativeId("1")]))
    run(backend(runner).find(SubmissionKey(KEY)))
    asked = [command.argv for command in runner.asked if command.argv[0] == "sacct"]
    assert len(asked) == 3
    assert all("--endtime=now+1days" in argv for argv in asked)


@pytest.mark.parametrize("waits_seconds", [0, 60])
def test_history_end_with_clock_ahead(waits_seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "hpcq.schedulers.slurm.history._ACCOUNTING_GRACE", timedelta(seconds=waits_seconds)
    )
    done = recorded("details-finished")
    first = parse.parse_details(done.stdout, MARKS).observations[0]
    assert first.end_time is not None
    ends, ahead = first.end_time, datetime.now(UTC) + timedelta(minutes=5)
    told, late = (str(int(moment.timestamp())).encode() for moment in (ends, ahead))
    known = history(
        replace(done, stdout=done.stdout.replace(told, late)),
        recorded("history-unknown"),
        first.native_id,
    )
    assert (first.native_id in known) == (waits_seconds == 0)


def test_history_controller_down() -> None:
    down = recorded("listing-controller-down")
    assert len(history(down, recorded("history-completed"), "1")) == 1


@pytest.mark.parametrize("squeue", ["listing-controller-down", "details-unknown"])
def test_history_controller_and_accounting_down(squeue: str) -> None:
    with pytest.raises(SchedulerUnavailable):
        history(recorded(squeue), recorded("history-database-down"), "1")


def test_history_accounting_down_partial() -> None:
    runner = Recorded(
        squeue=recorded("details-database-down"), sacct=recorded("history-database-down")
    )
    listing = run(backend(runner).history([NativeId("1")]))
    assert isinstance(listing.partial_reason, SchedulerUnavailable)
    assert listing.partial_reason.of_accounting


def test_history_accounting_down_unknown_job() -> None:
    with pytest.raises(SchedulerUnavailable) as caught:
        history(recorded("details-unknown"), recorded("history-database-down"), "99999")
    assert caught.value.of_accounting


def test_history_unknown_job() -> None:
    assert history(recorded("details-unknown"), recorded("history-unknown"), "99999") == {}


def test_details_usage_unavailable() -> None:
    slow = CommandTimedOut(("sstat",), 5)
    for sstat in (slow, recorded("usage-nothing-runs")):
        runner = Recorded(squeue=recorded("details-many"), sstat=sstat)
        listing = run(backend(runner).details([NativeId("1")]))
        assert JobState.RUNNING in {seen.state for seen in listing.observations}


def check(sbatch: Completed | HpcqError) -> Command:
    runner = Recorded(sbatch=sbatch)
    run(backend(runner).check_submission())
    return runner.asked[0]


def test_check_submission_test_only() -> None:
    asked = check(
        answer(stderr="sbatch: Job 27 to start at 2026-11-27T15:36:38 using 1 processors")
    )
    assert "--test-only" in asked.argv
    # All that a submission gives always: an sbatch that lacks one of them can submit nothing.
    given = run_submission().argv
    names = {word.partition("=")[0] for word in given[: given.index("--")]}
    assert names <= {word.partition("=")[0] for word in asked.argv}


def run_submission() -> Command:
    runner = Recorded(sbatch=recorded("sbatch-ok"))
    spec = JobSpec(name="demo", working_directory="/srv", script_file="/srv/job.sh")
    run(backend(runner).submit(spec, SubmissionKey(KEY), SCRIPT))
    return runner.asked[0]


@pytest.mark.parametrize(
    "text",
    [
        "sbatch: unrecognized option '--propagate=NONE'",
        "sbatch: error: Batch job submission failed: Access/permission denied",
        "sbatch: error: Batch job submission failed: Invalid account or account/partition "
        "combination specified",
    ],
)
def test_check_submission_refused(text: str) -> None:
    with pytest.raises(SchedulerError, match="takes no job from this service"):
        check(answer(stderr=text, exit_code=1))


def test_check_submission_nodes_unavailable() -> None:
    text = "allocation failure: Requested node configuration is not available"
    check(answer(stderr=text, exit_code=1))


def test_check_submission_controller_down() -> None:
    with pytest.raises(SchedulerUnavailable):
        check(recorded("sbatch-controller-down"))


def test_version_of_slurm() -> None:
    assert run(backend(Recorded(squeue=recorded("squeue-version"))).version()).startswith("slurm")
