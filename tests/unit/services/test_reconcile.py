"""The comparison of a listing with what is known, against a model that is plain to see."""

from dataclasses import dataclass
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.services.kit import CLUSTER, T0, WIRE

from hpcq.domain import job_merge, submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation
from hpcq.domain.states import JobState
from hpcq.schedulers.base import Listing, ParseFailure
from hpcq.services.listing.job_table import JobIndex, JobTable
from hpcq.services.monitoring.reconcile import Comparison, compare

SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")
DAY = timedelta(days=1)
LIVE = [JobState.QUEUED, JobState.QUEUED_HELD, JobState.RUNNING, JobState.SUSPENDED]


@dataclass(frozen=True)
class Case:
    """One number: what is known under it, and what a listing says of it."""

    number: int
    submitted_here: bool
    answered: bool
    known: JobState | None
    ended_days_ago: int
    listed: JobState | None
    unreadable: bool
    locally_changed: bool
    repeated: bool

    @property
    def native_id(self) -> NativeId:
        return NativeId(str(self.number))

    @property
    def observation(self) -> Observation | None:
        return None if self.listed is None else observation(self.native_id, self.listed)

    def record(self) -> JobRecord | None:
        if self.known is None:
            return None
        if not self.submitted_here:
            return job_merge.foreign_record(CLUSTER, observation(self.native_id, self.known), T0)
        intent = submission.intent(
            JobUid(f"00000000-0000-4000-8000-{self.number:012}"),
            SPEC,
            T0,
            by="test",
            is_promised=False,
        )
        if not self.answered:
            return intent
        record = submission.submitted(intent, self.native_id, T0)
        at = T0 - timedelta(days=self.ended_days_ago)
        return job_merge.observe(record, observation(self.native_id, self.known), at)


def observation(native_id: NativeId, state: JobState) -> Observation:
    return Observation(native_id=native_id, state=state, owner="ana", submit_time=T0)


CASES = st.builds(
    Case,
    number=st.integers(1, 10**6),
    submitted_here=st.booleans(),
    answered=st.booleans(),
    known=st.none() | st.sampled_from([*LIVE, JobState.DONE, JobState.FAILED]),
    ended_days_ago=st.sampled_from([0, 2]),
    listed=st.none() | st.sampled_from([*LIVE, JobState.DONE]),
    unreadable=st.booleans(),
    locally_changed=st.booleans(),
    repeated=st.booleans(),
)
QUEUES = st.lists(CASES, unique_by=lambda case: case.number, max_size=12)


def compared(cases: list[Case]) -> tuple[JobIndex, Comparison]:
    table = JobTable(WIRE)
    records = {case: case.record() for case in cases}
    table.apply([record for record in records.values() if record is not None])
    listing = Listing(
        observations=[case.observation for case in cases if case.observation],
        unreadable=[
            ParseFailure(reason="cut", excerpt="", native_id=case.native_id)
            for case in cases
            if case.unreadable
        ],
    )
    last = {
        case.native_id: case.observation for case in cases if case.repeated and case.observation
    }
    locally_changed = {
        r.uid for case, r in records.items() if r is not None and case.locally_changed
    }
    result = compare(table, listing, last, locally_changed, CLUSTER, T0, DAY)
    return table, result


def expected(case: Case) -> str:
    """Return what has to come of one number, in the words of `Comparison`."""
    record = case.record()
    if record is None or record.native_id is None:
        fate = "nothing" if case.listed is None else "changed"
        # An intent without an id is not known by a number; it waits for its own answer.
        waits = record is not None and not case.locally_changed
        return f"{fate}, unclear" if waits else fate
    if case.locally_changed:
        return "nothing"
    if case.listed is not None:
        if record.state.is_final:
            return "nothing" if case.listed is record.state else "contradiction"
        return "nothing" if case.listed is record.state else "changed"
    if case.unreadable:
        return "nothing"
    if not case.submitted_here:
        return "gone"
    if record.state.is_final:
        return "gone" if case.ended_days_ago else "nothing"
    return "vanished"


def found(case: Case, index: JobIndex, result: Comparison) -> str:
    record = case.record()
    uid = None if record is None else record.uid
    words = []
    if any(r.native_id == case.native_id for r in result.changed):
        words.append("changed")
    if uid in {r.uid for r in result.vanished}:
        words.append("vanished")
    if uid in {r.uid for r in result.unclear}:
        words.append("unclear")
    if uid in result.gone:
        words.append("gone")
    if uid in {r.uid for r, _ in result.contradictions}:
        words.append("contradiction")
    if words == ["unclear"]:
        return "nothing, unclear"
    return ", ".join(words) or "nothing"


@given(QUEUES)
def test_reconcile_matches_model(cases: list[Case]) -> None:
    index, result = compared(cases)
    fates = {case: found(case, index, result) for case in cases}
    assert fates == {case: expected(case) for case in cases}


@given(QUEUES)
def test_reconcile_changed_job(cases: list[Case]) -> None:
    _, result = compared(cases)
    by_id = {case.native_id: case for case in cases}
    for record in result.changed:
        assert record.native_id is not None
        case = by_id[record.native_id]
        assert case.listed is not None
        ran = case.known in (JobState.RUNNING, JobState.SUSPENDED)
        is_known = not case.submitted_here or case.answered
        waits = {JobState.QUEUED: JobState.REQUEUED, JobState.QUEUED_HELD: JobState.REQUEUED_HELD}
        again = waits.get(case.listed) if ran and is_known else None
        assert record.state is (again or case.listed)


@given(QUEUES)
def test_reconcile_twice(cases: list[Case]) -> None:
    table = JobTable(WIRE)
    table.apply([r for r in (case.record() for case in cases) if r is not None])
    listing = Listing(observations=[c.observation for c in cases if c.observation])
    first = compare(table, listing, {}, set(), CLUSTER, T0, DAY)
    table.apply(first.changed, first.gone, T0)
    second = compare(table, listing, first.last, set(), CLUSTER, T0, DAY)
    assert (second.changed, second.gone) == ([], [])
    assert second.contradictions == first.contradictions


@given(QUEUES)
def test_reconcile_empty_listing(cases: list[Case]) -> None:
    table = JobTable(WIRE)
    table.apply([r for r in (case.record() for case in cases) if r is not None])
    result = compare(table, Listing(), {}, set(), CLUSTER, T0, DAY)
    alive = {r.uid for r in table.records() if r.submitted_here and not r.state.is_final}
    assert result.changed == []
    assert not alive & set(result.gone)
    assert alive == {r.uid for r in [*result.vanished, *result.unclear]}


def test_reconcile_key_with_reused_id() -> None:
    table = JobTable(WIRE)
    old = job_merge.foreign_record(CLUSTER, observation(NativeId("5"), JobState.RUNNING), T0)
    unclear = submission.intent(JobUid.new(), SPEC, T0, by="test", is_promised=False)
    table.apply([old, unclear])
    seen = Observation(
        native_id=NativeId("5"), state=JobState.QUEUED, submission_key=unclear.key, submit_time=T0
    )
    result = compare(table, Listing(observations=[seen]), {}, set(), CLUSTER, T0, DAY)
    assert [(r.uid, r.native_id) for r in result.changed] == [(unclear.uid, "5")]
    assert result.unclear == []
    assert result.gone == [old.uid]


def test_reconcile_job_listed_twice() -> None:
    table = JobTable(WIRE)
    seen = observation(NativeId("5"), JobState.RUNNING)
    listing = Listing(observations=[seen, seen])
    result = compare(table, listing, {}, set(), CLUSTER, T0, DAY)
    table.apply(result.changed, result.gone, T0)
    assert [r.native_id for r in table.records()] == ["5"]
