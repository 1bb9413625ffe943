"""A table that follows a scheduler through anything keeps one record for each job, and no other.

Jobs of ours and of others come, run, end and are put back; answers to submissions are late, numbers
are used again, the scheduler's clock is minutes away, and some schedulers show neither keys nor,
while a job runs, its submission time.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.services.kit import CLUSTER, T0, WIRE

from hpcq.domain import job_changes, job_merge, runs, submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation
from hpcq.domain.states import WAITS_AGAIN, JobState, may_move
from hpcq.schedulers.base import Listing, ParseFailure
from hpcq.schedulers.testing import FakeScheduler
from hpcq.services.listing.job_table import JobTable
from hpcq.services.monitoring.reconcile import Comparison, compare

SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")
DAY = timedelta(days=1)


@dataclass
class Job:
    """One job as it is: whose, under which number, and how it ended."""

    name: str
    number: NativeId
    uid: JobUid | None
    is_known: bool = False
    ended: Observation | None = None
    deleted: bool = False


class Following(RuleBasedStateMachine):
    """A scheduler, what is true of its jobs, and the table that follows it."""

    @initialize(ahead=st.integers(-300, 300), shows_keys=st.booleans())
    def begin(self, ahead: int, shows_keys: bool) -> None:
        self.now = T0
        self.ahead = timedelta(seconds=ahead)
        self.scheduler = FakeScheduler(clock=lambda: self.now + self.ahead)
        self.scheduler.shows_keys = shows_keys
        self.table = JobTable(WIRE)
        self.last: dict[NativeId, Observation] = {}
        self.jobs: list[Job] = []
        self.count = 0

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @property
    def live(self) -> list[Job]:
        return [job for job in self.jobs if job.ended is None and not job.deleted]

    def pick(self, data: st.DataObject, jobs: list[Job]) -> Job:
        return data.draw(st.sampled_from(jobs), label="job")

    def put(self, *records: JobRecord) -> None:
        for new in records:
            entry = self.table.entries.get(new.uid)
            if entry is not None:
                old = entry.record
                assert may_move(old.state, new.state), (old.state, new.state)
        self.table.apply(records)

    # What happens at the scheduler

    @rule(is_ours=st.booleans(), hold=st.booleans(), owner=st.sampled_from(["ana", "rui"]))
    def submit(self, is_ours: bool, hold: bool, owner: str) -> None:
        """A job comes; one of ours is on the table before, its number only later."""
        self.pass_time(3)
        self.count += 1
        name = f"job{self.count}"
        state = JobState.QUEUED_HELD if hold else JobState.QUEUED
        if not is_ours:
            number = self.scheduler.enqueue(name=name, owner=owner, state=state)
            self.jobs.append(Job(name, number, None))
            return
        uid = JobUid(f"00000000-0000-4000-8000-{self.count:012}")
        intent = submission.intent(
            uid, replace(SPEC, name=name, hold=hold), self.now, by="test", is_promised=False
        )
        number = self.scheduler.enqueue(name=name, state=state, submission_key=intent.key)
        self.jobs.append(Job(name, number, uid))
        self.put(intent)

    @precondition(lambda self: any(job.uid and not job.is_known for job in self.jobs))
    @rule(data=st.data())
    def hear_the_number(self, data: st.DataObject) -> None:
        """The answer to a submission comes, or the job is found by its key."""
        waiting = [job for job in self.jobs if job.uid and not job.is_known]
        job = self.pick(data, waiting)
        assert job.uid is not None
        job.is_known = True
        record = self.table.entries[job.uid].record
        if record.native_id is None:
            self.put(submission.submitted(record, job.number, self.now))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        job = self.pick(data, self.live)
        if self.scheduler.queue[job.number].state.is_queued:
            self.pass_time(3)
            self.scheduler.run(job.number)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        """As Grid Engine does: it is said to be requeued, and counts as submitted anew."""
        job = self.pick(data, self.live)
        if self.scheduler.queue[job.number].state is JobState.RUNNING:
            self.pass_time(3)
            self.scheduler.change(
                job.number,
                state=JobState.REQUEUED,
                start_time=None,
                submit_time=self.now + self.ahead,
            )

    @precondition(lambda self: self.live)
    @rule(data=st.data(), code=st.integers(0, 2))
    def end(self, data: st.DataObject, code: int) -> None:
        job = self.pick(data, self.live)
        if self.scheduler.queue[job.number].state is not JobState.RUNNING:
            return
        self.pass_time(3)
        state = JobState.FAILED if code else JobState.DONE
        self.scheduler.end(job.number, state=state, exit_code=code)
        job.ended = self.scheduler.accounting[job.number][-1]

    @rule(data=st.data())
    def use_numbers_again(self, data: st.DataObject) -> None:
        """The counter was set back, to a number that is free and whose job was known well."""
        free = [
            number
            for number in range(1, self.count + 1)
            if all(
                job.number not in self.scheduler.queue and self.was_known_well(job)
                for job in self.jobs
                if int(job.number) >= number
            )
        ]
        if free:
            self.pass_time(1200)
            self.scheduler.next_number = data.draw(st.sampled_from(free), label="number")

    def was_known_well(self, job: Job) -> bool:
        if job.uid is None:
            return True
        entry = self.table.entries.get(job.uid)
        seen = None if entry is None else entry.record.seen
        return job.is_known and seen is not None and seen.submit_time is not None

    @precondition(lambda self: any(job.uid and job.is_known for job in self.live))
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """A user has us delete a job of ours that waits."""
        job = self.pick(data, [job for job in self.live if job.uid and job.is_known])
        if self.scheduler.queue[job.number].state.is_queued:
            assert job.uid is not None
            self.scheduler.lose(job.number)
            job.deleted = True
            record = self.table.entries[job.uid].record
            self.put(job_merge.removed_while_queued(record, self.now))

    # What the service does

    @rule(
        spoilt=st.booleans(),
        accounting_answers=st.booleans(),
        seconds=st.sampled_from([1, 5, 600]),
    )
    def look(self, spoilt: bool, accounting_answers: bool, seconds: int) -> None:
        """Compare a listing, one record of which may not be readable, and ask the accounting."""
        self.pass_time(seconds)
        listing = self.listing()
        if spoilt and listing.observations:
            first, *rest = listing.observations
            bad = ParseFailure(reason="cut", excerpt="", native_id=first.native_id)
            listing = Listing(observations=rest, unreadable=[bad])
        comparison = self.compare(listing)
        if spoilt:
            return
        self.resolve(comparison, answers=accounting_answers)
        self.each_job_of_the_queue_has_one_true_record()
        again = self.compare(listing)
        assert (again.changed, again.gone) == ([], [])

    def listing(self) -> Listing:
        jobs = list(self.scheduler.queue.values())
        if not self.scheduler.shows_keys:
            jobs = [
                replace(
                    job,
                    submission_key=None,
                    submit_time=job.submit_time if job.state.is_queued else None,
                )
                for job in jobs
            ]
        return Listing(observations=jobs)

    def compare(self, listing: Listing) -> Comparison:
        comparison = compare(self.table.copy(), listing, self.last, set(), CLUSTER, self.now, DAY)
        ours = [r for r in comparison.changed if r.submitted_here]
        self.put(*ours)
        self.table.apply(
            [r for r in comparison.changed if not r.submitted_here], comparison.gone, self.now
        )
        self.last = comparison.last
        assert comparison.contradictions == []
        return comparison

    def resolve(self, comparison: Comparison, *, answers: bool) -> None:
        for record in comparison.vanished:
            assert record.native_id is not None
            told = self.scheduler.accounting[record.native_id] if answers else []
            newest = runs.newest(record, told)
            missed = job_changes.missed(record, self.now)
            if newest is None:
                lost = job_changes.vanished(missed, "It left.", last_seen=self.now, at=self.now)
                self.put(lost)
            else:
                self.put(job_merge.observe(missed, newest, self.now))

    # What has to be true

    def each_job_of_the_queue_has_one_true_record(self) -> None:
        table = self.table
        held = [r for r in table.records() if r.native_id in self.scheduler.queue]
        for job in self.live:
            seen = self.scheduler.queue[job.number]
            entry = table.entry(job.number)
            assert entry is not None
            record = entry.record
            assert record.seen is not None
            assert record.seen.name == job.name
            if job.uid is not None and (job.is_known or self.scheduler.shows_keys):
                assert record.uid == job.uid
            else:
                assert not record.submitted_here
            assert record.state in (seen.state, WAITS_AGAIN.get(seen.state))
            mine = [r for r in held if r.seen is not None and r.seen.name == job.name]
            assert mine == [record]

    @invariant()
    def no_job_of_ours_is_lost_or_ends_as_another_did(self) -> None:
        table = self.table
        for job in self.jobs:
            if job.uid is None:
                continue
            record = table.entries[job.uid].record
            assert record.native_id in (None, job.number)
            if job.ended is None and not job.deleted:
                assert not record.state.is_final
            elif record.state.is_final and job.ended is not None:
                assert record.seen is not None
                assert record.state is job.ended.state
                assert record.seen.exit_code == job.ended.exit_code
                assert record.seen.name == job.name

    def teardown(self) -> None:
        """Once all answer, every job of ours that is over has its own end."""
        if not hasattr(self, "jobs"):
            return
        for job in self.jobs:
            if job.uid is not None and not job.is_known:
                record = self.table.entries[job.uid].record
                if record.native_id is None:
                    self.put(submission.submitted(record, job.number, self.now))
                job.is_known = True
        for _ in range(2):
            self.resolve(self.compare(self.listing()), answers=True)
        self.each_job_of_the_queue_has_one_true_record()
        for job in self.jobs:
            if job.uid is not None and (job.ended is not None or job.deleted):
                assert self.table.entries[job.uid].record.state.is_final
        self.no_job_of_ours_is_lost_or_ends_as_another_did()


TestFollowing = Following.TestCase
TestFollowing.settings = settings(
    max_examples=3 * settings().max_examples, stateful_step_count=40, deadline=None
)
