from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain import job_merge, submission
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation, Usage
from hpcq.domain.sampling import SAMPLES_AT_MOST, resolution, sample, thinned
from hpcq.domain.states import JobState

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")


@pytest.mark.parametrize(
    ("elapsed", "expected"),
    [(0, 1), (1, 1), (512, 1), (512.5, 2), (1024, 2), (1025, 4), (7 * 86400, 2048)],
)
def test_sample_interval_grows_with_run(elapsed: float, expected: int) -> None:
    assert resolution(elapsed) == expected


def running(second: float, *, start: bool = True, **usage: float) -> JobRecord:
    at = T0 + timedelta(seconds=second)
    record = submission.intent(JobUid.new(), SPEC, T0, by="me", is_promised=False)
    record = submission.submitted(record, NativeId("5"), T0)
    seen = Observation(
        native_id=NativeId("5"),
        state=JobState.RUNNING,
        start_time=T0 if start else None,
        usage=Usage(cpu_seconds=second, sampled_at=at),
    )
    return job_merge.observe(record, seen, at)


@pytest.mark.parametrize(
    ("elapsed", "second"), [(0, 0), (7.9, 7), (512, 512), (513.9, 512), (4097, 4096), (-30, 0)]
)
def test_sample_at_start_of_interval(elapsed: float, second: int) -> None:
    taken = sample(None, running(elapsed), T0)
    assert taken is not None
    assert taken.second == second
    assert taken.second % taken.resolution == 0


def test_sample_times_missing() -> None:
    record = running(9, start=False)
    assert record.seen is not None
    record = record.changed(seen=replace(record.seen, usage=Usage(cpu_seconds=1.0)))
    taken = sample(None, record, T0 + timedelta(seconds=20))
    assert taken is not None
    assert taken.second == 20
    assert taken.usage == Usage(cpu_seconds=1.0, sampled_at=T0 + timedelta(seconds=20))


def test_sample_new_figures_of_own_running_jobs() -> None:
    record = running(9)
    assert record.seen is not None
    later = record.changed(seen=replace(record.seen, queue="long"))
    assert sample(record, later, T0) is None, "nothing new"
    assert sample(running(8), record, T0) is not None
    assert sample(None, record.changed(spec=None), T0) is None
    assert sample(None, record.changed(state=JobState.DONE), T0) is None
    assert sample(None, record.changed(seen=replace(record.seen, usage=None)), T0) is None


@given(st.lists(st.integers(1, 3000), max_size=400), st.integers(1, 10))
def test_samples_few_and_even(steps: list[int], scale: int) -> None:
    kept: list[int] = []
    before = 1
    elapsed = 0
    for step in steps:
        elapsed += step * scale
        length = resolution(elapsed)
        if length != before:
            kept, before = thinned(kept, length), length
        second = elapsed // length * length
        if not kept or second > kept[-1]:
            kept.append(second)
        assert len(kept) <= SAMPLES_AT_MOST
        stretches = [second // length for second in kept]
        assert all(one < next_one for one, next_one in pairwise(stretches))


def test_samples_bounded_in_week() -> None:
    kept: list[int] = []
    before = 1
    most = 0
    for elapsed in range(7 * 86400):
        length = resolution(elapsed)
        if length != before:
            kept, before = thinned(kept, length), length
        second = elapsed // length * length
        if not kept or second > kept[-1]:
            kept.append(second)
            most = max(most, len(kept))
    assert 256 < most <= SAMPLES_AT_MOST
    assert kept[0] == 0
