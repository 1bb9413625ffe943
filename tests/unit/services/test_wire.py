"""The bytes of a job against the schema that the documentation shows."""

import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.services.kit import T0, WIRE

from hpcq.api.schemas import Job, ResourceUsage
from hpcq.domain import job_changes, job_merge, submission
from hpcq.domain.actions import Action
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState, Stage
from hpcq.domain.units import format_local_time
from hpcq.services.listing import wire
from hpcq.services.listing.job_entry import Freshness, JobEntry
from hpcq.services.listing.job_table import JobTable
from hpcq.services.listing.wire import WireFormat

ID = NativeId("12_3")
ORIGINAL = WireFormat("1", is_original=True)
SPEC = JobSpec(
    name='a "study" é\u2028',
    working_directory="/srv/é \\",
    script_file="/srv/run.sh",
    args=("", "a b", "\n\x01", "</script>"),
    slots=16,
    queue="all.q",
    account="p1",
    priority=-5,
    wall_time_limit_seconds=3600,
    memory_limit_bytes=3 << 29,
    environment={"SECRET": "never on the wire"},
    stdout_path="out",
    stderr_path="err",
)
SEEN = Observation(
    native_id=ID,
    state=JobState.RUNNING,
    native_state="r",
    owner="ana",
    queue="all.q@n1",
    submit_time=T0,
    start_time=T0 + timedelta(seconds=10),
    hosts=("n1", "n2"),
    usage=Usage(cpu_seconds=1.5, memory_byte_seconds=2.0**31, max_memory_bytes=2.0**30),
    array_job_id=NativeId("12"),
    array_task_id=3,
    depends_on=(NativeId("9"), "10"),
)
INTENT = submission.intent(
    JobUid("3d6f7a52-0c0b-4b7e-9b57-6d1f3b9a7c11"), SPEC, T0, by="test", is_promised=False
)
TAKEN = submission.submitted(INTENT, ID, T0)
RUNNING = job_merge.observe(TAKEN, SEEN, T0 + timedelta(seconds=12))


def ended(state: JobState, **more: object) -> JobRecord:
    end = replace(SEEN, state=state, end_time=T0 + timedelta(seconds=70), **more)  # type: ignore[arg-type]
    return job_merge.observe(RUNNING, end, T0 + timedelta(seconds=90))


# One record of every kind that there can be.
KINDS = {
    "intent": INTENT,
    "refused": submission.failed(INTENT, "no such queue", T0),
    "unclear": submission.mark_unclear(INTENT, "no answer", T0, is_promised=False),
    "taken": TAKEN,
    "held": job_changes.acted_on(TAKEN, Action.HOLD, T0),
    "running": RUNNING,
    "exiting": job_merge.observe(RUNNING, replace(SEEN, stage=Stage.EXITING), T0),
    "being cancelled": job_changes.cancel_requested(RUNNING, T0),
    "removed while queued": job_merge.removed_while_queued(TAKEN, T0),
    "missed": job_changes.missed(RUNNING, T0),
    "vanished": job_changes.vanished(RUNNING, "gone", last_seen=T0, at=T0),
    "done": ended(JobState.DONE, exit_code=0),
    "failed": ended(JobState.FAILED, exit_signal=9, failure_kind=FailureKind.SIGNAL),
    "failed, nobody knows why": ended(JobState.FAILED),
    "removed": ended(JobState.DONE).changed(removed_at=T0),
    "foreign": job_merge.foreign_record("1", SEEN, T0),
    "foreign, hardly known": job_merge.foreign_record(
        "1", Observation(native_id=ID, state=JobState.UNDETERMINED), T0
    ),
    "no UTF-8, and too large": job_merge.foreign_record(
        "1", replace(SEEN, name="a\udcff", hosts=("\udc80",), args=("\ud800",), slots=10**30), T0
    ),
}
FRESH = Freshness(T0 + timedelta(seconds=60), stale=False)
FRESHNESS = [FRESH, Freshness(T0, stale=True), Freshness(None, stale=True)]


@pytest.mark.parametrize("freshness", FRESHNESS, ids=["fresh", "stale", "never asked"])
@pytest.mark.parametrize("record", KINDS.values(), ids=KINDS)
def test_job_json_matches_schema(record: JobRecord, freshness: Freshness) -> None:
    body = JobEntry(record, WIRE).json(freshness)
    job = Job.model_validate_json(body)
    given = json.loads(body)
    # Every field is there, in the order of the contract, and none besides.
    documented = [info.alias for info in Job.model_fields.values()]
    assert list(given) == documented
    assert (job.job_id, job.uid, job.state) == (record.native_id, record.uid, record.state)
    assert job.status is record.status


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.anyio
async def test_listing_json_plain_or_gzip(usage: bool) -> None:
    table = JobTable(WIRE)
    for number, record in enumerate(KINDS.values(), 1):
        native_id = None if record.native_id is None else NativeId(str(number))
        table.apply([record.changed(uid=JobUid.new(), native_id=native_id)], as_of=T0)
    plain = b"".join(await table.listing.json(FRESH, usage=usage, gzip=False))
    (packed,) = await table.listing.json(FRESH, usage=usage, gzip=True)
    assert gzip.decompress(packed) == plain
    jobs = [Job.model_validate(job) for job in json.loads(plain)]
    hidden = {"intent", "refused", "unclear", "removed"}
    assert len(jobs) == len(KINDS) - len(hidden)
    assert all((job.resource_usage is not None) <= usage for job in jobs)
    assert usage == any(job.resource_usage is not None for job in jobs)


@pytest.mark.anyio
async def test_listing_json_empty_queue() -> None:
    assert await JobTable(WIRE).listing.json(FRESH, usage=False, gzip=False) == (b"[]",)


def of(record: JobRecord, freshness: Freshness = FRESH) -> dict[str, object]:
    body: dict[str, object] = json.loads(JobEntry(record, WIRE).json(freshness))
    return body


def test_job_json_submitted_fields() -> None:
    job = of(RUNNING)
    assert job["name"] == SPEC.name
    assert job["workingDirectory"] == SPEC.working_directory
    assert job["args"] == list(SPEC.args)
    assert (job["reservedSlots"], job["wallTimeLimit"], job["memoryLimit"]) == (16, 3600, 1.5)
    assert "never on the wire" not in json.dumps(job)


def test_job_json_time_limit_of_queue() -> None:
    spec = replace(SPEC, wall_time_limit_seconds=None, has_queue_time_limit=True)
    assert RUNNING.seen is not None
    seen = replace(RUNNING.seen, wall_time_limit_seconds=60)
    assert of(RUNNING.changed(spec=spec, seen=seen))["wallTimeLimit"] is None
    assert of(RUNNING.changed(spec=None, seen=seen))["wallTimeLimit"] == 60


def test_job_json_queue_of_scheduler() -> None:
    assert of(TAKEN)["queue"] == "all.q"
    assert of(RUNNING)["queue"] == "all.q@n1"


def test_usage_json_units_and_unknown() -> None:
    assert of(RUNNING)["resourceUsage"] == {
        "cpuSeconds": 1.5,
        "memoryCpuSeconds": 2.0,
        "instantTotalMemory": 0.0,
        "maxTotalMemory": 1.0,
        "processIO": 0.0,
        "processIOWaiting": 0.0,
        "timeInstant": "2026-01-05T12:00:12.000Z",
        "unknown": ["instantTotalMemory", "processIO", "processIOWaiting"],
    }


def used(usage: Usage | None, record: JobRecord = RUNNING) -> Any:
    assert record.seen is not None
    return of(record.changed(seen=replace(record.seen, usage=usage)))["resourceUsage"]


def test_usage_json_ended_job_memory() -> None:
    usage = used(Usage(cpu_seconds=1.0, memory_bytes=2.0**30), ended(JobState.DONE, exit_code=0))
    assert usage["instantTotalMemory"] == 0.0
    assert "instantTotalMemory" not in usage["unknown"]


@pytest.mark.parametrize(
    "usage", [None, Usage(), Usage(sampled_at=T0), Usage(cpu_seconds=float("nan"))]
)
@pytest.mark.parametrize("record", [RUNNING, ended(JobState.DONE, exit_code=0)])
def test_usage_json_none_known(usage: Usage | None, record: JobRecord) -> None:
    assert used(usage, record) is None


def test_usage_json_infinite() -> None:
    usage = used(Usage(cpu_seconds=float("inf"), io_wait_seconds=0.0))
    assert usage["cpuSeconds"] == 0.0
    assert "cpuSeconds" in usage["unknown"]
    assert "processIOWaiting" not in usage["unknown"], "a zero that was measured is no guess"


def test_usage_json_time_default() -> None:
    end = ended(JobState.DONE, exit_code=0)
    assert used(Usage(cpu_seconds=1.0), end)["timeInstant"] == "2026-01-05T12:01:10.000Z"
    measured = Usage(cpu_seconds=1.0, sampled_at=T0)
    assert used(measured, end)["timeInstant"] == "2026-01-05T12:00:00.000Z"


def test_samples_json_as_usage() -> None:
    samples = [Usage(sampled_at=T0), Usage(cpu_seconds=2.0, memory_bytes=0.0, sampled_at=T0)]
    (sample,) = json.loads(WIRE.encode_samples(samples))
    assert ResourceUsage.model_validate(sample).unknown == [
        "memoryCpuSeconds",
        "maxTotalMemory",
        "processIO",
        "processIOWaiting",
    ]


# --- as the original implementation wrote them --------------------------------------------------


def original(record: JobRecord, freshness: Freshness = FRESH) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(JobEntry(record, ORIGINAL).json(freshness))
    return body


@pytest.fixture
def in_brasilia(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine three hours behind UTC."""
    monkeypatch.setenv("TZ", "<-03>3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
    wire._of_many.cache_clear()


@pytest.mark.usefixtures("in_brasilia")
def test_original_times_local() -> None:
    record = ended(JobState.DONE, exit_code=0)
    assert record.seen is not None
    at = T0 + timedelta(seconds=70, microseconds=224496)
    usage = Usage(cpu_seconds=1.0, sampled_at=at)
    job = original(record.changed(seen=replace(record.seen, end_time=at, usage=usage)))
    assert (job["startTime"], job["endTime"]) == (
        "2026-01-05T09:00:10",
        "2026-01-05T09:01:10.224496",
    )
    assert job["submitTime"] == "2026-01-05T09:00:00"
    assert job["resourceUsage"]["timeInstant"] == "2026-01-05T09:01:10.224496"
    assert job["asOf"] == "2026-01-05T09:01:30"


def test_original_last_status_update_time() -> None:
    for record, at in ((RUNNING, FRESH.as_of), (ended(JobState.DONE), T0 + timedelta(seconds=90))):
        job = original(record)
        assert at is not None
        assert job["lastStatusUpdateTime"] == job["asOf"] == format_local_time(at)
    never = original(RUNNING, Freshness(None, stale=True))
    assert never["lastStatusUpdateTime"] == format_local_time(RUNNING.state_changed_at)


def test_original_last_status_update_not_before_change() -> None:
    job = original(TAKEN.changed(state_changed_at=T0 + timedelta(seconds=1)), Freshness(T0, False))
    assert job["lastStatusUpdateTime"] == format_local_time(T0 + timedelta(seconds=1))


def test_original_start_time_waiting_job() -> None:
    job = original(TAKEN)
    assert job["startTime"] == job["submitTime"] == format_local_time(T0)
    assert job["elapsed"] is None


def test_original_time_like_text() -> None:
    name = ',"lastStatusUpdateTime":""'
    record = RUNNING.changed(spec=replace(SPEC, name=name, args=(name,)))
    job = original(record)
    assert (job["name"], job["args"]) == (name, [name])
    assert job["lastStatusUpdateTime"] == job["asOf"]


@pytest.mark.parametrize("record", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("freshness", FRESHNESS, ids=["fresh", "stale", "never asked"])
def test_original_job_fields(record: JobRecord, freshness: Freshness) -> None:
    job = original(record, freshness)
    assert list(job) == list(of(record, freshness))
    assert datetime.fromisoformat(job["lastStatusUpdateTime"]).tzinfo is None


@pytest.mark.anyio
async def test_original_listing_active_jobs() -> None:
    table = JobTable(ORIGINAL)
    for number, record in enumerate(KINDS.values(), 1):
        native_id = None if record.native_id is None else NativeId(str(number))
        table.apply([record.changed(uid=JobUid.new(), native_id=native_id)], as_of=T0)
    jobs = json.loads(b"".join(await table.listing.json(FRESH, usage=False, gzip=False)))
    assert {job["status"] for job in jobs} == {
        "START_REQUESTED",
        "RUNNING",
        "STOPPING",
        "UNKNOWN",
    }


def test_elapsed_from_start() -> None:
    assert of(TAKEN)["elapsed"] is None
    assert of(RUNNING)["elapsed"] == 50
    assert of(KINDS["missed"])["elapsed"] == 0, "a clock that is behind gives no negative time"
    assert of(KINDS["done"])["elapsed"] == 60
    assert of(RUNNING, Freshness(None, stale=True))["elapsed"] is None


def test_as_of_waiting_or_running_job() -> None:
    assert of(RUNNING)["asOf"] == "2026-01-05T12:01:00.000Z"
    assert of(RUNNING, Freshness(T0, stale=True))["stale"] is True


def test_as_of_ended_job() -> None:
    job = of(KINDS["done"], Freshness(T0, stale=True))
    assert (job["asOf"], job["stale"]) == ("2026-01-05T12:01:30.000Z", False)


def test_failure_kind_failed_jobs_only() -> None:
    kinds = {name: of(record)["failureKind"] for name, record in KINDS.items()}
    assert {name: kind for name, kind in kinds.items() if kind is not None} == {
        "refused": "SCHEDULER_ERROR",
        "removed while queued": "CANCELLED",
        "failed": "SIGNAL",
        "failed, nobody knows why": "UNKNOWN",
    }


def test_job_json_text_not_utf8() -> None:
    job = of(KINDS["no UTF-8, and too large"])
    assert str(job["name"]).startswith("a\ufffd")
    assert job["reservedSlots"] == 10**30


@pytest.mark.anyio
async def test_listing_json_large_jobs() -> None:
    table = JobTable(WIRE)
    spec = replace(SPEC, args=("x" * 100_000,))
    large = [
        submission.submitted(
            submission.intent(JobUid.new(), spec, T0, by="test", is_promised=False), native_id, T0
        )
        for native_id in map(NativeId, "1234")
    ]
    table.apply(large[:3], as_of=T0)
    before = await table.listing.json(FRESH, usage=False, gzip=False)
    table.apply(large[3:], as_of=T0)
    after = await table.listing.json(FRESH, usage=False, gzip=False)
    assert [len(json.loads(b"".join(pieces))) for pieces in (before, after)] == [3, 4]
    own = [piece for piece in after if not any(piece is other for other in before)]
    assert 100_000 < sum(map(len, own)) < 110_000
