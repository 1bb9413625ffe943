"""The queue of LOCAL: the choice of the jobs that start now."""

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain.actions import Action
from hpcq.domain.jobs import JobSpec, JobUid, SubmissionKey
from hpcq.domain.states import ReasonCode
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.queue import (
    MAX_OVERTAKES,
    PLANNED_JOBS,
    Choice,
    JobQueue,
    RunningJob,
    WaitingJob,
    choose,
    plan,
)
from hpcq.schedulers.local.spool_row import Phase

TOTAL = 8


def test_choose_first_come_first_served() -> None:
    waiting = [WaitingJob(1, 3), WaitingJob(2, 3), WaitingJob(3, 2), WaitingJob(4, 1)]
    assert choose(waiting, [], TOTAL) == Choice((1, 2, 3), head=4)


def test_choose_backfill_within_limit() -> None:
    waiting = [WaitingJob(1, 8), WaitingJob(2, 2, limit_seconds=60)]
    assert choose(waiting, [RunningJob(6, seconds_left=60)], TOTAL) == Choice((2,), head=1)


def test_choose_backfill_would_delay_head() -> None:
    waiting = [WaitingJob(1, 8), WaitingJob(2, 2, limit_seconds=61), WaitingJob(3, 2)]
    assert choose(waiting, [RunningJob(6, seconds_left=60)], TOTAL) == Choice((), head=1)


def test_choose_backfill_free_slots() -> None:
    waiting = [WaitingJob(1, 6), WaitingJob(2, 2), WaitingJob(3, 1)]
    assert choose(waiting, [RunningJob(4, seconds_left=60)], TOTAL) == Choice((2,), head=1)


def test_choose_overtakes_limited() -> None:
    waiting = [WaitingJob(1, 8), *(WaitingJob(n, 1) for n in range(2, 9))]
    running = [RunningJob(1)]
    assert choose(waiting, running, TOTAL).overtakes == 7
    waiting[0] = replace(waiting[0], overtaken=MAX_OVERTAKES - 3)
    assert choose(waiting, running, TOTAL) == Choice((2, 3, 4), head=1, overtakes=3)
    waiting[0] = replace(waiting[0], overtaken=MAX_OVERTAKES)
    assert choose(waiting, running, TOTAL) == Choice((), head=1)


def test_plan_starts_after_limits() -> None:
    waiting = [
        WaitingJob(1, 8, limit_seconds=100),
        WaitingJob(2, 2, limit_seconds=50),
        WaitingJob(3, 8, limit_seconds=10),
    ]
    running = [RunningJob(4, seconds_left=60), RunningJob(2, seconds_left=30)]
    # 2 ends before 1 can start, so that it goes first.
    assert plan(waiting, running, TOTAL) == {2: 0.0, 1: 60.0, 3: 160.0}


def test_plan_without_limits() -> None:
    waiting = [WaitingJob(1, 4), WaitingJob(2, 8), WaitingJob(3, 8, limit_seconds=9)]
    assert plan(waiting, [RunningJob(6, seconds_left=60)], TOTAL) == {1: 60.0}


def test_plan_first_jobs_only() -> None:
    waiting = [WaitingJob(n, 8, limit_seconds=1) for n in range(PLANNED_JOBS + 1)]
    starts = plan(waiting, [], TOTAL)
    assert starts == {n: float(n) for n in range(PLANNED_JOBS)}


def test_choose_reads_as_many_as_slots() -> None:
    read = 0

    def endless() -> Iterator[WaitingJob]:
        nonlocal read
        while True:
            read += 1
            yield WaitingJob(read, 1)

    assert choose(endless(), [], TOTAL).start == tuple(range(1, TOTAL + 1))
    assert read == TOTAL + 1


slots = st.integers(1, TOTAL)
limits = st.none() | st.integers(1, 20)


@st.composite
def queues(draw: st.DrawFn) -> list[WaitingJob]:
    shapes = draw(st.lists(st.tuples(slots, limits, st.integers(0, MAX_OVERTAKES)), max_size=30))
    return [WaitingJob(number, *shape) for number, shape in enumerate(shapes)]


@st.composite
def machines(draw: st.DrawFn) -> list[RunningJob]:
    running: list[RunningJob] = []
    for taken, left in draw(st.lists(st.tuples(slots, limits), max_size=TOTAL)):
        if sum(job.slots for job in running) + taken <= TOTAL:
            running.append(RunningJob(taken, left))
    return running


@given(queues(), machines())
def test_choose_slots_never_exceeded(waiting: list[WaitingJob], running: list[RunningJob]) -> None:
    started = set(choose(waiting, running, TOTAL).start)
    taken = sum(job.slots for job in running)
    assert taken + sum(job.slots for job in waiting if job.job in started) <= TOTAL


@given(queues(), machines())
def test_choose_equal_jobs_in_order(waiting: list[WaitingJob], running: list[RunningJob]) -> None:
    started = set(choose(waiting, running, TOTAL).start)
    for earlier in waiting:
        for later in waiting[earlier.job + 1 :]:
            if (earlier.slots, earlier.limit_seconds) == (later.slots, later.limit_seconds):
                assert not (later.job in started and earlier.job not in started)


@given(queues(), machines())
def test_choose_head_starts_if_it_fits(
    waiting: list[WaitingJob], running: list[RunningJob]
) -> None:
    choice = choose(waiting, running, TOTAL)
    if waiting and waiting[0].slots <= TOTAL - sum(job.slots for job in running):
        assert choice.start[0] == waiting[0].job


@dataclass(frozen=True)
class Arrival:
    slots: int
    limit: int | None
    seconds: int


@st.composite
def arrivals(draw: st.DrawFn) -> Arrival:
    limit = draw(limits)
    return Arrival(draw(slots), limit, draw(st.integers(1, limit or LONGEST)))


LONGEST = 20


@given(st.lists(arrivals(), min_size=1, max_size=4), st.lists(arrivals(), min_size=1, max_size=6))
def test_choose_no_starvation(first: list[Arrival], flood: list[Arrival]) -> None:
    """A flood of later jobs never keeps the first ones from starting within a fixed time."""
    bound = (MAX_OVERTAKES + 2) * LONGEST * len(first)
    machine = Machine()
    machine.submit(first)
    for _ in range(bound):
        machine.submit(flood * 2)
        machine.step()
        if machine.started >= set(range(len(first))):
            return
    raise AssertionError("a job never started")


class Machine:
    """A machine whose clock moves second by second."""

    def __init__(self) -> None:
        self.now = 0
        self.waiting: list[WaitingJob] = []
        self.running: list[tuple[int, int, Arrival]] = []
        self.started: set[int] = set()
        self.jobs: list[Arrival] = []

    def submit(self, jobs: list[Arrival]) -> None:
        if len(self.waiting) > 40:
            return
        for job in jobs:
            self.waiting.append(WaitingJob(len(self.jobs), job.slots, job.limit))
            self.jobs.append(job)

    def step(self) -> None:
        while self.running and self.running[0][0] <= self.now:
            heapq.heappop(self.running)
        held = [
            RunningJob(job.slots, None if job.limit is None else job.limit - (self.now - begin))
            for _, begin, job in ((e, e - j.seconds, j) for e, _, j in self.running)
        ]
        choice = choose(self.waiting, held, TOTAL)
        self.started.update(choice.start)
        for number in choice.start:
            job = self.jobs[number]
            heapq.heappush(self.running, (self.now + job.seconds, number, job))
        self.waiting = [
            replace(w, overtaken=w.overtaken + choice.overtakes) if w.job == choice.head else w
            for w in self.waiting
            if w.job not in choice.start
        ]
        self.now += 1


def local_job(
    number: int, slots: int, limit: int | None = None, began: float | None = None
) -> LocalJob:
    spec = JobSpec(
        name="job",
        working_directory="/",
        script_file="/bin/true",
        slots=slots,
        wall_time_limit_seconds=limit,
    )
    key = SubmissionKey.for_uid(JobUid.new())
    phase = Phase.QUEUED if began is None else Phase.DISPATCHED
    return LocalJob(number=number, key=key, spec=spec, submitted=0.0, phase=phase, began=began)


@pytest.mark.parametrize("step", [-(10**8), -3600.0, 3600.0, 10**8])
def test_backfill_clock_set(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """The head can start in 60 s at the latest, whatever the clock is set to meanwhile."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + step)
    queue = JobQueue(4)
    running = local_job(1, 3, limit=100, began=time.monotonic() - 40)
    running.start_time = now - 40
    for waiting in (local_job(2, 4), local_job(3, 1, limit=90), local_job(4, 1, limit=50)):
        queue.add(waiting)
    assert [job.number for job in queue.take([running])] == [4]


@pytest.mark.parametrize("request_", [Action.SUSPEND, Action.RESUME])
def test_plan_suspended_job_limit(request_: Action) -> None:
    queue = JobQueue(4)
    running = local_job(1, 3, limit=100, began=time.monotonic())
    queue.add(local_job(2, 4))
    assert queue.plan([running])
    running.request = request_
    assert queue.plan([running]) == {}


def test_take_job_too_large() -> None:
    queue = JobQueue(4)
    large = local_job(1, 5)
    queue.add(large)
    queue.add(local_job(2, 4))
    assert [job.number for job in queue.take([])] == [2]
    assert "asks for 5 slots and the machine has 4 now" in (large.note or "")
    assert large.note_code is ReasonCode.CANNOT_RUN
    queue.discard(large)


def test_take_exclusive_job() -> None:
    queue = JobQueue(4)
    alone = local_job(2, 1)
    alone.spec = replace(alone.spec, exclusive=True)
    assert [queue.slots_of(job) for job in (alone, local_job(3, 1))] == [4, 1]
    queue.add(alone)
    assert queue.take([local_job(1, 1, began=time.monotonic())]) == []
    assert queue.take([]) == [alone]
    queue.add(local_job(3, 1))
    assert queue.take([alone]) == []
