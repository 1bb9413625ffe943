"""Reads are asked again, changes never; a scheduler that is away is left in peace."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from hpcq.domain.actions import Action
from hpcq.domain.errors import (
    CircuitOpen,
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    HpcqError,
    InvalidSpec,
    JobNotFound,
    OutputParseError,
    QuotaExceeded,
    SchedulerError,
    SchedulerUnavailable,
)
from hpcq.domain.jobs import JobSpec, NativeId, SubmissionKey
from hpcq.domain.states import JobState
from hpcq.schedulers.base import Listing
from hpcq.schedulers.testing import FakeScheduler
from hpcq.services.resilience import ResilientBackend
from hpcq.services.settings import ServiceSettings

pytestmark = pytest.mark.anyio

AWAY = SchedulerUnavailable("It is away.", scheduler_message="connection refused")
HANGS = CommandTimedOut(("qstat",), 30)
KEY = SubmissionKey(f"hpcq-{'a' * 32}")
SPEC = JobSpec(name="study", working_directory="/work", script_file="/work/run.sh")
ID = NativeId("1")
FAILURES = 3
INTERVAL_SECONDS = 10.0
SETTINGS = ServiceSettings(
    circuit_breaker_failures=FAILURES, poll_interval_seconds=INTERVAL_SECONDS
)

Call = Callable[[ResilientBackend], Awaitable[object]]

SCRIPT = b"true\n"
READS: dict[str, Call] = {
    "find": lambda b: b.find(KEY),
    "jobs": lambda b: b.jobs(),
    "history": lambda b: b.history([ID]),
    "details": lambda b: b.details([ID]),
    "queues": lambda b: b.queues(),
    "nodes": lambda b: b.nodes(),
    "version": lambda b: b.version(),
}
CHANGES: dict[str, Call] = {
    "submit": lambda b: b.submit(SPEC, KEY, SCRIPT),
    "cancel": lambda b: b.cancel(ID),
    "hold": lambda b: b.act(Action.HOLD, ID),
    "release": lambda b: b.act(Action.RELEASE, ID),
}
ALL = {**READS, **CHANGES}
OF_THE_SCHEDULER = sorted(set(ALL) - {"history"})


class Time:
    """The clock of the circuits, which a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("hpcq.services.circuit_breaker.monotonic", time)
    return time


@pytest.fixture
def scheduler() -> FakeScheduler:
    scheduler = FakeScheduler()
    scheduler.enqueue()
    return scheduler


@pytest.fixture
def backend(
    scheduler: FakeScheduler, time: Time, monkeypatch: pytest.MonkeyPatch
) -> ResilientBackend:
    """Before the scheduler; what is asked again is asked at once."""
    monkeypatch.setattr("hpcq.services.resilience._JITTER_SECONDS", 0.0)
    monkeypatch.setattr("hpcq.services.resilience._PAUSES_SECONDS", (0.0, 0.0))
    return ResilientBackend(scheduler, SETTINGS)


def state(backend: ResilientBackend, circuit: str = "scheduler") -> tuple[str, int]:
    now = backend.circuits[circuit].state
    return now.state, now.failures


async def fail(
    backend: ResilientBackend, method: str, error: HpcqError = AWAY, *, times: int = 1
) -> None:
    """Have a method fail so often, by the scheduler's own doing."""
    scheduler = backend.wrapped
    assert isinstance(scheduler, FakeScheduler)
    for _ in range(times):
        scheduler.fail_next(method, error)
        with pytest.raises(type(error)) as caught:
            await ALL[method](backend)
        assert caught.value is error


async def refused(backend: ResilientBackend, method: str) -> SchedulerUnavailable:
    """Have a method refused without the scheduler being asked."""
    scheduler = backend.wrapped
    assert isinstance(scheduler, FakeScheduler)
    before = scheduler.calls[method]
    with pytest.raises(SchedulerUnavailable) as caught:
        await ALL[method](backend)
    assert scheduler.calls[method] == before
    return caught.value


# What is asked again


@pytest.mark.parametrize("method", READS)
async def test_read_retried(
    backend: ResilientBackend, scheduler: FakeScheduler, method: str
) -> None:
    scheduler.fail_next(method, AWAY)
    scheduler.fail_next(method, AWAY)
    await READS[method](backend)
    assert scheduler.calls[method] == 3


@pytest.mark.parametrize("method", READS)
async def test_read_retries_limited(
    scheduler: FakeScheduler, method: str, backend: ResilientBackend
) -> None:
    settings = SETTINGS.model_copy(update={"circuit_breaker_failures": 100})
    patient = ResilientBackend(scheduler, settings)
    for _ in range(9):
        scheduler.fail_next(method, AWAY)
    with pytest.raises(SchedulerUnavailable):
        await READS[method](patient)
    assert scheduler.calls[method] == 3


@pytest.mark.parametrize("error", [AWAY, HANGS, OutputParseError("qsub", "noise", b"?")], ids=repr)
@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("method", CHANGES)
async def test_change_not_retried(
    backend: ResilientBackend,
    scheduler: FakeScheduler,
    method: str,
    error: HpcqError,
    after_effect: bool,
) -> None:
    scheduler.fail_next(method, error, after_effect=after_effect)
    with pytest.raises(type(error)):
        await CHANGES[method](backend)
    assert scheduler.calls[method] == 1


NOT_MENDED = [
    HANGS,
    CommandMissing("No qstat."),
    CommandFailed(("qstat",), 1, b"no"),
    OutputParseError("qstat", "noise", b"?"),
    JobNotFound("1"),
    ZeroDivisionError(),
]


@pytest.mark.parametrize("error", NOT_MENDED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", READS)
async def test_read_not_retried(
    backend: ResilientBackend, scheduler: FakeScheduler, method: str, error: Exception
) -> None:
    scheduler.fail_next(method, error)
    with pytest.raises(type(error)):
        await READS[method](backend)
    assert scheduler.calls[method] == 1


# What opens a circuit, and what closes it


async def test_circuit_ignores_timeouts_of_accounts(
    backend: ResilientBackend, scheduler: FakeScheduler
) -> None:
    for _ in range(2 * FAILURES):
        scheduler.fail_next("submit", HANGS)
        with pytest.raises(CommandTimedOut):
            await backend.submit(replace(SPEC, run_as="ana"), KEY, SCRIPT)
    assert state(backend) == ("closed", 0)


@pytest.mark.parametrize("method", [*CHANGES, "jobs", "details", "queues", "nodes", "find"])
async def test_circuit_opens_after_timeouts(backend: ResilientBackend, method: str) -> None:
    await fail(backend, method, HANGS, times=FAILURES - 1)
    assert state(backend) == ("closed", FAILURES - 1)
    await fail(backend, method, HANGS)
    assert state(backend) == ("open", FAILURES)
    assert state(backend, "accounting") == ("closed", 0)


async def test_circuit_count_reset_by_answer(backend: ResilientBackend) -> None:
    await fail(backend, "submit", times=FAILURES - 1)
    await backend.jobs()
    await fail(backend, "submit", times=FAILURES - 1)
    assert state(backend) == ("closed", FAILURES - 1)


@pytest.mark.parametrize(
    "error",
    [
        InvalidSpec("No."),
        JobNotFound("1"),
        QuotaExceeded("Full."),
        CommandMissing("No qsub."),
        CommandFailed(("qsub",), 1, b"failed receiving gdi request response"),
        OutputParseError("qsub", "the answer was lost", b"?"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_circuit_ignores_ambiguous_errors(
    backend: ResilientBackend, error: HpcqError
) -> None:
    await fail(backend, "submit", times=FAILURES - 1)
    await fail(backend, "submit", error, times=FAILURES)
    assert state(backend) == ("closed", FAILURES - 1)


async def test_circuit_ignores_version(
    backend: ResilientBackend,
) -> None:
    await fail(backend, "submit", times=FAILURES - 1)
    await backend.version()
    assert state(backend) == ("closed", FAILURES - 1)


@pytest.mark.parametrize("method", [m for m in OF_THE_SCHEDULER if m != "jobs"])
async def test_circuit_open_refuses_all_but_listing(backend: ResilientBackend, method: str) -> None:
    await fail(backend, "submit", times=FAILURES)
    refusal = await refused(backend, method)
    assert "The FAKE scheduler has not answered since 2" in refusal.detail
    assert "is not asked again before 2" in refusal.detail
    assert AWAY.detail in refusal.detail
    assert refusal.scheduler_message == AWAY.scheduler_message
    assert refusal.retry_after_seconds == INTERVAL_SECONDS


async def test_circuit_closed_by_listing(
    backend: ResilientBackend, scheduler: FakeScheduler
) -> None:
    await fail(backend, "submit", times=FAILURES)
    before = scheduler.calls["jobs"]
    await fail(backend, "jobs")
    assert scheduler.calls["jobs"] == before + 1, "an open circuit is not asked again"
    assert state(backend) == ("open", FAILURES + 1)
    await backend.jobs()
    assert state(backend) == ("closed", 0)
    assert await backend.submit(SPEC, KEY, SCRIPT) == "2"


async def test_circuit_open_retry_after(backend: ResilientBackend, time: Time) -> None:
    await fail(backend, "submit", times=FAILURES)
    time.at += 4
    assert (await refused(backend, "submit")).retry_after_seconds == INTERVAL_SECONDS - 4
    time.at += 6.5
    assert (await refused(backend, "submit")).retry_after_seconds == 1


async def test_circuit_half_open_during_listing(
    backend: ResilientBackend, scheduler: FakeScheduler, time: Time
) -> None:
    await fail(backend, "submit", times=FAILURES)
    probe = scheduler.hold_back_next("jobs")
    listing = asyncio.create_task(backend.jobs())
    await probe.ready.wait()
    assert state(backend)[0] == "half_open"
    time.at += 10 * INTERVAL_SECONDS
    assert "and is being asked now" in (await refused(backend, "submit")).detail
    probe.let_go()
    await listing
    assert state(backend) == ("closed", 0)


async def test_circuit_open_during_old_listing(
    backend: ResilientBackend,
    scheduler: FakeScheduler,
    time: Time,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = asyncio.Event()

    async def hang() -> Listing:
        await over.wait()
        raise HANGS

    monkeypatch.setattr(scheduler, "jobs", hang)
    listing = asyncio.create_task(backend.jobs())
    await asyncio.sleep(0)
    await fail(backend, "submit", HANGS, times=FAILURES)
    time.at += 2 * INTERVAL_SECONDS
    assert "and is being asked now" in (await refused(backend, "submit")).detail
    over.set()
    with pytest.raises(CommandTimedOut):
        await listing
    assert state(backend) == ("open", FAILURES + 1)
    assert (await refused(backend, "submit")).retry_after_seconds == INTERVAL_SECONDS


async def test_circuit_probe_cancelled(backend: ResilientBackend, scheduler: FakeScheduler) -> None:
    await fail(backend, "submit", times=FAILURES)
    probe = scheduler.hold_back_next("jobs")
    listing = asyncio.create_task(backend.jobs())
    await probe.ready.wait()
    listing.cancel()
    await asyncio.gather(listing, return_exceptions=True)
    assert state(backend) == ("open", FAILURES)


async def test_circuit_probe_other_error(backend: ResilientBackend, time: Time) -> None:
    await fail(backend, "submit", times=FAILURES)
    time.at += INTERVAL_SECONDS
    await fail(backend, "jobs", OutputParseError("qstat", "its version is new", b"?"))
    await refused(backend, "submit")
    time.at += INTERVAL_SECONDS
    await backend.submit(SPEC, KEY, SCRIPT)
    assert state(backend) == ("closed", 0)


async def test_circuit_probe_without_listing(
    backend: ResilientBackend, scheduler: FakeScheduler, time: Time
) -> None:
    await fail(backend, "submit", times=FAILURES)
    time.at += 2 * INTERVAL_SECONDS
    assert state(backend)[0] == "half_open"
    probe = scheduler.hold_back_next("submit")
    submission = asyncio.create_task(backend.submit(SPEC, KEY, SCRIPT))
    await probe.ready.wait()
    await refused(backend, "submit")
    probe.let_go()
    await submission
    assert state(backend) == ("closed", 0)


async def test_circuit_late_timeout_after_answers(
    backend: ResilientBackend, scheduler: FakeScheduler
) -> None:
    """Commands that began before an outage was over end after it."""
    answers = [scheduler.hold_back_next("submit") for _ in range(FAILURES)]
    submissions = [asyncio.create_task(backend.submit(SPEC, KEY, SCRIPT)) for _ in answers]
    for answer in answers:
        await answer.ready.wait()
    await backend.jobs()
    assert state(backend) == ("closed", 0)
    for answer in answers:
        answer.let_go(HANGS)
    assert await asyncio.gather(*submissions, return_exceptions=True) == [HANGS] * FAILURES
    assert state(backend) == ("closed", 0)


# The accounting


async def test_accounting_circuit_open(backend: ResilientBackend) -> None:
    await fail(backend, "history", HANGS, times=FAILURES)
    assert state(backend, "accounting") == ("open", FAILURES)
    assert state(backend) == ("closed", 0)
    refusal = await refused(backend, "history")
    assert refusal.detail.startswith("The accounting of the FAKE scheduler has not answered")
    assert refusal.retry_after_seconds == 6 * INTERVAL_SECONDS
    await refused(backend, "find")
    for method in ("submit", "jobs", "details", "hold", "release", "cancel", "queues"):
        await ALL[method](backend)


@pytest.mark.parametrize(
    ("missing", "opens"), [(HANGS, True), (AWAY, False)], ids=["hangs", "refuses"]
)
async def test_accounting_circuit_partial_answers(
    scheduler: FakeScheduler,
    backend: ResilientBackend,
    missing: SchedulerError,
    opens: bool,
) -> None:
    scheduler.partial_reason = missing
    for _ in range(FAILURES):
        assert (await backend.history([ID])).partial_reason is missing
    assert state(backend, "accounting") == (("open", FAILURES) if opens else ("closed", 0))


async def test_ended_jobs_accounting_circuit_open() -> None:
    class Controller(FakeScheduler):
        async def ended(self, ids: Sequence[NativeId]) -> Listing:
            self.calls["ended"] += 1
            return Listing(observations=[job for i in ids for job in self.accounting.get(i, ())])

    scheduler = Controller()
    backend = ResilientBackend(scheduler, SETTINGS)
    native_id = scheduler.enqueue()
    scheduler.end(native_id)
    # Reads of ids that nobody knows.
    for _ in range(FAILURES):
        scheduler.fail_next("history", HANGS)
        with pytest.raises(CommandTimedOut):
            await backend.history([NativeId("99")])
    assert state(backend, "accounting") == ("open", FAILURES)
    asked = scheduler.calls["history"]
    listing = await backend.history([native_id])
    assert [seen.state for seen in listing.observations] == [JobState.DONE]
    assert isinstance(listing.partial_reason, CircuitOpen)
    assert (scheduler.calls["history"], scheduler.calls["ended"]) == (asked, 1)


async def test_accounting_circuit_counts_failed_find(
    backend: ResilientBackend,
) -> None:
    error = CommandTimedOut(("sacct",), 30)
    error.of_accounting = True
    await fail(backend, "find", error, times=FAILURES)
    assert state(backend) == ("closed", 0)
    assert state(backend, "accounting") == ("open", FAILURES)


async def test_accounting_readable_circuit_open(
    backend: ResilientBackend,
) -> None:
    await fail(backend, "submit", times=FAILURES)
    await backend.history([ID])


async def test_accounting_circuit_retry(backend: ResilientBackend, time: Time) -> None:
    await fail(backend, "history", HANGS, times=FAILURES)
    time.at += 6 * INTERVAL_SECONDS
    await fail(backend, "history", HANGS)
    await refused(backend, "history")
    time.at += 6 * INTERVAL_SECONDS
    await backend.history([ID])
    assert state(backend, "accounting") == ("closed", 0)


# The log


async def test_outage_logged_at_start_and_end(
    backend: ResilientBackend,
) -> None:
    with capture_logs() as lines:
        await fail(backend, "submit", times=FAILURES)
        await fail(backend, "jobs", times=3)
        await backend.jobs()
        await backend.jobs()
    told = [(line["event"], line["log_level"], line["circuit"]) for line in lines]
    assert told == [
        ("circuit.opened", "warning", "scheduler"),
        ("circuit.closed", "info", "scheduler"),
    ]
