"""Parts of the tests of outages: clusters of their own, readers that never rest, and jobs."""

import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from tests.backends import SGE, SLURM, RealBackend

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import Json, Study
from hpcq.schedulers.testing.service import Service, clean_environment
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until, until_there

__all__ = [
    "FIRST_NUMBER",
    "LAST_NUMBER",
    "PRIVATE_SGE",
    "PRIVATE_SLURM",
    "Answer",
    "Latch",
    "Readers",
    "command",
    "moment",
    "outage",
    "stands_still",
]

FIRST_NUMBER, LAST_NUMBER = 100, 139
_SLURM_STATE = "/var/tmp/hpcq-test-slurm-5"
PRIVATE_SLURM = replace(
    SLURM,
    instance=(
        ("HPCQ_TEST_SLURM_INSTANCE", "5"),
        (
            "HPCQ_TEST_SLURM_OPTIONS",
            # It forgets jobs at once, uses numbers again soon, and requeues without long waits
            # (cred_expire: 120 s unless set).
            f"MinJobAge=5 FirstJobId={FIRST_NUMBER} MaxJobId={LAST_NUMBER} "
            f"AuthInfo=socket={_SLURM_STATE}/munge/munge.socket,cred_expire=5",
        ),
    ),
)
PRIVATE_SGE = replace(SGE, instance=(("HPCQ_TEST_SGE_INSTANCE", "5"),))

_PAUSE_SECONDS = 0.03


def moment(text: str) -> datetime:
    """Return a time of the wire."""
    return datetime.fromisoformat(text)


def command(backend: Backend, *argv: str, stdin: str = "") -> str:
    """Run one of the scheduler's own commands; returns what it printed."""
    done = subprocess.run(
        argv,
        env=clean_environment() | backend.settings(),
        cwd="/",
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@contextmanager
def outage(
    backend: RealBackend, daemon: str, begin: str = "stop", end: str = "start"
) -> Iterator[None]:
    """Keep one daemon away for the duration, and have it back in any case."""
    backend.do(begin, daemon)
    try:
        yield
    finally:
        backend.do(end, daemon)


@dataclass(frozen=True, slots=True)
class Latch:
    """A job's script that ends when it is told to, with an exit code, and notes each run."""

    study: Study
    name: str
    exit_code: int = 0

    @property
    def script(self) -> Path:
        return self.study.script(
            f'echo >> "{self._file("runs")}"\n'
            f'until [ -e "{self._file("go")}" ]; do sleep 0.1; done\n'
            f'date +%s > "{self._file("end.part")}"; mv "{self._file("end.part")}" '
            f'"{self._file("end")}"\nexit {self.exit_code}\n',
            f"{self.name}.sh",
        )

    def let_go(self) -> None:
        """Have it end, now or as soon as it runs."""
        self._file("go").touch()

    def await_end(self) -> datetime:
        """Wait for its last line; returns when that was, by this machine's clock."""
        until_there(self._file("end"))
        return datetime.fromtimestamp(int(self._file("end").read_text()), UTC)

    @property
    def runs(self) -> int:
        """The number of its starts."""
        path = self._file("runs")
        return path.read_text().count("\n") if path.exists() else 0

    def _file(self, suffix: str) -> Path:
        return self.study.directory / f"{self.name}.{suffix}"


@dataclass(frozen=True, slots=True)
class Answer:
    """One read: its answer, and its time by this machine's clock.

    Attributes:
        jobs: the jobs in it, by uid.
    """

    asked: datetime
    answered: datetime
    path: str
    status: int
    as_of: datetime | None
    stale: bool
    jobs: Mapping[str, Json]


@dataclass(slots=True)
class Readers:
    """Clients that read the listing and single jobs again and again, each in its thread."""

    service: Service
    job_ids: Sequence[str]
    count: int = 4
    answers: list[Answer] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Readers":
        for number in range(self.count):
            thread = threading.Thread(target=self._read, args=(number,))
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def between(self, begin: datetime, end: datetime) -> list[Answer]:
        """Return the answers to what was asked and answered in that time."""
        return [a for a in list(self.answers) if begin <= a.asked and a.answered <= end]

    def wait_for(self, what: str, reached: Callable[[Answer], bool]) -> Answer:
        """Wait for such an answer among those that come from now on."""
        seen = len(self.answers)
        found: list[Answer] = []

        def came() -> bool:
            nonlocal seen
            new = self.answers[seen:]
            seen += len(new)
            found.extend(a for a in new if reached(a))
            return bool(found)

        until(came, lambda: f"no {what}")
        return found[0]

    def _read(self, number: int) -> None:
        paths = ["/jobs", *(f"/jobs/{job_id}" for job_id in self.job_ids)]
        with httpx.Client(base_url=self.service.url, timeout=PATIENCE_SECONDS) as client:
            step = number
            while not self._over.wait(_PAUSE_SECONDS):
                step += 1
                try:
                    self.answers.append(_get(client, paths[step % len(paths)]))
                except Exception as error:
                    self.errors.append(f"{paths[step % len(paths)]}: {error!r}")


def _get(client: httpx.Client, path: str) -> Answer:
    asked = datetime.now(UTC)
    answer = client.get(path)
    answered = datetime.now(UTC)
    content: Any = answer.json()
    jobs = content if isinstance(content, list) else [content]
    as_of = answer.headers.get("X-As-Of")
    return Answer(
        asked=asked,
        answered=answered,
        path=path,
        status=answer.status_code,
        as_of=None if as_of is None else moment(as_of),
        stale=answer.headers.get("X-Stale") == "true",
        jobs={job["uid"]: job for job in jobs if "uid" in job},
    )


def stands_still(answers: Sequence[Answer], stale_after: timedelta) -> None:
    """Check that all these reads, made while the scheduler was away, told the same, and its age.

    The first and the last of them must lie further apart than ``stale_after``.
    """
    assert {a.status for a in answers} == {200}
    assert len({a.as_of for a in answers}) == 1, "there was news from a scheduler that is away"
    as_of = answers[0].as_of
    assert as_of is not None
    for answer in answers:
        if answer.asked - as_of > stale_after:
            assert answer.stale, answer
        if answer.answered - as_of < stale_after:
            assert not answer.stale, answer
        # A single job says so itself.
        for job in answer.jobs.values() if answer.path != "/jobs" else ():
            assert job["stale"] == answer.stale
            assert moment(job["asOf"]) <= as_of
    assert {a.stale for a in answers} == {False, True}
    states: dict[str, set[str]] = {}
    for answer in answers:
        for uid, job in answer.jobs.items():
            states.setdefault(uid, set()).add(f"{job['state']} {job['status']}")
    assert {uid: seen for uid, seen in states.items() if len(seen) > 1} == {}
