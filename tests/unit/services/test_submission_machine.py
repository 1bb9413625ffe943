"""Submissions of clients that repeat them, through failures of everything: each job exists once.

Commands fail before and after they did their work, jobs show late, the disk fills up, the service
dies, time passes and users delete. When everything works again, each promise has been kept.
"""

import asyncio
import contextlib
import itertools
import tempfile
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.services.kit import World

from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    HpcqError,
    IdempotencyKeyReused,
    OutputParseError,
    SchedulerUnavailable,
    StoreUnavailable,
    SubmissionInProgress,
    SubmissionUnclear,
)
from hpcq.domain.jobs import JobRecord, JobUid, NativeId, SubmissionKey
from hpcq.domain.principals import UNASKED
from hpcq.domain.states import JobState
from hpcq.services.submission import attempt

KEYS = st.sampled_from([None, None, "a", "b", "c"])
UNSAID = [
    CommandTimedOut(("qsub",), 30),
    OutputParseError("qsub", "noise", b"Stampede3"),
    SchedulerUnavailable("It is away."),
]
REFUSED = CommandFailed(("qsub",), 1, b"Unable to run job: unknown queue")
ACCOUNTING_LAG_SECONDS = 15
MISSING = CommandMissing("There is no qsub.")
# As a client sees it: this submission has come to nothing, and its key is free.
REFUSALS = (CommandFailed, CommandMissing)


@dataclass
class Intent:
    """The answers of one submission, or of all submissions under one key.

    Attributes:
        uid: the permanent id that it was told.
        answers: the scheduler's ids that it was told.
        is_deleted: whether it was deleted.
    """

    uid: JobUid
    is_deleted: bool = False
    answers: set[NativeId] = field(default_factory=set)


class Submitting(RuleBasedStateMachine):
    """A service, its scheduler, and clients who remember what they were told."""

    @initialize(shows_keys=st.booleans())
    def begin(self, shows_keys: bool) -> None:
        self.patience = attempt._SECOND_LOOK_SECONDS
        attempt._SECOND_LOOK_SECONDS = 0.0
        # What is drawn, and in which order jobs are looked at, is to depend on nothing by chance.
        numbers = (uuid.UUID(int=number, version=4) for number in itertools.count())
        self.ids = patch("uuid.uuid4", lambda: next(numbers))
        self.ids.start()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(directory=Path(self.folder.name))
        self.scheduler = self.world.scheduler
        self.scheduler.shows_keys = shows_keys
        self.runner.run(self.world.__aenter__())
        self.intents: dict[JobUid, Intent] = {}
        self.keys: dict[str, JobUid] = {}
        self.lag = 0.0

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.everything_works_again()
        self.runner.run(self.world.__aexit__())
        self.runner.close()
        self.folder.cleanup()
        self.ids.stop()
        attempt._SECOND_LOOK_SECONDS = self.patience

    # What clients do

    @rule(key=KEYS, times=st.integers(1, 3))
    def submit(self, key: str | None, times: int) -> None:
        for _ in range(times if key else 1):
            self.runner.run(self.send(key))

    async def send(self, key: str | None) -> None:
        world = self.world
        spec = replace(world.spec, name=f"job-{key}")
        try:
            answer = await world.submitter.submit(UNASKED, spec, key)
        except (SubmissionInProgress, SubmissionUnclear, StoreUnavailable):
            return
        except REFUSALS:
            if key is not None:
                uid = self.keys.pop(key, None)
                assert uid is None, "it was told to be under way, and is refused now"
            return
        except HpcqError as error:
            raise AssertionError("no other answer is a submission's") from error
        finally:
            await world.runner.drain()
        record = answer.record
        intent = self.intents.setdefault(record.uid, Intent(record.uid))
        if record.native_id is not None:
            intent.answers.add(record.native_id)
        if key is not None:
            known = self.keys.setdefault(key, record.uid)
            if known != record.uid:
                assert await self.was_refused(known), "another job under the same key"
                self.keys[key] = record.uid

    async def was_refused(self, uid: JobUid) -> bool:
        """True if a promised job was refused later: then its key is free."""
        return (await self.stored(uid)).state is JobState.FAILED and not self.jobs_of(uid)

    async def stored(self, uid: JobUid) -> JobRecord:
        """Return a record; deleted ones are on no table."""
        record = await self.world.store.by_uid(uid)
        assert record is not None
        return record

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def send_another_body(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(list(self.keys)), label="key")
        known = self.runner.run(self.stored(self.keys[key]))
        if known.state is JobState.FAILED:
            return
        spec = replace(self.world.spec, name="another")
        try:
            self.runner.run(self.world.submitter.submit(UNASKED, spec, key))
        except IdempotencyKeyReused:
            return
        raise AssertionError("two bodies under one key")

    @precondition(lambda self: self.intents)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(list(self.intents)), label="uid")
        # Whoever is told that it failed may or may not have had their wish.
        with contextlib.suppress(HpcqError):
            self.runner.run(self.world.changer.cancel(UNASKED, uid))
        self.intents[uid].is_deleted = True

    # What breaks

    @rule(error=st.sampled_from([*UNSAID, REFUSED]), after_effect=st.booleans())
    def submit_fails(self, error: HpcqError, after_effect: bool) -> None:
        """A refusal is in the scheduler's own words, and so has no effect."""
        self.scheduler.fail_next("submit", error, after_effect=after_effect and error != REFUSED)

    @rule()
    def command_is_missing(self) -> None:
        self.scheduler.fail_next("submit", MISSING)

    @rule(error=st.sampled_from(UNSAID), times=st.integers(1, 3))
    def find_fails(self, error: HpcqError, times: int) -> None:
        for _ in range(times):
            self.scheduler.fail_next("find", error)

    @rule()
    def disk_fills_up(self) -> None:
        self.world.database.full = True

    @rule()
    def disk_has_room_again(self) -> None:
        self.world.database.full = False

    @rule(key=KEYS, fills=st.booleans(), took_it=st.booleans())
    def die_while_submitting(self, key: str | None, fills: bool, took_it: bool) -> None:
        self.runner.run(self.dying(key, fills=fills, took_it=took_it))

    async def dying(self, key: str | None, *, fills: bool, took_it: bool) -> None:
        before = set(self.scheduler.queue)
        self.scheduler._scripted["submit"].clear()
        answer = self.scheduler.hold_back_next("submit")
        spec = replace(self.world.spec, name=f"job-{key}")
        task = asyncio.create_task(self.world.submitter.submit(UNASKED, spec, key))
        reached = asyncio.create_task(answer.ready.wait())
        await asyncio.wait([task, reached], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            if not took_it:
                for native_id in set(self.scheduler.queue) - before:
                    del self.scheduler.queue[native_id]
            self.world.database.full = fills
            ended = self.world.runner
            await self.world.restart()
            for one in ended._tasks:
                one.cancel()
            await asyncio.gather(*ended._tasks, return_exceptions=True)
        self.scheduler._scripted["submit"].clear()
        task.cancel()
        reached.cancel()
        await asyncio.gather(task, reached, return_exceptions=True)

    @rule()
    def restart(self) -> None:
        self.runner.run(self.world.restart())

    @rule(seconds=st.sampled_from([1, 5, 30, 61]))
    def pass_time(self, seconds: int) -> None:
        self.runner.run(self.tick(seconds))

    async def tick(self, seconds: float) -> None:
        self.lag += seconds
        if self.lag > ACCOUNTING_LAG_SECONDS:
            self.accounting_catches_up()
        try:
            await self.world.tick(seconds)
        except HpcqError:
            assert self.world.database.full
        await self.world.runner.drain()

    # What jobs do

    @precondition(lambda self: self.scheduler.queue)
    @rule(data=st.data(), accounted=st.booleans())
    def run_and_end(self, data: st.DataObject, accounted: bool) -> None:
        native_id = data.draw(st.sampled_from(list(self.scheduler.queue)), label="job")
        if not self.scheduler._ended:
            self.lag = 0.0
        self.scheduler.run(native_id)
        self.scheduler.end(native_id, accounted=accounted)

    @rule()
    def accounting_catches_up(self) -> None:
        for native_id in list(self.scheduler._ended):
            self.scheduler.account(native_id)

    # What must be

    def jobs_of(self, uid: JobUid) -> list[NativeId]:
        key = SubmissionKey.for_uid(uid)
        return [i for i, carried in self.everything() if carried == key]

    def everything(self) -> list[tuple[NativeId, SubmissionKey | None]]:
        scheduler = self.scheduler
        accounted = [job for jobs in scheduler.accounting.values() for job in jobs]
        known = [*scheduler.queue.values(), *scheduler._ended.values(), *accounted]
        return [(job.native_id, job.submission_key) for job in known]

    @invariant()
    def no_intent_has_two_jobs(self) -> None:
        if hasattr(self, "world"):
            count = Counter(key for _, key in self.everything())
            assert all(n == 1 for n in count.values()), count

    @invariant()
    def answered_ids_are_right(self) -> None:
        if not hasattr(self, "world"):
            return
        for intent in self.intents.values():
            assert len(intent.answers) <= 1, intent
            carried = {i for i, key in self.everything() if key and key.uid == intent.uid}
            # A job that was deleted while it waited is nowhere.
            assert not intent.answers or carried <= intent.answers, intent

    def everything_works_again(self) -> None:
        self.world.database.full = False
        self.scheduler._scripted.clear()
        self.accounting_catches_up()
        for _ in range(4):
            self.runner.run(self.tick(61))
        for record in self.world.table.records():
            assert record.hand_over is None or record.state.is_final, f"still open: {record}"
        for uid, intent in self.intents.items():
            record = self.runner.run(self.stored(uid))
            found = self.jobs_of(uid)
            if intent.is_deleted:
                assert len(found) <= 1
            elif record.state is JobState.FAILED and record.native_id is None:
                assert not found, "it was told to be refused, and exists"
                assert record.state_reason in (REFUSED.detail, MISSING.detail), record
            else:
                assert [record.native_id] == found, (record, found)


TestSubmitting = Submitting.TestCase
TestSubmitting.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
