"""The index of the tasks of arrays: counts that follow each change."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.services.kit import T0

from hpcq.domain import submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid
from hpcq.domain.states import JobState
from hpcq.services.listing.array_index import ArrayIndex

ARRAY = JobUid.new()
SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")


def task(number: int, state: JobState) -> JobRecord:
    record = submission.intent(ARRAY.of_task(number), SPEC, T0, by="test", is_promised=False)
    return record.changed(parent_uid=ARRAY, state=state)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.none() | st.sampled_from(JobState))),
    st.dictionaries(st.integers(2, 6), st.sampled_from(JobState)),
)
def test_counts_after_each_change(
    changes: list[tuple[int, JobState | None]], retired: dict[int, JobState]
) -> None:
    index, now = ArrayIndex(), dict[int, JobState]()
    for half, change in enumerate(changes):
        if half == len(changes) // 2:
            index.remember(ARRAY, {ARRAY.of_task(number): one for number, one in retired.items()})
            now = {**retired, **now}
        number, state = change
        before = task(number, now[number]) if number in now else None
        # An array that is not in the table forgets tasks that leave it.
        if state is None:
            index.note(before, None, ())
            now.pop(number, None)
        else:
            index.note(before, task(number, state), ())
            now[number] = state
        assert index.counts(ARRAY) == Counter(now.values())
    assert set(index.tasks_of(ARRAY)) == {ARRAY.of_task(number) for number in now}
