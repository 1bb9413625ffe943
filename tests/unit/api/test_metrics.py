"""``GET /metrics``: what is counted, in which form, and what no scrape asks."""

import os
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.api.conftest import App, running

from hpcq.api.metrics import CONNECTIONS, LOG, METRICS, Metrics
from hpcq.cli.connections import Connections
from hpcq.config import Settings
from hpcq.domain.errors import (
    CommandMissing,
    CommandTimedOut,
    OutputParseError,
    SchedulerUnavailable,
)
from hpcq.execution.protocol import Command, Completed
from hpcq.log_writer import LogWriter
from hpcq.schedulers.testing.waiting import eventually

pytestmark = pytest.mark.anyio

HANGS = CommandTimedOut(("qsub",), 30)


async def scrape(app: App) -> dict[tuple[str, ...], float]:
    """Return the values of all samples, by name and the values of the labels, sorted by label."""
    answer = await app.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    return samples(answer.text)


def samples(text: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def test_requests_by_route_method_status(app: App) -> None:
    await app.client.get("/jobs")
    await app.client.head("/jobs/")
    await app.client.get("/jobs/12345")
    await app.client.get("/jobs/another/path")
    await app.client.request("FROBNICATE", "/jobs")
    await app.client.request("X" * 100, "/jobs")
    found = await scrape(app)
    counted = {key[1:]: n for key, n in found.items() if key[0] == "hpcq_requests_total"}
    assert counted == {
        ("GET", "listJobs", "2xx"): 1,
        ("HEAD", "listJobs", "2xx"): 1,
        ("GET", "getJob", "4xx"): 1,
        ("GET", "other", "4xx"): 1,
        ("other", "other", "4xx"): 2,
    }
    assert found["hpcq_request_duration_seconds_count", "listJobs"] == 2
    assert found["hpcq_request_duration_seconds_bucket", "+Inf", "listJobs"] == 2


async def test_refusal_by_route(plugin: None, tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        await app.client.post("/jobs", json=app.body, headers={"Host": "evil.example"})
        found = await scrape(app)
    assert found["hpcq_requests_total", "POST", "submitJob", "4xx"] == 1


async def test_defect_counted(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(type(app.context.table), "view", fail)
    assert (await app.client.get("/jobs")).status_code == 500
    assert (await scrape(app))["hpcq_requests_total", "GET", "listJobs", "5xx"] == 1


async def test_submissions_by_outcome(app: App) -> None:
    async def submit(error: Exception | None = None, **fields: object) -> None:
        if error is not None:
            app.scheduler.fail_next("submit", error)
            app.scheduler.fail_next("find", error)
        headers = {"Idempotency-Key": str(fields.pop("key"))} if "key" in fields else {}
        await app.client.post("/jobs", json=app.body | fields, headers=headers)

    async def outcomes() -> dict[str, float]:
        found = await scrape(app)
        return {key[1]: n for key, n in found.items() if key[0] == "hpcq_submissions_total"}

    nothing = dict.fromkeys(("accepted", "replayed", "unclear", "refused", "failed"), 0.0)
    assert await outcomes() == nothing
    await submit(key="monday")
    await submit(key="monday")
    await submit(key="monday", name="another")
    await submit(workingDirectory="/nothing")
    await submit(HANGS)
    await submit(CommandMissing("There is no qsub."))
    assert await outcomes() == {
        "accepted": 1,
        "replayed": 1,
        "unclear": 1,
        "refused": 2,
        "failed": 1,
    }


async def test_open_jobs_by_state(app: App) -> None:
    running_job, ended = app.scheduler.enqueue(), app.scheduler.enqueue()
    app.scheduler.run(running_job)
    for hold in (False, True):
        await app.client.post("/jobs", json=app.body | {"hold": hold})
    await app.asked_again()

    async def jobs() -> dict[str, float]:
        found = await scrape(app)
        return {key[1]: n for key, n in found.items() if key[0] == "hpcq_jobs" and n}

    assert await jobs() == {"QUEUED": 2, "QUEUED_HELD": 1, "RUNNING": 1}
    app.scheduler.end(ended)
    app.scheduler.end(running_job)
    await app.asked_again()
    assert await jobs() == {"QUEUED": 1, "QUEUED_HELD": 1}


async def test_polls_events_circuits(app: App) -> None:
    async def up() -> bool:
        return (await scrape(app))["hpcq_scheduler_up",] == 1

    # The table shows an answer a moment before it counts.
    await eventually(up)
    before = await scrape(app)
    assert before["hpcq_replica_leader",] == 1
    assert before["hpcq_poll_age_seconds",] < 60
    assert before["hpcq_polls_total", "answered"] >= 1
    assert 0 < before["hpcq_poll_duration_seconds",] <= before["hpcq_poll_seconds_total",]
    assert before["hpcq_circuit_state", "scheduler", "closed"] == 1
    await app.client.post("/jobs", json=app.body)
    # A look in the midst of the submission asks for it too, and any answer closes the circuit.
    await app.asked_again()
    for _ in range(5):
        app.scheduler.fail_next("jobs", SchedulerUnavailable("It is away."))
    probe = app.scheduler.hold_back_next("jobs")
    app.context.monitor.wake()
    await probe.ready.wait()
    after = await scrape(app)
    probe.let_go()
    assert after["hpcq_scheduler_up",] == 0
    assert after["hpcq_polls_total", "failed"] == before["hpcq_polls_total", "failed"] + 5
    assert after["hpcq_circuit_state", "scheduler", "half_open"] == 1
    assert after["hpcq_circuit_state", "scheduler", "closed"] == 0
    assert after["hpcq_circuit_failures", "scheduler"] == 5
    assert after["hpcq_newest_event",] > before["hpcq_newest_event",]


async def test_poll_age_before_first_answer(silent: App) -> None:
    found = await scrape(silent)
    assert ("hpcq_poll_age_seconds",) not in found
    assert found["hpcq_scheduler_up",] == 0


async def test_scrape_without_scheduler_or_database(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = app.scheduler.hold_back_next("jobs")
    app.context.monitor.wake()
    await listing.ready.wait()
    calls = app.scheduler.calls.copy()

    def refuse(*_: object) -> None:
        raise AssertionError("the database was asked")

    with monkeypatch.context() as patch:
        for name in ("read", "write", "apart"):
            patch.setattr(f"hpcq.storage.database.Database.{name}", refuse)
        assert (await scrape(app))["hpcq_jobs", "QUEUED"] == 0
    assert app.scheduler.calls == calls
    listing.let_go()


class Scripted:
    """A runner that gives the answers that it was told."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)

    async def run(self, command: Command) -> Completed:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Completed(argv=command.argv, exit_code=answer, stdout=b"", stderr=b"")


async def test_commands_by_program_and_outcome() -> None:
    metrics = Metrics("SLURM")
    answers = (
        0,
        0,
        1,
        HANGS,
        CommandMissing("There is none."),
        OutputParseError("squeue", "it printed too much", b""),
        RuntimeError("a defect"),
    )
    runner = metrics.measured(Scripted(*answers))
    for answer in answers:
        command = Command(argv=("/opt/slurm/bin/squeue", "--me"), timeout_seconds=1)
        if isinstance(answer, Exception):
            with pytest.raises(type(answer)):
                await runner.run(command)
        else:
            assert (await runner.run(command)).exit_code == answer
    found = samples(metrics.text("")[0].decode())
    assert {key[1:]: n for key, n in found.items() if key[0] == "hpcq_commands_total"} == {
        ("success", "squeue"): 2,
        ("failure", "squeue"): 1,
        ("timeout", "squeue"): 1,
        ("missing", "squeue"): 1,
        ("too_much_output", "squeue"): 1,
        ("error", "squeue"): 1,
    }
    assert found["hpcq_command_duration_seconds_count", "squeue"] == 7


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain;version=0.0.4",
        "application/openmetrics-text; version=1.0.0",
        "application/openmetrics-text",
        "application/openmetrics-text; version=latest",
        "text/plain; version=9.9.9; escaping=nothing",
    ],
)
async def test_exposition_format(app: App, accept: str) -> None:
    answer = await app.client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    if answer.headers["content-type"].startswith("application/openmetrics-text"):
        assert "openmetrics" in accept
        names = {family.name for family in read_openmetrics(answer.text)}  # type: ignore[no-untyped-call]
    else:
        assert answer.headers["content-type"].startswith("text/plain")
        names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"hpcq_jobs", "hpcq_requests", "process_resident_memory_bytes"} <= names


async def test_metrics_declared_labels(app: App) -> None:
    metrics = app.context.metrics
    reader, writer = os.pipe()
    os.close(reader)
    metrics.read(Connections(Settings(), 1024), CONNECTIONS)
    metrics.read(LogWriter(writer), LOG)
    command = Command(argv=("squeue",), timeout_seconds=1)
    await metrics.measured(Scripted(0)).run(command)
    await app.client.get("/jobs")
    families = list(text_string_to_metric_families(metrics.text("")[0].decode()))
    shown = {f.name: f for f in families if f.name.startswith("hpcq_")}
    found = {name.removesuffix("_total"): f for name, f in shown.items()}
    declared = {metric.name.removesuffix("_total"): metric for metric in METRICS}
    assert found.keys() == declared.keys()
    for name, metric in declared.items():
        assert found[name].type == metric.kind
        assert metric.meaning.endswith(".")
        for sample in found[name].samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)


async def test_labels_without_user_path_job(app: App) -> None:
    app.scheduler.enqueue(owner="ana-the-secret", name="job-the-secret")
    await app.client.post("/jobs", json=app.body | {"name": "work-the-secret"})
    await app.client.get("/jobs/path-the-secret", headers={"X-Request-ID": "id-the-secret"})
    await app.asked_again()
    text = (await app.client.get("/metrics")).text
    assert "secret" not in text
    assert app.body["workingDirectory"] not in text
