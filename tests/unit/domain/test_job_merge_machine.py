"""Any order of what can happen to a job, and of what is heard of it, makes a legal history.

One job and its scheduler are played with a plain model of the truth: its runs, on the scheduler's
clock, which is up to five minutes away from ours. What the service hears is late, doubled, or
about another job with the same number. Whatever it heard, the record is right once it hears all.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hpcq.domain import identity, job_changes, job_merge, runs, submission
from hpcq.domain.actions import Action
from hpcq.domain.contradictions import find_contradiction
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState, may_move

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
ID = NativeId("155")
UID = JobUid("3d6f7a52-0c0b-4b7e-9b57-6d1f3b9a7c11")
CLOCKS_APART = timedelta(minutes=5)
SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")


@dataclass(frozen=True)
class Manner:
    """The manner in which a scheduler shows its jobs."""

    keys_in_queue: bool
    says_requeued: bool
    submitted_anew: bool
    submission_while_running: bool
    puts_back_finished: bool


MANNERS = {
    "Slurm": Manner(True, False, True, True, True),
    "Grid Engine": Manner(False, True, True, False, False),
    "plain": Manner(True, True, False, True, True),
}


@dataclass(frozen=True)
class Run:
    """One run as it was: None for an end that is still to come, or for no exit code at all."""

    submitted: datetime
    started: datetime | None
    ended: datetime | None = None
    code: int | None = None


class Life(RuleBasedStateMachine):
    """The truth, what was heard of it, and the record."""

    @initialize(
        manner=st.sampled_from(sorted(MANNERS)), ahead=st.integers(-300, 300), hold=st.booleans()
    )
    def submit(self, manner: str, ahead: int, hold: bool) -> None:
        self.manner = MANNERS[manner]
        self.now = T0
        self.ahead = timedelta(seconds=ahead)
        self.hold = hold
        self.suspended = False
        self.submitted = self.clock
        self.past: list[Run] = []
        self.started: datetime | None = None
        self.waits = True
        self.late: list[Observation] = []
        self.heard: Observation | None = None
        self.starts: set[datetime | None] = set()
        self.over: set[Run] = set()
        intent = submission.intent(UID, replace(SPEC, hold=hold), T0, by="test", is_promised=False)
        self.history: list[JobRecord] = [intent, submission.submitted(intent, ID, T0)]

    @property
    def clock(self) -> datetime:
        return self.now + self.ahead

    @property
    def record(self) -> JobRecord:
        return self.history[-1]

    @property
    def runs(self) -> bool:
        return self.started is not None

    @property
    def in_queue(self) -> bool:
        return self.waits or self.runs

    def become(self, record: JobRecord) -> None:
        self.history.append(record)

    # The truth

    @rule(seconds=st.sampled_from([3, 20, 400, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.waits and not self.hold)
    @rule()
    def start(self) -> None:
        self.now += timedelta(seconds=3)
        self.waits, self.started = False, self.clock

    @precondition(lambda self: self.runs)
    @rule()
    def suspend_or_resume(self) -> None:
        self.suspended = not self.suspended

    @precondition(lambda self: self.runs)
    @rule(code=st.integers(0, 3))
    def end(self, code: int) -> None:
        self.now += timedelta(seconds=3)
        self.past.append(Run(self.submitted, self.started, self.clock, code))
        self.started, self.suspended = None, False

    @precondition(lambda self: self.runs)
    @rule(hold=st.booleans())
    def put_back(self, hold: bool) -> None:
        self.end(9)
        self.wait_again(hold)

    @precondition(lambda self: not self.in_queue and self.manner.puts_back_finished)
    @rule(hold=st.booleans())
    def put_back_finished(self, hold: bool) -> None:
        if self.manner.submitted_anew:
            if self.record.seen is not None and self.record.seen.submit_time is not None:
                self.wait_again(hold)
        elif self.past[-1].started is not None:
            self.wait_again(hold)

    def wait_again(self, hold: bool) -> None:
        self.now += timedelta(seconds=3)
        self.waits, self.hold = True, hold
        if self.manner.submitted_anew:
            self.submitted = self.clock

    # What is heard of it

    def sight(self) -> Observation:
        waits = JobState.QUEUED_HELD if self.hold else JobState.QUEUED
        if self.past and self.manner.says_requeued:
            waits = JobState.REQUEUED_HELD if self.hold else JobState.REQUEUED
        goes_on = JobState.SUSPENDED if self.suspended else JobState.RUNNING
        told = self.waits or self.manner.submission_while_running
        return Observation(
            native_id=ID,
            state=waits if self.waits else goes_on,
            name="study",
            owner="ana",
            start_time=self.started,
            hosts=("n1",) if self.runs else None,
            usage=Usage(cpu_seconds=1.0) if self.runs else None,
            submit_time=self.submitted if told else None,
            submission_key=self.record.key if self.manner.keys_in_queue else None,
        )

    def account(self, run: Run) -> Observation:
        return Observation(
            native_id=ID,
            state=JobState.FAILED if run.code != 0 else JobState.DONE,
            failure_kind=FailureKind.CANCELLED if run.code is None else None,
            exit_code=run.code,
            name="study",
            owner="ana",
            submit_time=run.submitted,
            start_time=run.started,
            end_time=run.ended,
            submission_key=self.record.key,
        )

    @precondition(lambda self: self.in_queue)
    @rule()
    def look(self) -> None:
        seen = self.sight()
        known = self.record.seen
        self.starts |= {seen.start_time, None if known is None else known.start_time}
        assert identity.same_job(self.record, seen)
        assert find_contradiction(self.record, seen) is None
        self.become(job_merge.observe(self.record, seen, self.now))
        self.heard = seen
        # Whoever is seen in the queue has no run but the present one.
        self.over |= {run for run in self.past if run.started in self.starts - {None}}
        self.tell_apart(seen)

    def tell_apart(self, seen: Observation) -> None:
        """An earlier run is over if the job counts as submitted anew, or began long after it."""
        for run in self.past:
            anew = seen.submit_time is not None and run.submitted < seen.submit_time
            began, begins = run.started, seen.start_time
            is_long_ago = began is not None and begins is not None and began < begins - CLOCKS_APART
            if anew or is_long_ago:
                self.over.add(run)

    @precondition(lambda self: not self.in_queue)
    @rule()
    def miss(self) -> None:
        missed = job_changes.missed(self.record, self.now)
        gone = job_changes.vanished(missed, "It left the queue.", last_seen=self.now, at=self.now)
        self.become(gone)

    @precondition(lambda self: self.past and not self.in_queue)
    @rule(data=st.data())
    def ask_accounting(self, data: st.DataObject) -> None:
        """It knows the first so many runs, and tells some of them in any order."""
        known = self.past[: data.draw(st.integers(1, len(self.past)), label="known")]
        told = data.draw(st.permutations(known), label="order")
        answers = [self.account(run) for run in told]
        self.late += answers
        if self.record.state.is_final:
            return  # nobody asks
        newest = runs.newest(self.record, answers)
        # What it lags behind cannot be known; what was seen to be over does not count.
        fresh = [self.account(run) for run in known if run not in self.over]
        assert newest == (fresh[-1] if fresh else None)
        if newest is not None:
            self.hear(newest)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def hear_late(self, data: st.DataObject) -> None:
        """An answer of some time ago is heard now, or again."""
        said = data.draw(st.sampled_from(self.late), label="late")
        before = self.record
        self.hear(said)
        run = next(run for run in self.past if self.account(run) == said)
        if run in self.over:
            assert self.record is before

    def hear(self, said: Observation) -> None:
        if not identity.same_job(self.record, said):
            return
        before = self.record
        was_final = before.state.is_final
        self.become(job_merge.observe(before, said, self.now))
        if self.record is not before:
            self.tell_apart(said)
        self.heard = None if was_final else said

    @precondition(lambda self: self.heard is not None)
    @rule(seconds=st.sampled_from([0, 60]))
    def hear_twice(self, seconds: int) -> None:
        assert self.heard is not None
        if self.record.seen is not None and self.record.state is not JobState.UNDETERMINED:
            self.now += timedelta(seconds=seconds)
            again = job_merge.observe(self.record, self.heard, self.now)
            held_by_us = {self.record.state, again.state} in (
                {JobState.QUEUED, JobState.QUEUED_HELD},
                {JobState.REQUEUED, JobState.REQUEUED_HELD},
            )
            reopened = self.record.state.is_queued and not self.heard.state.is_queued
            assert held_by_us or reopened or again == self.record

    @rule(
        hours=st.sampled_from([-30, -1, 1, 30]),
        owner=st.sampled_from(["ana", "rui"]),
        state=st.sampled_from(list(JobState)),
    )
    def hear_of_another_job(self, hours: int, owner: str, state: JobState) -> None:
        """Its number was given to another job, before or after."""
        known = self.record.seen
        if known is None or known.submit_time is None:
            return
        if hours > 0 and state in (JobState.REQUEUED, JobState.REQUEUED_HELD):
            return  # of a job that is put back this is what is heard
        moment = known.submit_time + timedelta(hours=hours)
        other = Observation(native_id=ID, state=state, owner=owner, submit_time=moment)
        assert not identity.same_job(self.record, other)

    # What we do

    @rule()
    def cancel(self) -> None:
        self.become(job_changes.cancel_requested(self.record, self.now))

    @precondition(lambda self: self.waits)
    @rule()
    def delete_from_queue(self) -> None:
        self.now += timedelta(seconds=3)
        self.waits = False
        run = Run(self.submitted, None, self.clock)
        self.past.append(run)
        if not self.record.state.is_final:
            self.become(job_merge.removed_while_queued(self.record, self.now))
            assert self.record.state is JobState.FAILED

    @precondition(lambda self: self.waits)
    @rule(hold=st.booleans())
    def hold_or_release(self, hold: bool) -> None:
        self.hold = hold
        action = Action.HOLD if hold else Action.RELEASE
        self.become(job_changes.acted_on(self.record, action, self.now))

    # What always holds

    @invariant()
    def its_history_is_legal(self) -> None:
        for old, new in zip(self.history[:-1], self.history[1:], strict=True):
            assert may_move(old.state, new.state), (old.state, new.state)
            assert (new.uid, new.native_id or ID) == (UID, ID)
        del self.history[:-1]

    @invariant()
    def nothing_lasts_less_than_no_time(self) -> None:
        seen = self.record.seen
        if seen is None:
            return
        if seen.start_time is not None:
            assert self.record.submit_time <= seen.start_time
            assert seen.end_time is None or seen.start_time <= seen.end_time
        assert seen.end_time is None or self.record.submit_time <= seen.end_time

    @invariant()
    def it_has_an_end_when_it_is_over_and_a_run_when_it_runs(self) -> None:
        seen, state = self.record.seen, self.record.state
        if seen is None:
            return
        if not state.is_final:
            assert (seen.end_time, seen.exit_code, seen.exit_signal) == (None, None, None)
        if state.is_queued:
            assert (seen.start_time, seen.hosts, seen.usage) == (None, None, None)

    @invariant()
    def it_is_not_over_unless_it_was_said_to_be(self) -> None:
        if self.record.state.is_final:
            assert self.past

    def teardown(self) -> None:
        """Once all is heard, in the end, the record is true, whatever was heard before."""
        if not hasattr(self, "past"):
            return
        if self.in_queue:
            for _ in range(2):  # one that was put back is reopened first
                self.look()
            sight = self.sight()
            waits_again = {
                JobState.QUEUED: JobState.REQUEUED,
                JobState.QUEUED_HELD: JobState.REQUEUED_HELD,
            }
            assert self.record.state in (sight.state, waits_again.get(sight.state))
            if self.waits:
                self.hold = False
                self.start()
                self.look()
            self.end(2)
        ended = self.record.seen if self.record.state.is_final else None
        self.miss()
        answers = [self.account(run) for run in self.past]
        for _ in range(2):
            newest = runs.newest(self.record, answers)
            if newest is not None:
                self.hear(newest)
        self.its_history_is_legal()
        assert self.record.state.is_final
        assert self.record.seen is not None
        last = self.past[-1]
        if last.started is not None or self.manner.submitted_anew or not self.past[:-1]:
            assert self.record.seen.exit_code == last.code
        else:
            # Nothing tells a wait that led to no run from the run before it, nor that a job which
            # is known to be over was put back, when nobody saw that.
            known = {last.code, self.past[-2].code} | ({ended.exit_code} if ended else set())
            assert self.record.seen.exit_code in known


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=4 * settings().max_examples, stateful_step_count=30, deadline=None
)
