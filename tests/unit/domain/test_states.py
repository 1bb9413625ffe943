import pytest

from hpcq.domain.states import JobState, JobStatus, Stage, status_of

# The table of the HTTP contract, in its order.
CONTRACT = [
    # waits to be started, held or not
    (JobState.QUEUED, None, False, JobStatus.START_REQUESTED),
    (JobState.QUEUED_HELD, None, False, JobStatus.START_REQUESTED),
    (JobState.REQUEUED, None, False, JobStatus.START_REQUESTED),
    (JobState.REQUEUED_HELD, None, False, JobStatus.START_REQUESTED),
    # being dispatched: SGE t (a queued or a running job, as its parser has it), Slurm CONFIGURING
    (JobState.QUEUED, Stage.DISPATCHING, False, JobStatus.STARTING),
    (JobState.RUNNING, Stage.DISPATCHING, False, JobStatus.STARTING),
    # runs, or was stopped for a while
    (JobState.RUNNING, None, False, JobStatus.RUNNING),
    (JobState.SUSPENDED, None, False, JobStatus.DISABLED),
    # its end was asked for, by us or by somebody else
    (JobState.QUEUED, None, True, JobStatus.STOP_REQUESTED),
    (JobState.QUEUED_HELD, None, True, JobStatus.STOP_REQUESTED),
    (JobState.REQUEUED, None, True, JobStatus.STOP_REQUESTED),
    (JobState.REQUEUED_HELD, None, True, JobStatus.STOP_REQUESTED),
    (JobState.QUEUED, Stage.CANCELLING, False, JobStatus.STOP_REQUESTED),
    (JobState.QUEUED, Stage.DISPATCHING, True, JobStatus.STOP_REQUESTED),
    (JobState.RUNNING, None, True, JobStatus.STOPPING),
    (JobState.SUSPENDED, None, True, JobStatus.STOPPING),
    (JobState.RUNNING, Stage.CANCELLING, False, JobStatus.STOPPING),
    (JobState.SUSPENDED, Stage.CANCELLING, False, JobStatus.STOPPING),
    (JobState.RUNNING, Stage.DISPATCHING, True, JobStatus.STOPPING),
    # ran, is being cleaned up: PBS E, Slurm COMPLETING
    (JobState.RUNNING, Stage.EXITING, False, JobStatus.STOPPING),
    # over
    (JobState.DONE, None, False, JobStatus.STOPPED),
    (JobState.FAILED, None, False, JobStatus.STOPPED),
    (JobState.DONE, None, True, JobStatus.STOPPED),
    (JobState.FAILED, None, True, JobStatus.STOPPED),
    # nobody can say, and asking for its end does not change that
    (JobState.UNDETERMINED, None, False, JobStatus.UNKNOWN),
    (JobState.UNDETERMINED, None, True, JobStatus.UNKNOWN),
]


@pytest.mark.parametrize(("state", "stage", "cancel_requested", "status"), CONTRACT)
def test_status_of_each_state(
    state: JobState, stage: Stage | None, cancel_requested: bool, status: JobStatus
) -> None:
    assert status_of(state, stage, cancel_requested=cancel_requested) is status


def test_state_table_complete() -> None:
    assert {state for state, *_ in CONTRACT} == set(JobState)


def test_final_and_queued_states_drmaa2() -> None:
    assert {s for s in JobState if s.is_final} == {JobState.DONE, JobState.FAILED}
    assert {s for s in JobState if s.is_queued} == {
        JobState.QUEUED,
        JobState.QUEUED_HELD,
        JobState.REQUEUED,
        JobState.REQUEUED_HELD,
    }
