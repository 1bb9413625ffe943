"""The cluster's queues, hosts and version: asked for seldom, whoever wants to know."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.services.kit import T0

from hpcq.domain.errors import SchedulerUnavailable
from hpcq.schedulers.base import Queue
from hpcq.services.cluster import ClusterReader
from hpcq.services.settings import ServiceSettings

pytestmark = pytest.mark.anyio

QUEUE = Queue(name="all.q", is_open=True)


class Scheduler:
    """A scheduler that counts what it is asked.

    Attributes:
        problem: raised in place of an answer.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.problem: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def queues(self) -> Sequence[Queue]:
        self.asked += 1
        await self.gate.wait()
        if self.problem is not None:
            raise self.problem
        return (QUEUE,)

    nodes = queues

    async def version(self) -> str:
        await self.queues()
        return "demo 1.0"


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> Any:
        return self.now


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster(scheduler: Any, clock: Clock) -> ClusterReader:
    return ClusterReader(scheduler, ServiceSettings(poll_interval_seconds=5), clock)


async def test_queues_once_per_interval(
    cluster: ClusterReader, scheduler: Scheduler, clock: Clock
) -> None:
    scheduler.gate.clear()
    readers = [asyncio.create_task(cluster.queues()) for _ in range(20)]
    await asyncio.sleep(0)
    readers[0].cancel()
    scheduler.gate.set()
    found = await asyncio.gather(*readers[1:])
    assert {seen.answer for seen in found} == {(QUEUE,)}
    assert scheduler.asked == 1
    clock.now += timedelta(seconds=4)
    await cluster.queues()
    assert scheduler.asked == 1
    clock.now += timedelta(seconds=1)
    assert (await cluster.queues()).at == clock.now
    assert scheduler.asked == 2


async def test_queues_scheduler_down(
    cluster: ClusterReader, scheduler: Scheduler, clock: Clock
) -> None:
    scheduler.problem = SchedulerUnavailable("It is away.")
    with pytest.raises(SchedulerUnavailable):
        await cluster.queues()
    assert await cluster.version() is None
    scheduler.problem = None
    seen = await cluster.queues()
    assert await cluster.version() == "demo 1.0"
    scheduler.problem = SchedulerUnavailable("It is away again.")
    clock.now += timedelta(hours=1)
    assert await cluster.queues() == seen
    assert await cluster.version() == "demo 1.0"
