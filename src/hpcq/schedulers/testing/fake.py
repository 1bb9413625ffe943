"""A scheduler in memory, for tests of what uses schedulers, and for authors of plugins.

::

    scheduler = FakeScheduler()
    native_id = await scheduler.submit(spec, key, script)
    scheduler.run(native_id)
    scheduler.end(native_id, accounted=False)       # it left the queue, accounting lags
    scheduler.account(native_id)                    # now it is there

    scheduler.fail_next("jobs", SchedulerUnavailable("It is away."))
    answer = scheduler.hold_back_next("jobs")       # computed now, given when it is let go
    ...
    await answer.ready.wait()
    answer.let_go()
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import CommandFailed, JobNotFound, SchedulerError
from hpcq.domain.job_changes import CHANGEABLE
from hpcq.domain.jobs import JobSpec, NativeId, Observation, SubmissionKey
from hpcq.domain.states import FailureKind, JobState
from hpcq.execution.protocol import Runner
from hpcq.schedulers.base import (
    Capabilities,
    Listing,
    Node,
    ParseFailure,
    Queue,
    SchedulerOptions,
    ScriptDirectives,
)

__all__ = ["FakeScheduler", "HeldBack", "create"]

_T = TypeVar("_T")

_EVERYTHING = Capabilities(
    fields=frozenset(
        {
            "queue",
            "account",
            "priority",
            "wall_time_limit_seconds",
            "memory_limit_bytes",
            "environment",
            "stdout_path",
            "stderr_path",
            "hold",
            "depends_on",
            "array",
            "script",
        }
    ),
    actions=frozenset(Action),
    changes=frozenset(CHANGEABLE),
    removals=frozenset({"priority", "wall_time_limit_seconds", "memory_limit_bytes"}),
    accounting=True,
    memory_enforced=True,
)
_HOLDS = {JobState.QUEUED: JobState.QUEUED_HELD, JobState.REQUEUED: JobState.REQUEUED_HELD}
_RELEASES = {held: free for free, held in _HOLDS.items()}


@dataclass(slots=True)
class HeldBack:
    """A call that has had its effect, with an answer that is kept until `let_go`.

    Attributes:
        ready: set once the call has been made and its answer waits.
    """

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _gone: asyncio.Event = field(default_factory=asyncio.Event)
    _error: Exception | None = None

    def let_go(self, error: Exception | None = None) -> None:
        """Give the answer, or fail with an error instead."""
        self._error = error
        self._gone.set()

    async def _wait(self) -> None:
        self.ready.set()
        await self._gone.wait()
        if self._error is not None:
            raise self._error


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception
    after_effect: bool


class FakeScheduler:
    """A `SchedulerBackend` that does what a test tells it to; jobs never move by themselves.

    Attributes:
        capabilities: what it can express; replace it at will.
        queue: the jobs in the queue, in the order of their submission.
        accounting: the ended jobs that accounting shows, oldest first where an id was used again.
        extras: what `details` says of a job beyond the queue: fields of `Observation`.
        unreadable: what every listing of the queue reports as unreadable.
        partial_reason: the failure for which the accounting may not show all that it has.
        shows_keys: whether the queue shows submission keys; Grid Engine's does not.
        next_number: the next job's id. Set it back to have ids used again.
        calls: how often each method was called.
        submitted: the specs it was handed, under their keys.
        scripts: the contents of the scripts, likewise.
        cancelled: the jobs that it was asked to end.
        acted: what else it was asked to do, but for holds and releases, which have effect.
        altered: the jobs that were changed, as they were to be, with the fields that changed.
    """

    name = "FAKE"

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.capabilities = _EVERYTHING
        self.queue: dict[NativeId, Observation] = {}
        self.accounting: dict[NativeId, list[Observation]] = defaultdict(list)
        self.extras: dict[NativeId, dict[str, object]] = {}
        self.unreadable: list[ParseFailure] = []
        self.partial_reason: SchedulerError | None = None
        self.shows_keys = True
        self.next_number = 1
        self.calls: Counter[str] = Counter()
        self.submitted: dict[SubmissionKey, JobSpec] = {}
        self.scripts: dict[SubmissionKey, bytes] = {}
        self.cancelled: list[NativeId] = []
        self.acted: list[tuple[Action, NativeId, Signal | None]] = []
        self.altered: list[tuple[JobSpec, frozenset[str]]] = []
        self.wake: Callable[[], None] = lambda: None
        self._clock = clock
        self._ended: dict[NativeId, Observation] = {}
        self._scripted: dict[str, deque[_Failure | HeldBack]] = defaultdict(deque)

    # What a test makes happen

    def enqueue(self, **fields: object) -> NativeId:
        """Put a job into the queue that was not submitted through `submit`."""
        native_id = NativeId(str(self.next_number))
        self.next_number += 1
        job = Observation(
            native_id=native_id,
            state=JobState.QUEUED,
            native_state="qw",
            name="job",
            owner="ana",
            slots=1,
            submit_time=self._clock(),
        )
        self.queue[native_id] = replace(job, **fields)  # type: ignore[arg-type]
        return native_id

    def change(self, native_id: NativeId, **fields: object) -> None:
        """Have the queue say something else of a job."""
        self.queue[native_id] = replace(self.queue[native_id], **fields)  # type: ignore[arg-type]

    def run(self, native_id: NativeId) -> None:
        """Start a queued job."""
        started = self._clock()
        self.change(native_id, state=JobState.RUNNING, native_state="r", start_time=started)

    def end(self, native_id: NativeId, *, accounted: bool = True, **fields: object) -> None:
        """Have a job leave the queue, DONE unless the fields say otherwise.

        Args:
            native_id: a job in the queue.
            accounted: whether accounting shows it at once; else `account` makes it do so.
            fields: those of its last `Observation`.
        """
        job = self.queue.pop(native_id)
        end = {"state": JobState.DONE, "native_state": "done", "exit_code": 0, **fields}
        job = replace(job, stage=None, end_time=self._clock())
        if end["exit_code"] is not None:
            # It ran, perhaps unseen.
            job = replace(job, start_time=job.start_time or job.end_time)
        self._ended[native_id] = replace(job, **end)  # type: ignore[arg-type]
        if accounted:
            self.account(native_id)

    def account(self, native_id: NativeId) -> None:
        """Have accounting show a job that ended; one that was lost stays unknown for ever."""
        self.accounting[native_id].append(self._ended.pop(native_id))

    def lose(self, native_id: NativeId) -> None:
        """Have a job vanish from the queue without a trace."""
        del self.queue[native_id]

    def fail_next(self, method: str, error: Exception, *, after_effect: bool = False) -> None:
        """Make the next call of a method fail, before or after it did what it was called for."""
        self._scripted[method].append(_Failure(error, after_effect))

    def hold_back_next(self, method: str) -> HeldBack:
        """Make the next call of a method have its effect, and answer only when it is let go."""
        answer = HeldBack()
        self._scripted[method].append(answer)
        return answer

    # What a scheduler does

    async def start(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        await self._call("start", lambda: None)

    async def stop(self) -> None:
        await self._call("stop", lambda: None)

    def check_script(self, spec: JobSpec, script: bytes) -> ScriptDirectives:
        return ScriptDirectives()

    async def submit(self, spec: JobSpec, key: SubmissionKey, script: bytes) -> NativeId:
        def take() -> NativeId:
            self.submitted[key] = spec
            self.scripts[key] = script
            held = JobState.QUEUED_HELD if spec.hold else JobState.QUEUED
            return self.enqueue(name=spec.name, slots=spec.slots, state=held, submission_key=key)

        return await self._call("submit", take)

    async def find(self, key: SubmissionKey, run_as: str | None = None) -> NativeId | None:
        def look() -> NativeId | None:
            ended = [job for jobs in self.accounting.values() for job in jobs]
            known = [*self.queue.values(), *ended]
            return next((job.native_id for job in known if job.submission_key == key), None)

        return await self._call("find", look)

    async def jobs(self) -> Listing:
        return await self._call("jobs", lambda: self._listing(self.queue.values()))

    async def history(self, ids: Sequence[NativeId]) -> Listing:
        return await self._call(
            "history",
            lambda: Listing(
                observations=[job for i in ids for job in self.accounting.get(i, ())],
                partial_reason=self.partial_reason,
            ),
        )

    async def details(self, ids: Sequence[NativeId]) -> Listing:
        def tell() -> Listing:
            found = [self.queue[i] for i in ids if i in self.queue]
            return Listing(
                observations=[
                    replace(job, **self.extras.get(job.native_id, {}))  # type: ignore[arg-type]
                    for job in found
                ]
            )

        return await self._call("details", tell)

    async def cancel(self, native_id: NativeId, run_as: str | None = None) -> bool:
        def delete() -> bool:
            job = self._queued(native_id)
            self.cancelled.append(native_id)
            if job is None:
                return False
            if job.state.is_queued:
                self.lose(native_id)
                return True
            self.end(
                native_id,
                state=JobState.FAILED,
                failure_kind=FailureKind.CANCELLED,
                exit_code=None,
                exit_signal=9,
            )
            return False

        return await self._call("cancel", delete)

    async def act(
        self,
        action: Action,
        native_id: NativeId,
        run_as: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        if action is Action.HOLD:
            await self._call(action, lambda: self._set_hold(native_id, _HOLDS, "hqw"))
        elif action is Action.RELEASE:
            await self._call(action, lambda: self._set_hold(native_id, _RELEASES, "qw"))
        else:
            await self._call(action, lambda: self.acted.append((action, native_id, signal)))

    async def alter(
        self,
        native_id: NativeId,
        spec: JobSpec,
        fields: frozenset[str],
        run_as: str | None = None,
    ) -> None:
        def alter() -> None:
            if native_id not in self.queue:
                raise JobNotFound(native_id)
            self.altered.append((spec, fields))
            told = fields - {"priority"}
            self.change(native_id, **{name: getattr(spec, name) for name in told})

        await self._call("alter", alter)

    async def queues(self) -> Sequence[Queue]:
        return await self._call("queues", lambda: [Queue(name="all.q", is_open=True)])

    async def nodes(self) -> Sequence[Node]:
        return await self._call("nodes", lambda: [Node(name="node1", is_up=True)])

    async def version(self) -> str:
        return await self._call("version", lambda: "fake 1")

    def _listing(self, jobs: Iterable[Observation]) -> Listing:
        shown = list(jobs)
        if not self.shows_keys:
            shown = [replace(job, submission_key=None) for job in shown]
        return Listing(observations=shown, unreadable=list(self.unreadable))

    def _queued(self, native_id: NativeId) -> Observation | None:
        """Return a job in the queue; None for one that has ended."""
        if native_id not in self.queue and not self.accounting.get(native_id):
            raise JobNotFound(native_id)
        return self.queue.get(native_id)

    def _set_hold(
        self, native_id: NativeId, states: dict[JobState, JobState], native_state: str
    ) -> None:
        job = self._queued(native_id)
        if job is None or not job.state.is_queued:
            raise CommandFailed(("fake", native_id), 1, b"the job is not queued")
        self.change(native_id, state=states.get(job.state, job.state), native_state=native_state)

    async def _call(self, method: str, work: Callable[[], _T]) -> _T:
        self.calls[method] += 1
        scripted = self._scripted[method]
        script = scripted.popleft() if scripted else None
        if isinstance(script, _Failure) and not script.after_effect:
            raise script.error
        answer = work()
        if isinstance(script, _Failure):
            raise script.error
        if isinstance(script, HeldBack):
            await script._wait()
        return answer


def create(options: SchedulerOptions, runner: Runner, settings: object) -> FakeScheduler:
    """Return a `FakeScheduler`: a `BackendFactory`, for an entry point of a test's own."""
    return FakeScheduler()
