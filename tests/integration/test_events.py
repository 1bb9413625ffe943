"""Streams of events over HTTP: killed services, slow readers, stops."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.backends import BACKENDS
from tests.databases import DATABASES

from hpcq.schedulers.testing.event_streams import StreamedEvent, events_of
from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

JOBS = 20


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "service", {"SCHEDULER": "LOCAL", "MAX_EVENT_READERS": "8"}) as service:
        yield service


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "study")


def test_events_service_killed(service: Service, study: Study) -> None:
    """A reader that comes back with its last id misses nothing, and is told nothing twice."""
    jobs = Jobs(service)
    script = study.script("exit 0\n")
    told: list[StreamedEvent] = []

    def follow() -> None:
        last = "0"
        while sum(event.data.get("state") == "DONE" for event in told) < JOBS:
            try:
                for event in events_of(service, "/events", Last_Event_ID=last):
                    told.append(event)
                    last = str(event.number)
                    if sum(e.data.get("state") == "DONE" for e in told) == JOBS:
                        return
            except (httpx.TransportError, AssertionError):
                # It is being killed, or started.
                time.sleep(0.05)

    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(follow)
        for number in range(JOBS):
            jobs.submit(study.job(script))
            if number % 7 == 6:
                service.kill9()
                service.start()
        following.result()
    numbers = [event.number for event in told]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [e.kind for e in told].count("job.submitted") == JOBS


def test_service_stop_with_event_readers(service: Service) -> None:
    with httpx.stream("GET", f"{service.url}/events", timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": waiting"
        assert service.stop() == 0
        assert list(lines) in ([], [""])


def test_event_reader_never_reads(service: Service, study: Study) -> None:
    """It holds up nobody else, and costs the service no memory for what it does not take."""
    jobs = Jobs(service)
    with socket.create_connection(("127.0.0.1", service.port)) as silent:
        silent.sendall(b"GET /events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        ids = [jobs.submit(study.job(study.script("exit 0\n"))) for _ in range(JOBS)]
        jobs.all_ended(ids)
        told = events_of(service, "/events?after=0&type=job.submitted")
        assert [next(told).data["jobId"] for _ in ids] == ids
        told.close()
        assert b"job.submitted" in silent.recv(1 << 20)


def test_event_readers_limit(service: Service) -> None:
    with ThreadPoolExecutor(8) as threads:
        streams = []

        def open_one(_: int) -> None:
            stream = httpx.Client(base_url=service.url, timeout=60)
            answer = stream.send(stream.build_request("GET", "/events"), stream=True)
            assert answer.status_code == 200
            streams.append((stream, answer))

        list(threads.map(open_one, range(8)))
        refused = service.client.get("/events")
        assert refused.status_code == 503
        assert json.loads(refused.text)["code"] == "overloaded"
        assert "MAX_EVENT_READERS=8" in refused.text
        for stream, answer in streams:
            answer.close()
            stream.close()
    until(lambda: service.client.head("/events").status_code == 200)


@pytest.mark.postgres
def test_events_other_replica_killed(tmp_path: Path, study: Study) -> None:
    with DATABASES["POSTGRESQL"].fresh(tmp_path) as database:
        settings = {**BACKENDS["TORQUE"].settings(), **database.settings}
        one = Service(tmp_path / "one", settings)
        with one, Service(tmp_path / "other", settings) as other:
            jobs = Jobs(one)
            script = study.script("until [ -e go ]; do sleep 0.1; done\n")
            ids = [jobs.submit(study.job(script)) for _ in range(6)]
            one.kill9()
            (study.directory / "go").touch()
            told = _told_until_done(other, set(ids))
            one.start()
            assert _told_until_done(one, set(ids)) == told
    assert [event.number for event in told] == list(range(1, len(told) + 1))
    submitted = [event.data["jobId"] for event in told if event.kind == "job.submitted"]
    assert submitted == ids


def _told_until_done(service: Service, ids: set[str]) -> list[StreamedEvent]:
    told: list[StreamedEvent] = []
    for event in events_of(service, "/events?after=0"):
        told.append(event)
        if event.data.get("state") == "DONE":
            ids.discard(event.data["jobId"])
        if not ids:
            break
    return told
