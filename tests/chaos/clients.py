"""Clients that ask again until they are answered, as the documentation tells them to."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

import httpx
from tests.chaos.plan import Task

__all__ = ["Answer", "Client", "Diary"]

TRY_AGAIN = frozenset({409, 429, 503, 504})
CUT, TIMEOUT = "cut", "timeout"
NO_ANSWERS = frozenset({CUT, TIMEOUT, "201 replayed", "202 replayed", "409"})
PAUSE_SECONDS = 0.1
TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The last answer that a client got for one task.

    Attributes:
        job_id: the scheduler's id.
    """

    task: int
    uid: str
    job_id: str


@dataclass(slots=True)
class Diary:
    """The answers that all clients of a campaign saw; they write it together.

    Attributes:
        kinds: how often each kind of answer to a submission came: its status, or that the
            connection was ``cut``, or nothing came for long (``timeout``).
        refused: how often the submission of a task was refused for good.
        unexpected: answers that no client has to be ready for: task and text.
        unanswered: tasks whose clients gave up.
    """

    answers: list[Answer] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    unexpected: list[tuple[int, str]] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    retries: int = 0
    requests: int = 0
    _lock: Lock = field(default_factory=Lock)

    @property
    def answered(self) -> int:
        """The number of submissions with an answer that does not only repeat an earlier one."""
        with self._lock:
            return sum(count for kind, count in self.kinds.items() if kind not in NO_ANSWERS)

    def sent(self, *, again: bool) -> None:
        """Note a submission that is about to be sent."""
        with self._lock:
            self.requests += 1
            self.retries += again

    def came(self, kind: str) -> None:
        """Note what kind of answer came."""
        with self._lock:
            self.kinds[kind] += 1

    def was_refused(self, task: Task) -> None:
        """Note that a client was told that the scheduler did not take the job."""
        with self._lock:
            self.refused[task.number] += 1


@dataclass(slots=True)
class Client:
    """One client, in a thread of its own.

    Args:
        url: of the service, which may be away at any moment.
        directory: that of each job is in it.
        given_up: set when nobody waits for answers any more.
    """

    url: str
    script: Path
    directory: Path
    diary: Diary
    given_up: Event
    _http: httpx.Client = field(init=False)

    def run(self, tasks: list[Task]) -> None:
        """Submit all tasks, in their order, and learn the ids of their jobs."""
        with httpx.Client(base_url=self.url, timeout=TIMEOUT_SECONDS) as self._http:
            accepted = [(task, self._submit(task)) for task in tasks]
            for task, told in accepted:
                self._learn(task, told)

    def _learn(self, task: Task, told: dict[str, Any] | None) -> None:
        """Follow an accepted submission until its job has an id; submit it anew if refused."""
        while told is not None and told["jobId"] is None:
            uid = told["uid"]
            told = self._read(task, uid)
            if told is not None and told["state"] == "FAILED" and told["jobId"] is None:
                self.diary.was_refused(task)
                told = self._submit(task)
        if told is None:
            self.diary.unanswered.append(task.number)
        else:
            self.diary.answers.append(Answer(task.number, told["uid"], told["jobId"]))

    def _submit(self, task: Task) -> dict[str, Any] | None:
        """Return the body of the answer; None when it was given up or cannot be used."""
        again = False
        while not self.given_up.is_set():
            self.diary.sent(again=again)
            again = True
            answer = self._ask("POST", "/jobs", headers={"Idempotency-Key": task.key}, task=task)
            if answer is None:
                continue
            if answer.status_code in (201, 202):
                body: dict[str, Any] = answer.json()
                return body
            if answer.status_code == 502:
                self.diary.was_refused(task)
            elif answer.status_code not in TRY_AGAIN:
                self.diary.unexpected.append((task.number, _told(answer)))
                return None
            self._wait(answer)
        return None

    def _read(self, task: Task, uid: str) -> dict[str, Any] | None:
        while not self.given_up.is_set():
            answer = self._ask("GET", f"/jobs/{uid}", task=task)
            if answer is None:
                continue
            if answer.status_code == 200:
                job: dict[str, Any] = answer.json()
                if job["jobId"] is not None or job["state"] == "FAILED":
                    return job
            elif answer.status_code not in TRY_AGAIN:
                self.diary.unexpected.append((task.number, f"GET {uid}: {_told(answer)}"))
                return None
            self._wait(answer)
        return None

    def _ask(
        self, method: str, path: str, *, task: Task, headers: dict[str, str] | None = None
    ) -> httpx.Response | None:
        body = self._body(task) if method == "POST" else None
        try:
            answer = self._http.request(method, path, json=body, headers=headers)
        except httpx.TransportError as error:
            if method == "POST":
                self.diary.came(TIMEOUT if isinstance(error, httpx.TimeoutException) else CUT)
            self.given_up.wait(PAUSE_SECONDS)
            return None
        if method == "POST":
            replayed = " replayed" if "idempotent-replayed" in answer.headers else ""
            self.diary.came(f"{answer.status_code}{replayed}")
        return answer

    def _body(self, task: Task) -> dict[str, Any]:
        is_text = task.number % 2 == 1
        script = (
            {"script": self.script.read_text()} if is_text else {"scriptFile": str(self.script)}
        )
        return {
            **script,
            "workingDirectory": str(self.directory / str(task.number)),
            "reservedSlots": 1,
            "name": task.name,
            "args": [task.key, str(task.exit_code)],
        }

    def _wait(self, answer: httpx.Response) -> None:
        self.given_up.wait(float(answer.headers.get("retry-after", PAUSE_SECONDS)))


def _told(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.text[:500]} at {time.strftime('%H:%M:%S')}"
