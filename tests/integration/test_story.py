"""The life of a study on each scheduler, told to its readers while the service is killed."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from tests.receiver import Message, receiving

from hpcq.domain.actions import Action
from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.event_streams import StreamedEvent, events_of
from hpcq.schedulers.testing.jobs import Jobs, Json, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until, until_there

TASKS = 20
AT_ONCE = 3
TASK = (
    'task="$HPCQ_ARRAY_TASK_ID"\n'
    'echo run >> "ran-$task"\n'
    ': > "runs-$task"; ls -d runs-* > "seen-$task"; /bin/rm "runs-$task"\n'
)
LINES = [f"line {number}\n" for number in range(40)]
TALK = "".join(f"echo '{line.strip()}'; sleep 0.05\n" for line in LINES)
WAIT = "until [ -e go ]; do sleep 0.1; done\n"
AWAIT_SIGNAL = "trap ': > got' USR1\n: > ready\nuntil [ -e got ]; do sleep 0.1; done\nexit 0\n"
RUN_TWICE = "echo run >> runs\n[ $(wc -l < runs) = 2 ] || exec sleep 600\n"


class _Reader:
    """A client that comes back to a stream with its last id, until the stream has ended."""

    def __init__(self, service: Service, path: str) -> None:
        self._service, self._path = service, path
        self.events: list[StreamedEvent] = []
        self.is_over = False

    def read(self) -> None:
        last = "0"
        while not self.is_over:
            try:
                for event in events_of(self._service, self._path, Last_Event_ID=last):
                    self.events.append(event)
                    if event.number is None:
                        return
                    last = str(event.number)
            except (httpx.TransportError, AssertionError):
                # The service is killed, or starts.
                time.sleep(0.05)

    def told(self, uid: str) -> list[Json]:
        return [event.data for event in self.events if event.data["uid"] == uid]


@contextmanager
def _reading(service: Service, *paths: str) -> Iterator[list[_Reader]]:
    """Read streams until this is left, which stops the service."""
    readers = [_Reader(service, path) for path in paths]
    with ThreadPoolExecutor(len(readers)) as threads:
        running = [threads.submit(reader.read) for reader in readers]
        try:
            yield readers
        finally:
            for reader in readers:
                reader.is_over = True
            service.stop()
            for one in running:
                one.result()


def _act(service: Service, job_id: str, action: Action, body: object = None) -> None:
    answer = service.client.post(f"/jobs/{job_id}/{action}", json=body)
    assert answer.status_code == 202, answer.text


def test_study_from_submission_to_end(backend: Backend, tmp_path: Path) -> None:
    settings = {**backend.settings(), "WEBHOOK_NETWORKS": "127.0.0.0/8"}
    with receiving() as receiver, Service(tmp_path / "service", settings) as service:
        hook = service.client.post("/webhooks", json={"url": receiver.url}).json()
        receiver.secret = hook["secret"]
        jobs = Jobs(service)
        expected: dict[str, str] = {}

        def submit(name: str, body: str, end: str = "DONE", **fields: object) -> str:
            study = Study(tmp_path / name)
            job_id = jobs.submit(study.job(study.script(body), **fields))
            expected[job_id] = end
            return job_id

        talking = submit("talking", WAIT + TALK)
        paths = ("/events", f"/jobs/{talking}/output?follow=true")
        with _reading(service, *paths) as (events, output):
            if backend.arrays:
                array = {"first": 1, "last": TASKS, "maxRunning": AT_ONCE}
                submit("array", TASK, array=array)
            first = submit("first", WAIT)
            held = submit("held", "exit 3\n", end="FAILED", hold=True)
            for condition in sorted(backend.conditions):
                one = held if condition == "failure" else first
                wanted = [{"jobId": one, "condition": condition}]
                submit(f"after-{condition}", "exit 0\n", dependsOn=wanted)
            if Action.SIGNAL in backend.actions:
                signalled = submit("signalled", AWAIT_SIGNAL)
                until_there(tmp_path / "signalled" / "ready")
            for name in ("talking", "first"):
                (tmp_path / name / "go").touch()
            until(lambda: len(output.events) > 5 or not backend.writes_output_at_once)
            service.kill9()
            service.start()
            _act(service, held, Action.RELEASE)
            if Action.SIGNAL in backend.actions:
                _act(service, signalled, Action.SIGNAL, {"signal": "USR1"})
            if Action.REQUEUE in backend.actions:
                requeued = submit("requeued", backend.requeue_directives + RUN_TWICE)
                until_there(tmp_path / "requeued" / "runs")
                jobs.running(requeued)
                _act(service, requeued, Action.REQUEUE)
                if not backend.requeues_soon:
                    jobs.wait(requeued, lambda job: job["state"] == "REQUEUED")
                    jobs.delete(requeued)
                    expected[requeued] = "FAILED"
            over = {job_id: jobs.ended(job_id) for job_id in expected}
            listed = service.client.get("/jobs").json()
            until(lambda: output.events and output.events[-1].kind == "end")
            until(lambda: all(_is_told(events, job) for job in listed))
            told = {event.number for event in events.events}
            where = f"/webhooks/{hook['webhookId']}"
            until(
                lambda: told <= {message.event for message in receiver.messages},
                lambda: service.client.get(where).json(),
            )
    assert {job_id: job["state"] for job_id, job in over.items()} == expected
    assert over[held]["exitCode"] == 3
    if backend.arrays:
        _check_array(tmp_path / "array")
    assert "".join(event.data.get("text", "") for event in output.events) == "".join(LINES)
    numbers = [event.number for event in events.events]
    assert numbers == list(range(1, len(numbers) + 1))
    assert receiver.unsigned == []
    for uid in {job["uid"] for job in over.values()} | {one.data["uid"] for one in events.events}:
        _check_messages(receiver.messages, events.told(uid))


def _is_told(events: _Reader, job: Json) -> bool:
    """Return whether a job that has ended was told to be so, or was never submitted here."""
    told = events.told(job["uid"])
    return not told or told[-1].get("state") == job["state"]


def _check_array(directory: Path) -> None:
    ran = {path.name: path.read_text() for path in directory.glob("ran-*")}
    assert ran == {f"ran-{number}": "run\n" for number in range(1, TASKS + 1)}
    seen = [len(path.read_text().split()) for path in directory.glob("seen-*")]
    assert len(seen) == TASKS
    assert max(seen) <= AT_ONCE


def _check_messages(messages: list[Message], told: list[Json]) -> None:
    """Compare the messages about a job with its events: some came twice, none goes back."""
    of_job = [message for message in messages if message.content["data"]["uid"] == told[0]["uid"]]
    assert [message.event for message in of_job] == sorted(message.event for message in of_job)
    once = {message.event: message.content["data"] for message in of_job}
    assert list(once.values())[: len(told)] == [
        {name: value for name, value in data.items() if name != "timestamp"} for data in told
    ]
