"""The load of queues: who samples it, when, and what is told of it."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from structlog.testing import capture_logs
from tests.unit.services.kit import T0, World

from hpcq.domain.errors import QueueNotFound, SchedulerUnavailable
from hpcq.schedulers.base import Queue
from hpcq.services.cluster import ClusterReader
from hpcq.services.queue_usage import QueueUsage
from hpcq.services.settings import ServiceSettings
from hpcq.storage.queue_samples import QueueSamples

pytestmark = pytest.mark.anyio


class Site:
    """The load of a scheduler's queues, over the services' kit.

    Attributes:
        asked: how often the scheduler was asked for its queues.
        problem: raised in place of an answer.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked = 0
        self.problem: Exception | None = None
        self.is_leader = True
        self.usage = QueueUsage(
            ClusterReader(self, ServiceSettings(poll_interval_seconds=1), world.clock),  # type: ignore[arg-type]
            world.table,
            QueueSamples(world.database, None),
            lambda: self.is_leader,
            ServiceSettings(stale_after_seconds=30, queue_usage_kept_days=7),
            world.clock,
        )

    async def queues(self) -> Sequence[Queue]:
        self.asked += 1
        if self.problem is not None:
            raise self.problem
        return [Queue(name="all.q", is_open=True, slots_total=8, slots_used=3)]

    nodes = version = queues

    async def points(self, most: int = 500) -> list[tuple[float, float]]:
        history = await self.usage.history("all.q", None, None, most)
        return [(point.slots_used, point.slots_queued) for point in history.points]


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


async def test_sample_slots_and_waiting_jobs(site: Site) -> None:
    await site.world.submit(slots=4)
    await site.world.tick()
    await site.usage.sample()
    site.world.clock.forward(60)
    assert await site.points() == [(3, 4)]
    assert site.asked == 1


async def test_sample_by_follower_replica(site: Site) -> None:
    await site.world.tick()
    site.is_leader = False
    await site.usage.sample()
    site.world.clock.forward(60)
    assert site.asked == 0
    assert await site.points() == []


async def test_sample_without_fresh_listing(site: Site) -> None:
    await site.usage.sample()
    assert site.asked == 0, "the queue was never seen"
    await site.world.tick()
    site.world.clock.forward(31)
    await site.usage.sample()
    assert site.asked == 0, "what is known of the jobs is old"
    await site.world.tick()
    await site.usage.sample()
    await site.world.tick(40)
    site.problem = SchedulerUnavailable("It is away.")
    site.asked = 0
    with capture_logs() as logs:
        await site.usage.sample_and_report()
    site.world.clock.forward(60)
    assert site.asked == 1
    assert len(await site.points()) == 1, "what was seen before stands for no other minute"
    assert logs == []


async def test_sample_queues_never_read(site: Site) -> None:
    await site.world.tick()
    site.problem = SchedulerUnavailable("It is away.")
    with capture_logs() as logs:
        await site.usage.sample_and_report()
    assert [log["event"] for log in logs] == ["queues.not_sampled"]


async def test_history_point_limit(site: Site) -> None:
    for _ in range(20):
        await site.world.tick(60)
        await site.usage.sample()
    site.world.clock.forward(60)
    now = site.world.clock()
    history = await site.usage.history("all.q", now - timedelta(minutes=20), None, 7)
    assert history.step == timedelta(minutes=3)
    assert len(history.points) == 7
    assert (history.since, history.until) == (now - timedelta(minutes=20), now)


async def test_history_time_bounds(site: Site) -> None:
    now = site.world.clock()
    history = await site.usage.history("all.q", T0.min.replace(tzinfo=T0.tzinfo), None, 10)
    assert (history.since, history.until) == (now - timedelta(days=7), now)
    future = await site.usage.history("all.q", now + timedelta(days=1), None, 10)
    assert (future.since, future.until, future.points) == (now, now, [])


async def test_history_unknown_queue(site: Site) -> None:
    for name in ("none.q", "", "a\0b"):
        with pytest.raises(QueueNotFound):
            await site.usage.history(name, None, None, 10)
    site.problem = SchedulerUnavailable("It is away.")
    site.world.clock.forward(5)
    assert (await site.usage.history("all.q", None, None, 10)).points == []


async def test_history_removed_queue(site: Site) -> None:
    await site.world.tick()
    await site.usage.sample()
    site.problem = SchedulerUnavailable("It is away.")
    site.world.clock.forward(2 * 86400)
    asked = site.asked
    assert (await site.usage.history("all.q", None, None, 10)).points == []
    assert site.asked == asked, "a sample of it is kept"
