"""The client against a live service."""

import asyncio
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tests.client.cutting import cutting

from hpcq.api.routers import events as event_routes
from hpcq.api.routers import listing_changes
from hpcq.client import AsyncClient, Client, Job, sync_client, sync_connection
from hpcq.client.errors import (
    Conflict,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    Unavailable,
    Unreachable,
    Unreadable,
    Unsupported,
)
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import ROOT_PATH, Service
from hpcq.schedulers.testing.waiting import until
from hpcq.services.output import followers


def test_job_submission_to_end(client: Client, study: Study, waiting_script: str) -> None:
    job = client.submit(waiting_script, ["a", 2], working_directory=study.directory, name="nov")
    assert job.job_id is not None
    until(lambda: job.refresh().status == "RUNNING")
    assert (job.name, job.args, job.is_over) == ("nov", ["a", "2"], False)
    assert isinstance(job.start_time, datetime)
    assert client.job(job.job_id).uid == client.job(job.uid).uid == job.uid
    until(lambda: "began" in job.output().text())
    with pytest.raises(TimeoutError):
        job.wait(timeout=0.3)
    (study.directory / "go").touch()
    assert job.wait() is job
    assert (job.state, job.exit_code, job.failure_kind) == ("FAILED", 3, "NON_ZERO_EXIT")
    assert job.output().read() == b"began\nended\n"
    assert job.output().text(tail=1) == "ended\n"
    assert job.output("stderr").read() == b""
    assert all(sample.cpu_seconds >= 0 for sample in job.usage())
    told = list(job.events())
    assert [event.state for event in told if event.type == "job.state"][-1] == "FAILED"
    assert told[0].type == "job.submitted"
    assert list(job.events(after=told[-1].id)) == []
    job.delete()
    assert job.uid not in {listed.uid for listed in client.jobs()}


def test_actions(client: Client, study: Study, waiting_script: str) -> None:
    job = client.submit(waiting_script, working_directory=study.directory, hold=True)
    assert job.refresh().state == "QUEUED_HELD"
    job.release()
    until(lambda: job.refresh().status == "RUNNING")
    with pytest.raises(Conflict) as found:
        job.hold()
    assert found.value.code == "wrong_state"
    job.delete()
    assert (job.wait().state, job.failure_kind) == ("FAILED", "CANCELLED")
    with pytest.raises(NotFound):
        client.job("99999999")


def test_jobs_in_pages(
    client: Client, study: Study, waiting_script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_client, "_PAGE", 2)
    began = datetime.now(UTC) - timedelta(minutes=1)
    made = {
        client.submit(waiting_script, working_directory=study.directory, hold=True).uid
        for _ in range(5)
    }
    listed = [job.uid for job in client.jobs(state=["QUEUED_HELD", "RUNNING"], name="study")]
    assert len(listed) == 5
    assert set(listed) == made
    newest = next(client.jobs(sort="-submitTime", submitted_after=began, active=True))
    assert newest.uid in made
    assert client.summary(state="QUEUED_HELD").jobs == 5
    assert list(client.jobs(text="nothing like it")) == []


def test_wait_job_ended_by_others(client: Client, study: Study, waiting_script: str) -> None:
    job = client.submit(waiting_script, working_directory=study.directory)
    threading.Timer(0.5, (study.directory / "go").touch).start()
    assert job.wait(timeout=300).exit_code == 3


def test_output_followed_while_written(client: Client, study: Study, waiting_script: str) -> None:
    job = client.submit(waiting_script, working_directory=study.directory)
    pieces = job.output().follow()
    assert next(pieces) == "began\n"
    (study.directory / "go").touch()
    assert "".join(pieces) == "ended\n"


def test_output_of_job_never_ran(client: Client, study: Study, waiting_script: str) -> None:
    job = client.submit(waiting_script, working_directory=study.directory, hold=True)
    with pytest.raises(NotFound) as found:
        job.output().read()
    assert found.value.code == "no_such_file"
    job.delete()
    with pytest.raises(NotFound):
        list(job.output().follow())


def test_cluster(client: Client) -> None:
    assert client.cluster().scheduler == "LOCAL"
    assert "queue" in client.cluster().capabilities.fields
    (queue,) = client.queues()
    assert queue.slots_total == 8
    assert client.queue_usage(queue.name).queue == queue.name
    assert [node.is_up for node in client.nodes()] == [True]
    assert client.programs(name="NEWAVE") == []


def test_plan_no_submission(client: Client, study: Study, waiting_script: str) -> None:
    plan = client.plan(waiting_script, ["a"], working_directory=study.directory)
    assert plan.argv == [waiting_script, "a"]
    assert list(client.jobs(working_directory=str(study.directory))) == []


def test_error_problem_fields(client: Client, waiting_script: str) -> None:
    with pytest.raises(InvalidRequest) as found:
        client.submit(waiting_script, working_directory="/nowhere/at/all")
    assert (found.value.status, found.value.field) == (400, "workingDirectory")
    assert found.value.type == "urn:hpcq:problem:invalid_content"
    assert found.value.title == "The request's content cannot be a job"
    assert "'/nowhere/at/all'" in str(found.value)
    with pytest.raises(Unsupported) as refused:
        client.submit(waiting_script, working_directory="/tmp", qos="long")
    assert refused.value.field == "qos"
    with pytest.raises(InvalidRequest):
        client.submit(waiting_script, working_directory="/tmp", colour="red")  # type: ignore[call-arg]


def test_submit_key_not_ascii(client: Client) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        client.submit("/bin/true", idempotency_key="é")


def test_token_required(tmp_path: Path) -> None:
    service = Service(tmp_path, {"SCHEDULER": "LOCAL", "AUTH": "token"})
    service.start(wait=False)
    try:
        with Client(service.url) as stranger, pytest.raises(NotAuthenticated):
            stranger.cluster()
        token = (service.state_directory / "operator.token").read_text().strip()
        with Client(service.url, token) as operator:
            assert operator.cluster().scheduler == "LOCAL"
    finally:
        service.stop()


def test_unix_socket(start_service: Callable[..., Service], tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/hpcq.sock"
    start_service(HOST=address)
    with Client(address) as client:
        assert client.cluster().scheduler == "LOCAL"


def test_wait_event_readers_limit_reached(
    start_service: Callable[..., Service],
    study: Study,
    waiting_script: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sync_client, "_POLL_SECONDS", 0.1)
    service = start_service(MAX_EVENT_READERS="4")
    with Client(service.url) as client:
        job = client.submit(waiting_script, working_directory=study.directory)
        followers = [job.events() for _ in range(4)]
        assert [next(follower).type for follower in followers] == ["job.submitted"] * 4
        with pytest.raises(TimeoutError):
            job.wait(timeout=0.5)
        (study.directory / "go").touch()
        assert job.wait().exit_code == 3


def test_service_unreachable() -> None:
    with Client("http://127.0.0.1:9", patience=0) as client, pytest.raises(Unreachable) as found:
        client.cluster()
    assert "http://127.0.0.1:9" in str(found.value)


def test_service_not_hpcq() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/cluster" else 502)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            for ask in (client.cluster, client.nodes, lambda: next(client.events())):
                with pytest.raises(Unreadable):
                    ask()
        server.shutdown()
        thread.join()


def test_submission_over_broken_connection(
    service: Service, client: Client, study: Study, waiting_script: str
) -> None:
    with cutting(service) as proxy, Client(proxy.url) as cut_off:
        # The service took the job, and its answer is lost: whole, in its head, in its body.
        proxy.cuts = [0, 20, 200]
        job = cut_off.submit(waiting_script, working_directory=study.directory)
        assert proxy.connections == 4
    assert [one.uid for one in client.jobs(working_directory=str(study.directory))] == [job.uid]


def test_signal_not_sent_twice(service: Service) -> None:
    with cutting(service) as proxy, Client(proxy.url) as cut_off:
        job = cut_off.submit("/bin/sleep", [60], working_directory="/tmp")
        proxy.cuts = [0]
        with Client(proxy.url) as other, pytest.raises(Unreachable):
            Job(uid=job.uid)._on(other._connection).signal("USR1")
        assert proxy.connections == 2
        job.delete()


@pytest.mark.parametrize(
    ("code", "attempts"), [("scheduler_unavailable", 1), ("too_many_requests", 2)]
)
def test_signal_uncertain_not_repeated(code: str, attempts: int) -> None:
    asked = []

    class Away(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            body = b'{"detail": "jobId: 1"}'
            if len(asked) == 1:
                body = (
                    b'{"status": 503, "detail": "?", "retryAfter": 0, "code": "%s"}' % code.encode()
                )
            self.send_response(503 if len(asked) == 1 else 202)
            self.send_header("Content-Type", "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Away) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            job = Job(uid="1")._on(client._connection)
            if attempts == 1:
                with pytest.raises(Unavailable):
                    job.signal("USR1")
            else:
                job.signal("USR1")
        server.shutdown()
        thread.join()
    assert len(asked) == attempts


def test_events_resumed_after_cut(
    service: Service, client: Client, study: Study, waiting_script: str
) -> None:
    (study.directory / "go").touch()
    jobs = [client.submit(waiting_script, working_directory=study.directory) for _ in range(3)]
    for job in jobs:
        job.wait()
    uids = {job.uid for job in jobs}

    def told(source: Client) -> list[int]:
        events = (event for event in source.events(after=0) if event.uid in uids)
        ends = itertools.count(1)
        ids = []
        for event in events:
            ids.append(event.id)
            if event.state == "FAILED" and next(ends) == len(jobs):
                break
        return ids

    whole = told(client)
    with cutting(service) as proxy, Client(proxy.url) as cut_off:
        proxy.cuts = [900, 1000, 1300]
        assert told(cut_off) == whole
        assert proxy.connections == 4


def test_streams_after_silence(
    service: Service, study: Study, waiting_script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that goes away ends no connection: nothing comes, and that alone tells."""
    monkeypatch.setattr(sync_connection, "SILENCE_SECONDS", 2.0)
    monkeypatch.setattr(sync_client, "SILENCE_SECONDS", 2.0)
    with cutting(service) as proxy, ThreadPoolExecutor() as threads:
        # Each has connections of its own, for they wait at the same time.
        clients = [Client(f"{proxy.url}{ROOT_PATH}") for _ in range(3)]
        job = clients[0].submit(waiting_script, working_directory=study.directory)
        events, pieces = job.events(), clients[1].job(job.uid).output().follow()
        before = [next(events).id, next(events).id]
        assert next(pieces) == "began\n"
        waiting = threads.submit(clients[2].job(job.uid).wait)
        until(lambda: proxy.connections >= 4)
        proxy.stall()
        (study.directory / "go").touch()
        assert "".join(pieces) == "ended\n"
        assert waiting.result().exit_code == 3
        after = [event.id for event in events]
        assert [*before, *after] == [event.id for event in job.events()]
        for client in clients:
            client.close()


def test_silence_longer_than_heartbeat() -> None:
    for part in (event_routes, listing_changes, followers):
        beats = sync_connection.SILENCE_SECONDS / part._HEARTBEAT_SECONDS
        assert 2 < beats < 5


def test_service_killed_and_restarted(
    start_service: Callable[..., Service], study: Study, waiting_script: str
) -> None:
    service = start_service()
    service.settings["PORT"] = str(service.port)
    with Client(service.url, patience=300) as client:
        job = client.submit(waiting_script, working_directory=study.directory)
        events, pieces = job.events(), job.output().follow()
        first = next(events)
        assert (first.type, next(pieces)) == ("job.submitted", "began\n")

        def fall_over() -> None:
            service.kill9()
            service.start()
            (study.directory / "go").touch()

        falling = threading.Thread(target=fall_over)
        falling.start()
        assert job.wait().exit_code == 3
        falling.join()
        ids = [first.id, *(event.id for event in events)]
        assert ids == sorted(set(ids))
        assert ids == [event.id for event in job.events()]
        assert list(pieces) == ["ended\n"]


def test_output_resumed_after_cut(service: Service, study: Study) -> None:
    script = study.script("for i in $(seq 1000); do echo line $i; done\n")
    with cutting(service) as proxy, Client(proxy.url) as cut_off:
        job = cut_off.submit(script, working_directory=study.directory)
    with cutting(service) as proxy, Client(proxy.url) as cut_off:
        proxy.cuts = [700, 1000]
        job = Job(uid=job.uid)._on(cut_off._connection)
        assert "".join(job.output().follow()).split("\n")[-2] == "line 1000"
        lines = "".join(job.output().follow()).splitlines()
    assert lines == [f"line {i}" for i in range(1, 1001)]


def test_asynchronous_client(service: Service, study: Study, waiting_script: str) -> None:
    async def run() -> None:
        async with AsyncClient(f"{service.url}{ROOT_PATH}") as client:
            job = await client.submit(waiting_script, working_directory=study.directory)
            pieces = job.output().follow()
            assert await anext(pieces) == "began\n"
            assert [one.uid async for one in client.jobs(active=True)] == [job.uid]
            with pytest.raises(TimeoutError):
                await job.wait(timeout=0.3)
            (study.directory / "go").touch()
            assert [piece async for piece in pieces] == ["ended\n"]
            assert (await job.wait()).exit_code == 3
            assert (await anext(job.events())).type == "job.submitted"
            assert (await client.cluster()).scheduler == "LOCAL"

    asyncio.run(run())


def test_events_with_comment() -> None:
    """A comment behind an event with an id is nothing, as the specification of streams says."""
    told = (
        'id: {0}\nevent: job.state\ndata: {{"timestamp": "2026-01-05T12:00:00Z", "uid": "a"}}\n\n'
    )
    stream = f"{told.format(1)}: waiting\n\n{told.format(2)}".encode()

    class Quiet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(stream)

    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            events = client.events()
            assert [next(events).id, next(events).id] == [1, 2]
        server.shutdown()


def test_listing_changes(client: Client, waiting_script: str) -> None:
    changes = client.changes()
    assert next(changes).is_reload
    uid = client.submit(waiting_script, hold=True).uid
    came = next(job for change in changes for job in change.jobs if job.uid == uid)
    came.delete()
    assert next(True for change in changes if uid in change.gone)


def test_job_files(client: Client, study: Study, tmp_path: Path) -> None:
    script = study.script("mkdir -p results\nprintf 'a\\0b' > 'results/é %.bin'\n")
    job = client.submit(script, working_directory=study.directory)
    job.wait()
    assert "results" in [entry.name for entry in job.files().entries if entry.kind == "folder"]
    (entry,) = job.files("results").entries
    assert (entry.name, entry.kind, entry.size) == ("é %.bin", "file", 3)
    for path in ("results/é %.bin", "./results/./é %.bin"):
        with (tmp_path / "copy").open("wb") as into:
            job.fetch(path, into)
        assert (tmp_path / "copy").read_bytes() == b"a\0b"
    for path in ("results/none", "results/../../output", ".."):
        with pytest.raises(NotFound), (tmp_path / "none").open("wb") as into:
            job.fetch(path, into)
        assert (tmp_path / "none").read_bytes() == b""
    for job_id in ("..", ".", "../cluster"):
        with pytest.raises(NotFound):
            client.job(job_id)
