"""Several services on one PostgreSQL, step by step: what one does, the others know."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.databases import DATABASES
from tests.integration.replicas import (
    COMMAND_SECONDS,
    LISTED_FOR,
    SETTLE_SECONDS,
    Member,
    Site,
    until,
)
from tests.mail_server import receiving_mails

from hpcq.domain.errors import (
    LeaseLost,
    SchedulerUnavailable,
    StoreUnavailable,
    SubmissionInProgress,
)
from hpcq.domain.events import EventKind
from hpcq.domain.jobs import JobRecord, MailEvent, NativeId
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import JobState
from hpcq.services.listing import publisher as publisher_module
from hpcq.services.mail.settings import MailSettings
from hpcq.services.submission.submitter import Submission
from hpcq.storage import jobs as store_module

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

# Longer than another process may be about to hand a job over, and a job may take to show.
LONG = 3 * COMMAND_SECONDS + SETTLE_SECONDS + 1


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    with DATABASES["POSTGRESQL"].fresh(tmp_path) as database:
        site = Site(directory=tmp_path, url=database.url)
        yield site
        await site.close()


@pytest.fixture
async def one(site: Site) -> Member:
    return await site.member()


@pytest.fixture
async def other(site: Site, one: Member) -> Member:
    return await site.member()


async def numbered(member: Member) -> list[tuple[int, str, EventKind]]:
    found = await member.services.store.events(0, 10_000)
    return [(event.number, str(event.uid), event.kind) for event in found]


# What one does shows on the others


async def test_listing_same_jobs_and_uids(site: Site, one: Member, other: Member) -> None:
    site.scheduler.enqueue(name="somebody-elses")
    mine = await site.submit(one)
    theirs = await site.submit(other)
    await one.lead()
    await other.follow()
    assert one.shown() == other.shown()
    assert len(one.shown()) == 3
    assert {mine.uid, theirs.uid} < one.shown().keys()


async def test_change_seen_by_leader_on_follower(site: Site, one: Member, other: Member) -> None:
    record = await site.submit(other)
    assert record.native_id is not None
    await one.lead()
    site.scheduler.run(record.native_id)
    await one.lead()
    await other.follow()
    assert other.job(record.uid).state is JobState.RUNNING
    site.scheduler.end(record.native_id, exit_code=0)
    await one.lead()
    await other.follow()
    assert other.job(record.uid).state is JobState.DONE
    assert [kind for _, _, kind in await numbered(other)] == [
        kind for _, _, kind in await numbered(one)
    ]


async def test_cancel_on_follower_seen_by_leader(site: Site, one: Member, other: Member) -> None:
    record = await site.submit(one)
    await one.lead()
    await other.follow()
    await other.services.changer.cancel(UNASKED, str(record.uid))
    await one.follow()
    assert one.job(record.uid) == other.job(record.uid)
    assert one.job(record.uid).removed_at is not None


async def test_foreign_job_removed_and_back(site: Site, one: Member, other: Member) -> None:
    native_id = site.scheduler.enqueue(name="somebody-elses")
    await one.lead()
    await other.follow()
    seen = site.scheduler.queue.pop(native_id)
    await one.lead()
    await other.follow()
    assert (one.shown(), other.shown()) == ({}, {})
    site.scheduler.queue[native_id] = seen
    await one.lead()
    await other.follow()
    assert len(one.shown()) == 1
    assert one.shown() == other.shown()


async def test_job_seen_before_id_known(site: Site, one: Member, other: Member) -> None:
    site.scheduler.shows_keys = False
    await one.lead()
    answer = site.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(other.services.submitter.submit(UNASKED, site.spec))
    await answer.ready.wait()
    await one.lead()
    answer.let_go()
    await submitting
    await other.services.submitter.runner.drain()
    await one.lead()
    await one.lead()
    third = await site.member()
    await other.follow()
    shown = [list(member.shown()) for member in (one, other, third)]
    uid = (await submitting).record.uid
    assert shown == [[uid], [uid], [uid]]


async def test_ended_job_expires_from_listings(site: Site, one: Member, other: Member) -> None:
    record = await site.submit(one)
    assert record.native_id is not None
    await one.lead()
    site.scheduler.end(record.native_id)
    await one.lead()
    await other.follow()
    assert record.uid in other.shown()
    other.clock.forward(LISTED_FOR.total_seconds() + 60)
    await other.replica.retire()
    assert other.shown() == {}


async def test_news_after_pause_in_parts(
    site: Site, one: Member, other: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_NEWS_AT_ONCE", 2)
    records = [await site.submit(one) for _ in range(7)]
    part = await one.services.store.news(0)
    assert 0 < len(part.changed) < 7
    await other.follow()
    assert other.shown().keys() == {record.uid for record in records}


async def test_follow_no_record_of_unasked_queries(site: Site, one: Member, other: Member) -> None:
    for _ in range(3):
        site.scheduler.enqueue()
    await one.lead()
    await other.follow()
    assert len(other.shown()) == 3
    assert other.services.changer.publisher._locally_changed == {}


# The scheduler's health is everybody's


async def test_follower_health_scheduler_down(site: Site, one: Member, other: Member) -> None:
    await one.lead()
    for _ in range(10_000):
        site.scheduler.fail_next("jobs", SchedulerUnavailable("It is away."))
    one.start()
    async with asyncio.timeout(30):
        while other.services.monitor.health.problem != "It is away.":
            await other.follow()
    assert not other.services.monitor.health.answered
    assert other.services.table.as_of is not None


async def test_follower_health_scheduler_never_answered(
    site: Site, one: Member, other: Member
) -> None:
    await one.lease.take()
    await one.services.store.publish([], holder=one.name, problem="It is away.")
    await other.follow()
    assert other.services.monitor.health.problem == "It is away."


async def test_follower_health_queue_down_accounting_up(
    site: Site, one: Member, other: Member
) -> None:
    record = await site.submit(one)
    await one.lead()
    await one.services.store.publish([], holder=one.name, problem="It is away.")
    await one.services.store.publish(
        [(one.job(record.uid), one.job(record.uid).changed(state_reason="as accounting says"))],
        holder=one.name,
    )
    await other.follow()
    assert other.services.monitor.health.problem == "It is away."


# One asks


async def test_leader_single_and_replaced_after_stop(
    site: Site, one: Member, other: Member
) -> None:
    one.start()
    await until(lambda: one.door.asked > 0)
    other.start()
    before = one.door.asked
    await until(lambda: one.door.asked > before + 20)
    assert other.door.asked == 0
    await one.stop()
    asked = one.door.asked
    await until(lambda: other.door.asked > 20)
    assert one.door.asked == asked


async def test_mails_from_leader_only(site: Site) -> None:
    async def end_a_job(member: Member) -> None:
        asked = {"mail_to": "ana@site.example", "mail_on": (MailEvent.END,)}
        record = await site.submit(member, **asked)
        assert record.native_id is not None
        site.scheduler.end(record.native_id)

    with receiving_mails() as server:
        site.mail = MailSettings(
            mail_server=f"127.0.0.1:{server.port}", mail_from="hpc@site.example", mail_tls="off"
        )
        one, other = await site.member(), await site.member()
        one.start()
        await until(lambda: one.services.dispatcher.backlog != {})
        other.start()
        await end_a_job(other)
        await until(lambda: one.services.dispatcher.attempts.total() == 1)
        assert other.services.dispatcher.backlog == {}
        await one.stop()
        await end_a_job(one)
        await until(lambda: other.services.dispatcher.attempts.total() == 1)
    assert one.services.dispatcher.attempts.total() == 1
    assert len({mail.key for mail in server.mails}) == len(server.mails) == 2


async def test_leader_late_answer_after_takeover(site: Site, one: Member, other: Member) -> None:
    record = await site.submit(one)
    assert record.native_id is not None
    await one.lead()
    site.scheduler.run(record.native_id)
    late = site.scheduler.hold_back_next("jobs")
    looking = asyncio.create_task(one.services.monitor.look())
    await late.ready.wait()
    await one.hand_on()
    site.scheduler.end(record.native_id, exit_code=0)
    await other.lead()
    events = await numbered(other)
    late.let_go()
    with pytest.raises(LeaseLost):
        await looking
    assert await numbered(other) == events
    await one.follow()
    assert one.job(record.uid).state is JobState.DONE


async def test_leader_older_watch_discarded(site: Site, one: Member, other: Member) -> None:
    record = await site.submit(one)
    assert record.native_id is not None
    site.scheduler.change(record.native_id, queue="short")
    await one.lead()
    await one.hand_on()
    site.scheduler.change(record.native_id, queue="long")
    await other.lead()
    await other.hand_on()
    site.scheduler.change(record.native_id, queue="short")
    one.start()
    asked = one.door.asked
    await until(lambda: one.door.asked > asked + 2)
    seen = one.job(record.uid).seen
    assert seen is not None
    assert seen.queue == "short"


async def test_lease_renewal_hangs(
    site: Site, one: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.start()
    await until(lambda: one.door.asked > 0)
    never = asyncio.Event()
    lease = one.replica._lease
    take = lease.take

    async def hang() -> bool:
        await never.wait()
        return await take()

    monkeypatch.setattr(lease, "take", hang)
    await until(lambda: not one.replica.is_leader)
    never.set()
    asked = one.door.asked
    await until(lambda: one.door.asked > asked)


async def test_follow_error_recovered(
    site: Site, one: Member, other: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    news = other.services.store.news
    broken = True

    async def unreadable(since: int | None) -> Any:
        if broken:
            raise KeyError("of a later version")
        return await news(since)

    monkeypatch.setattr(other.services.store, "news", unreadable)
    other.start()
    await until(lambda: "cannot be read" in (other.services.monitor.health.problem or ""))
    broken = False
    record = await site.submit(one)
    await until(lambda: record.uid in other.shown() and other.door.asked > 0)


# What could not be written


async def test_follower_writes_pending_changes(site: Site, one: Member, other: Member) -> None:
    record = await site.submit(one)
    await one.lead()
    await other.follow()
    other.database.writes_left = 0
    with pytest.raises(StoreUnavailable):
        await other.services.changer.cancel(UNASKED, str(record.uid))
    other.database.writes_left = None
    await other.follow()
    await one.follow()
    assert one.job(record.uid).cancel_requested_at is not None


async def test_listing_written_in_portions_after_failure(
    site: Site, one: Member, other: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "_WRITTEN_AT_ONCE", 10)
    for _ in range(35):
        site.scheduler.enqueue()
    assert await one.lease.take()
    one.database.writes_left = 2
    with pytest.raises(StoreUnavailable):
        await one.services.monitor.look()
    await other.follow()
    assert len(other.shown()) == len(one.shown()) == 20
    one.database.writes_left = None
    await one.lead()
    await other.follow()
    assert len(other.shown()) == len(one.shown()) == 35
    assert one.shown() == other.shown()
    site.scheduler.queue.clear()
    one.database.writes_left = 2
    with pytest.raises(StoreUnavailable):
        await one.services.monitor.look()
    one.database.writes_left = None
    await one.lead()
    await other.follow()
    assert (one.shown(), other.shown()) == ({}, {})


async def test_listing_write_conflict_reread(site: Site, one: Member, other: Member) -> None:
    record = await site.submit(one)
    assert record.native_id is not None
    await one.lead()
    await other.follow()
    publisher = other.services.changer.publisher
    await publisher.apply(record.uid, lambda r: r.changed(state_reason="told here"))
    site.scheduler.change(record.native_id, queue="long")
    assert await one.lease.take()
    await one.services.monitor.look()
    await one.lead()
    seen = one.job(record.uid).seen
    assert seen is not None
    assert seen.queue == "long"


# Submissions


async def test_key_concurrent_on_two_replicas(site: Site, one: Member, other: Member) -> None:
    async def send(member: Member, key: str) -> Submission:
        while True:
            try:
                return await member.services.submitter.submit(UNASKED, site.spec, key)
            except SubmissionInProgress:
                await asyncio.sleep(0.01)

    keys = [f"key-{number}" for number in range(50)]
    answers = await asyncio.gather(
        *(send(member, key) for key in keys for member in (one, other, one))
    )
    for number in range(len(keys)):
        three = answers[3 * number : 3 * number + 3]
        assert len({answer.record.uid for answer in three}) == 1
        assert sorted(answer.is_replay for answer in three) == [False, True, True]
    assert len(site.scheduler.submitted) == len(site.scheduler.queue) == len(keys)


class Dies(BaseException):
    """The process ends here."""


async def die_before_the_command(
    site: Site, member: Member, key: str, monkeypatch: pytest.MonkeyPatch
) -> JobRecord:
    """Write an intent there as a process does that is killed at once afterwards."""
    created: list[JobRecord] = []
    create = member.services.store.create

    async def last(record: JobRecord, key: Any = None) -> None:
        await create(record, key)
        created.append(record)
        raise Dies

    monkeypatch.setattr(member.services.store, "create", last)
    with pytest.raises(Dies):
        await member.services.submitter.submit(UNASKED, site.spec, key)
    return created[0]


async def test_submission_replica_died_before_command(
    site: Site, one: Member, other: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await die_before_the_command(site, other, "key", monkeypatch)
    await one.lead()
    with pytest.raises(SubmissionInProgress):
        await one.services.submitter.submit(UNASKED, site.spec, "key")
    for _ in range(3):
        one.clock.forward(LONG)
        await one.lead()
        await one.services.submitter.runner.drain()
    await one.lead()
    replayed = await one.services.submitter.submit(UNASKED, site.spec, "key")
    assert (replayed.is_replay, replayed.record.uid) == (True, record.uid)
    assert replayed.record.native_id is not None
    assert list(site.scheduler.queue) == [replayed.record.native_id]


async def test_submission_replica_died_before_id(site: Site, one: Member, other: Member) -> None:
    answer = site.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(other.services.submitter.submit(UNASKED, site.spec, "key"))
    await answer.ready.wait()
    await one.lead()
    replayed = await one.services.submitter.submit(UNASKED, site.spec, "key")
    assert list(site.scheduler.queue) == [replayed.record.native_id]
    answer.let_go()
    assert (await submitting).record.uid == replayed.record.uid


async def test_clock_ahead_submission_not_taken_over(
    site: Site, one: Member, other: Member
) -> None:
    one.clock.forward(600)
    await one.lead()
    refused = site.scheduler.hold_back_next("submit")
    submitting = asyncio.create_task(other.services.submitter.submit(UNASKED, site.spec, "key"))
    await refused.ready.wait()
    # As if its command had not reached the scheduler yet.
    hidden = dict(site.scheduler.queue)
    site.scheduler.queue.clear()
    await one.lead()
    one.clock.forward(COMMAND_SECONDS)
    await one.lead()
    await one.services.submitter.runner.drain()
    site.scheduler.queue.update(hidden)
    refused.let_go()
    await submitting
    await other.services.submitter.runner.drain()
    await one.lead()
    assert site.scheduler.calls["submit"] == 1
    assert one.job((await submitting).record.uid).native_id == NativeId("1")


async def test_replica_stalled_submission_taken_over(
    site: Site, one: Member, other: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands, goes_on = asyncio.Event(), asyncio.Event()
    create = other.services.store.create

    async def stand_still(record: JobRecord, key: Any = None) -> Any:
        claim = await create(record, key)
        stands.set()
        await goes_on.wait()
        return claim

    monkeypatch.setattr(other.services.store, "create", stand_still)
    submitting = asyncio.create_task(other.services.submitter.submit(UNASKED, site.spec, "key"))
    await stands.wait()
    await one.lead()
    for _ in range(3):
        for member in (one, other):
            member.clock.forward(LONG)
        await one.lead()
        await one.services.submitter.runner.drain()
    goes_on.set()
    with pytest.raises(SubmissionInProgress):
        await submitting
    again = await one.services.submitter.submit(UNASKED, site.spec, "key")
    assert (again.is_replay, [again.record.native_id]) == (True, list(site.scheduler.queue))
    assert len(site.scheduler.queue) == site.scheduler.calls["submit"] == 1


async def test_replica_stalled_submission_still_own(
    site: Site, one: Member, other: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = one.services.store.create

    async def slow(record: JobRecord, key: Any = None) -> Any:
        claim = await create(record, key)
        one.clock.forward(COMMAND_SECONDS + 1)
        return claim

    monkeypatch.setattr(one.services.store, "create", slow)
    record = await site.submit(one)
    assert list(site.scheduler.queue) == [record.native_id]
    kept = await other.services.store.by_uid(record.uid)
    assert kept is not None
    assert kept.native_id == record.native_id


async def test_events_no_gaps_changing_leader(site: Site, one: Member, other: Member) -> None:
    for turn in range(6):
        leader, follower = (one, other) if turn % 2 else (other, one)
        records = [await site.submit(member) for member in (leader, follower)]
        await leader.lead()
        for record in records:
            assert record.native_id is not None
            site.scheduler.run(record.native_id)
        await leader.lead()
        await follower.follow()
        await follower.services.changer.cancel(UNASKED, str(records[0].uid))
        assert records[1].native_id is not None
        site.scheduler.end(records[1].native_id, exit_code=turn)
        await leader.lead()
        await leader.hand_on()
    await one.follow()
    await other.follow()
    found = await one.services.store.events(0, 10_000)
    assert [event.number for event in found] == list(range(1, len(found) + 1))
    assert one.shown() == other.shown()
    for uid in one.shown():
        mine = [event for event in found if event.uid == uid]
        told = [event.data for event in mine if "from" in event.data]
        assert [data["from"] for data in told[1:]] == [data["state"] for data in told[:-1]]


async def test_lease_returned_on_stop(site: Site, one: Member, other: Member) -> None:
    one.start()
    await until(lambda: one.door.asked > 0)
    await one.stop()
    assert await other.lease.take()
