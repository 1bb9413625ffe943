from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hpcq.domain import identity, job_changes, job_merge, submission
from hpcq.domain.actions import Action
from hpcq.domain.contradictions import find_contradiction
from hpcq.domain.identity import is_task_of, same_job
from hpcq.domain.jobs import (
    ArrayRange,
    JobRecord,
    JobSpec,
    JobUid,
    NativeId,
    Observation,
    Usage,
)
from hpcq.domain.runs import newest
from hpcq.domain.states import FailureKind, JobState, JobStatus, Stage

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
ID = NativeId("155")
UID = JobUid("3d6f7a52-0c0b-4b7e-9b57-6d1f3b9a7c11")
SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def intended(**fields: object) -> JobRecord:
    return submission.intent(UID, replace(SPEC, **fields), T0, by="test", is_promised=False)  # type: ignore[arg-type]


def taken() -> JobRecord:
    return submission.submitted(intended(), ID, after(1))


def seen(state: JobState = JobState.QUEUED, **fields: object) -> Observation:
    return Observation(native_id=ID, state=state, **fields)  # type: ignore[arg-type]


def running() -> JobRecord:
    return job_merge.observe(
        taken(), seen(JobState.RUNNING, start_time=after(4), hosts=("n1",)), after(5)
    )


def test_array_some_tasks_over() -> None:
    array = submission.submitted(intended(array=ArrayRange(first=1, last=2)), ID, after(1))
    assert job_merge.observe(array, seen(), after(2)).state is JobState.QUEUED
    begun = job_merge.observe(array, seen(JobState.RUNNING, start_time=after(4)), after(5))
    between = job_merge.observe(begun, seen(), after(6))
    assert (between.state, between.seen and between.seen.start_time) == (JobState.RUNNING, after(4))


def test_key_copied_by_other_account() -> None:
    ours = submission.submitted(intended(run_as="ana"), ID, after(1))
    for owner, is_ours in (("ana", True), (None, True), ("eve", False)):
        one = seen(owner=owner, submission_key=ours.key)
        assert same_job(ours, one) is is_ours
    task = seen(owner="eve", submission_key=ours.key, array_task_id=1, array_job_id=ID)
    assert not is_task_of(ours, task)


def test_key_absent_not_own_job() -> None:
    assert same_job(taken(), seen(JobState.DONE))
    assert not same_job(taken(), seen(JobState.DONE, is_keyless=True))
    foreign = job_merge.foreign_record("1", seen(), T0)
    assert same_job(foreign, seen(JobState.DONE, is_keyless=True))


# From the intent to the scheduler


def test_intent_without_id() -> None:
    record = intended()
    assert (record.state, record.native_id, record.seen) == (JobState.QUEUED, None, None)
    assert record.submitted_here
    assert record.status is JobStatus.START_REQUESTED


def test_intent_of_held_job() -> None:
    assert intended(hold=True).state is JobState.QUEUED_HELD


def test_submitted_id_and_no_reason() -> None:
    record = taken()
    assert (record.native_id, record.state_reason) == (ID, None)
    assert record.confirmed_at == after(1)


def test_submission_refused_reason() -> None:
    record = submission.failed(intended(), "unknown queue", after(1))
    assert (record.state, record.state_reason) == (JobState.FAILED, "unknown queue")
    assert record.confirmed_at == record.state_changed_at == after(1)


def test_submission_unclear_undetermined() -> None:
    unclear = submission.mark_unclear(intended(), "no answer", after(1), is_promised=False)
    assert (unclear.state, unclear.state_reason) == (JobState.UNDETERMINED, "no answer")
    found = submission.submitted(unclear, ID, after(2))
    assert (found.state, found.native_id) == (JobState.UNDETERMINED, ID)
    assert found.state_reason


def test_submission_given_up_job_appears() -> None:
    lost = submission.failed(intended(), "nobody has it", after(200))
    record = job_changes.reappeared(lost, seen(JobState.RUNNING), after(300))
    assert (record.uid, record.native_id, record.state) == (UID, ID, JobState.UNDETERMINED)
    assert record.state_changed_at == after(300)
    now = job_merge.observe(record, seen(JobState.RUNNING), after(305))
    assert now.state is JobState.RUNNING


# What the scheduler says


def test_foreign_job_created_at_first_sight() -> None:
    record = job_merge.foreign_record("1", seen(submit_time=after(-60), owner="ana"), T0)
    assert not record.submitted_here
    assert record.created_at == after(-60)
    assert record.uid == JobUid.of_foreign("1", ID, after(-60), "ana")


@pytest.mark.parametrize(
    ("state", "times", "changed"),
    [
        (JobState.QUEUED, {}, T0),
        (JobState.QUEUED, {"submit_time": after(-60)}, after(-60)),
        (JobState.RUNNING, {"submit_time": after(-60), "start_time": after(-50)}, after(-50)),
        (
            JobState.DONE,
            {"submit_time": after(-60), "start_time": after(-50), "end_time": after(-40)},
            after(-40),
        ),
    ],
)
def test_foreign_job_changed_at_newest_time(
    state: JobState, times: dict[str, Any], changed: datetime
) -> None:
    assert job_merge.foreign_record("1", seen(state, **times), T0).state_changed_at == changed


def test_state_change_time() -> None:
    record = running()
    assert (record.state, record.state_changed_at) == (JobState.RUNNING, after(5))
    same = job_merge.observe(record, seen(JobState.RUNNING, queue="all.q"), after(9))
    assert same.state_changed_at == after(5)


def test_stage_change() -> None:
    record = job_merge.observe(running(), seen(JobState.RUNNING, stage=Stage.EXITING), after(9))
    assert (record.stage, record.state_changed_at) == (Stage.EXITING, after(9))
    assert record.status is JobStatus.STOPPING


def test_end_time() -> None:
    ended = seen(JobState.DONE, exit_code=0, end_time=after(7))
    record = job_merge.observe(running(), ended, after(20))
    assert (record.state_changed_at, record.confirmed_at) == (after(7), after(20))


def test_observation_missing_fields_kept() -> None:
    usage = Usage(cpu_seconds=3.0)
    record = job_merge.observe(
        running(), seen(JobState.RUNNING, usage=usage, owner="ana"), after(6)
    )
    record = job_merge.observe(record, seen(JobState.SUSPENDED), after(7))
    assert record.seen is not None
    assert (record.seen.start_time, record.seen.hosts) == (after(4), ("n1",))
    assert (record.seen.usage, record.seen.owner) == (usage, "ana")


def test_usage_of_run_never_falls() -> None:
    sampled = Usage(cpu_seconds=9.0, memory_bytes=5.0, max_memory_bytes=7.0, sampled_at=after(6))
    record = job_merge.observe(running(), seen(JobState.RUNNING, usage=sampled), after(6))
    late = Usage(cpu_seconds=2.0, io_bytes=3.0)
    record = job_merge.observe(
        record, seen(JobState.FAILED, end_time=after(9), usage=late), after(9)
    )
    assert record.seen is not None
    assert record.seen.usage == Usage(
        cpu_seconds=9.0, max_memory_bytes=7.0, io_bytes=3.0, sampled_at=after(6)
    )
    assert job_merge.lacks_usage(record)
    final = Usage(cpu_seconds=11.0, io_bytes=1.0, sampled_at=after(9))
    record = job_merge.completed(record, seen(JobState.FAILED, usage=final))
    assert record.seen is not None
    assert record.seen.usage == Usage(
        cpu_seconds=11.0, max_memory_bytes=7.0, io_bytes=3.0, sampled_at=after(9)
    )


def test_usage_of_next_run_begins_anew() -> None:
    record = job_merge.observe(
        running(), seen(JobState.RUNNING, usage=Usage(cpu_seconds=9.0)), after(6)
    )
    again = seen(JobState.RUNNING, start_time=after(40), usage=Usage(cpu_seconds=1.0))
    record = job_merge.observe(record, again, after(41))
    assert record.seen is not None
    assert record.seen.usage == Usage(cpu_seconds=1.0)


def test_observation_reason_and_native_state_replaced() -> None:
    waits = seen(native_state="qw", state_reason="no slots")
    record = job_merge.observe(taken(), waits, after(2))
    record = job_merge.observe(record, seen(JobState.RUNNING), after(3))
    assert record.seen is not None
    assert (record.state_reason, record.seen.native_state) == (None, None)


def test_requeued_job_no_start_time() -> None:
    record = job_merge.observe(running(), seen(JobState.REQUEUED, owner="ana"), after(9))
    assert record.seen is not None
    assert (record.seen.start_time, record.seen.hosts, record.seen.usage) == (None, None, None)
    again = job_merge.observe(record, seen(JobState.RUNNING, start_time=after(12)), after(13))
    assert again.seen is not None
    assert (again.seen.start_time, again.seen.owner) == (after(12), "ana")


@pytest.mark.parametrize("end", [JobState.DONE, JobState.FAILED])
def test_final_state_kept(end: JobState) -> None:
    ended = job_merge.observe(running(), seen(end, end_time=after(7)), after(8))
    for state in JobState:
        assert job_merge.observe(ended, seen(state), after(9)) is ended
    assert job_changes.vanished(ended, "gone", last_seen=after(8), at=after(9)) is ended
    assert job_merge.removed_while_queued(ended, after(9)) is ended
    assert job_changes.acted_on(ended, Action.HOLD, after(9)) is ended
    assert job_changes.acted_on(ended, Action.RELEASE, after(9)) is ended


# Leaving the queue


def test_missed_job_confirmed_at() -> None:
    assert job_changes.missed(running(), after(30)).confirmed_at == after(30)
    assert job_changes.missed(running(), None).confirmed_at == after(5)
    assert job_changes.missed(taken(), after(30)).confirmed_at == after(1)


def test_vanished_job_undetermined_until_known() -> None:
    record = job_changes.vanished(
        running(), "not accounted yet.", last_seen=after(30), at=after(35)
    )
    assert (record.state, record.stage) == (JobState.UNDETERMINED, None)
    assert record.confirmed_at == after(30)
    assert record.state_reason == (
        "not accounted yet. All that is known of it is this service's own last sight: RUNNING at"
        " 2026-01-05 12:00:30 UTC."
    )
    assert job_changes.vanished(record, "again", last_seen=after(40), at=after(45)) is record
    ended = job_merge.observe(
        record, seen(JobState.DONE, exit_code=0, end_time=after(33)), after(90)
    )
    assert (ended.state, ended.state_reason) == (JobState.DONE, None)
    assert ended.seen is not None
    assert ended.seen.start_time == after(4)


# Our own doing


def test_cancel_requested_state_kept() -> None:
    record = job_changes.cancel_requested(running(), after(6))
    assert (record.state, record.status) == (JobState.RUNNING, JobStatus.STOPPING)
    assert job_changes.cancel_requested(record, after(9)) is record


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (FailureKind.SIGNAL, FailureKind.CANCELLED),
        (FailureKind.UNKNOWN, FailureKind.CANCELLED),
        (None, FailureKind.CANCELLED),
        (FailureKind.TIME_LIMIT, FailureKind.TIME_LIMIT),
        (FailureKind.OUT_OF_MEMORY, FailureKind.OUT_OF_MEMORY),
        (FailureKind.NON_ZERO_EXIT, FailureKind.NON_ZERO_EXIT),
    ],
)
@pytest.mark.parametrize("answer_comes_first", [True, False])
def test_signal_after_cancel_request(
    said: FailureKind | None, kind: FailureKind, answer_comes_first: bool
) -> None:
    ended = seen(JobState.FAILED, failure_kind=said, exit_signal=9)
    if answer_comes_first:
        record = job_merge.observe(
            job_changes.cancel_requested(running(), after(6)), ended, after(7)
        )
    else:
        record = job_changes.cancel_requested(
            job_merge.observe(running(), ended, after(7)), after(8)
        )
    assert record.seen is not None
    assert record.seen.failure_kind is kind


def test_done_despite_cancel_request() -> None:
    ended = job_merge.observe(running(), seen(JobState.DONE, exit_code=0), after(7))
    record = job_changes.cancel_requested(ended, after(8))
    assert record.state is JobState.DONE
    assert record.seen is not None
    assert record.seen.failure_kind is None


def test_deleted_from_queue_never_started() -> None:
    record = job_merge.removed_while_queued(taken(), after(6))
    assert (record.state, record.status) == (JobState.FAILED, JobStatus.STOPPED)
    assert record.seen is not None
    assert record.seen.failure_kind is FailureKind.CANCELLED
    assert (record.seen.start_time, record.seen.end_time) == (None, after(6))


@pytest.mark.parametrize(
    ("free", "held"),
    [(JobState.QUEUED, JobState.QUEUED_HELD), (JobState.REQUEUED, JobState.REQUEUED_HELD)],
)
def test_hold_and_release_inverse(free: JobState, held: JobState) -> None:
    record = job_merge.observe(taken(), seen(free), after(2))
    kept = job_changes.acted_on(record, Action.HOLD, after(3))
    assert (kept.state, kept.state_changed_at) == (held, after(3))
    assert job_changes.acted_on(kept, Action.HOLD, after(4)) is kept
    assert job_changes.acted_on(kept, Action.RELEASE, after(5)).state is free
    assert job_changes.acted_on(record, Action.RELEASE, after(5)) is record


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUSPENDED, JobState.UNDETERMINED])
def test_hold_or_release_queued_only(state: JobState) -> None:
    record = job_merge.observe(taken(), seen(state), after(2))
    assert job_changes.acted_on(record, Action.HOLD, after(3)) is record
    assert job_changes.acted_on(record, Action.RELEASE, after(3)) is record


# Which job a number means

OURS = taken()
OTHER_KEY = JobUid("11111111-0c0b-4b7e-9b57-6d1f3b9a7c11")


@pytest.mark.parametrize(
    ("said", "same"),
    [
        # a key says it all, whatever the times are
        ({"submission_key": OURS.key, "submit_time": after(9999)}, True),
        (
            {
                "submission_key": submission.intent(
                    OTHER_KEY, SPEC, T0, by="test", is_promised=False
                ).key,
                "submit_time": T0,
            },
            False,
        ),
        # without one: our clock and the scheduler's may be minutes apart (apel 153)
        ({"submit_time": after(300)}, True),
        ({"submit_time": after(-300)}, True),
        ({"submit_time": after(3600)}, False),
        # and without any of it there is only the number
        ({}, True),
    ],
)
def test_id_reused_own_job(said: dict[str, Any], same: bool) -> None:
    assert identity.same_job(OURS, seen(**said)) is same


KNOWN = job_merge.foreign_record("1", seen(submit_time=T0, owner="ana"), T0)


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ({"submit_time": T0, "owner": "ana"}, True),
        ({"submit_time": after(1)}, True),  # rounded otherwise
        ({"submit_time": after(60), "owner": "ana"}, False),  # the same clock: another job
        ({"submit_time": T0, "owner": "rui"}, False),
        ({"owner": "rui"}, False),
        ({"submission_key": OURS.key, "submit_time": T0}, False),
    ],
)
def test_id_reused_known_job(said: dict[str, Any], same: bool) -> None:
    assert identity.same_job(KNOWN, seen(**said)) is same


# Run again


def requeued() -> JobRecord:
    """Ran from second 4 on, and waits again."""
    return job_merge.observe(running(), seen(JobState.QUEUED, hosts=("n1",)), after(20))


def ended(start: float | None, end: float, code: int = 0, **fields: Any) -> Observation:
    return seen(
        JobState.FAILED if code else JobState.DONE,
        start_time=None if start is None else after(start),
        end_time=after(end),
        exit_code=code,
        **fields,
    )


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (JobState.QUEUED, JobState.REQUEUED),
        (JobState.QUEUED_HELD, JobState.REQUEUED_HELD),
        (JobState.REQUEUED, JobState.REQUEUED),
        (JobState.REQUEUED_HELD, JobState.REQUEUED_HELD),
    ],
)
def test_requeue_after_running(said: JobState, state: JobState) -> None:
    usage = Usage(cpu_seconds=1.0)
    again = seen(said, start_time=after(900), hosts=("n1",), usage=usage)
    record = job_merge.observe(running(), again, after(9))
    assert (record.state, record.earlier_start) == (state, after(4))
    assert record.seen is not None
    assert (record.seen.start_time, record.seen.hosts, record.seen.usage) == (None, None, None)


def test_requeue_while_undetermined() -> None:
    lost = job_changes.vanished(running(), "It left the queue.", last_seen=after(6), at=after(7))
    assert job_merge.observe(lost, seen(JobState.QUEUED), after(8)).state is JobState.REQUEUED


def test_requeue_not_after_never_running() -> None:
    lost = job_changes.vanished(taken(), "It left the queue.", last_seen=after(6), at=after(7))
    assert job_merge.observe(lost, seen(JobState.QUEUED), after(8)).state is JobState.QUEUED


def test_requeue_by_new_start_time() -> None:
    used = job_merge.observe(
        running(), seen(JobState.RUNNING, usage=Usage(cpu_seconds=9.0)), after(6)
    )
    record = job_merge.observe(used, seen(JobState.RUNNING, start_time=after(50)), after(55))
    assert (record.state, record.earlier_start) == (JobState.RUNNING, after(4))
    assert record.seen is not None
    assert (record.seen.start_time, record.seen.usage) == (after(50), None)


def test_earlier_run_end_job_waits_again() -> None:
    record = requeued()
    assert job_merge.observe(record, ended(4, 18, code=1), after(30)) is record
    assert find_contradiction(record, ended(4, 18, code=1)) is None
    newer = job_merge.observe(record, ended(25, 28), after(30))
    assert (newer.state, newer.earlier_start) == (JobState.DONE, after(4))


def test_earlier_run_end_job_runs_again() -> None:
    record = job_merge.observe(requeued(), seen(JobState.RUNNING, start_time=after(25)), after(26))
    assert job_merge.observe(record, ended(4, 18, code=1), after(30)) is record
    # The hosts' clocks differ by a little; the nearest start tells.
    assert job_merge.observe(record, ended(22, 28), after(30)).state is JobState.DONE


def test_requeued_job_cancelled_before_start() -> None:
    record = job_merge.observe(requeued(), ended(None, 25, code=1), after(30))
    assert record.state is JobState.FAILED


def test_earlier_run_by_submission_time() -> None:
    # Slurm notes a job that is put back as submitted at that moment.
    key = OURS.key
    record = job_merge.observe(
        running(),
        seen(JobState.RUNNING, start_time=after(25), submit_time=after(20), submission_key=key),
        after(26),
    )
    assert job_merge.observe(record, ended(4, 18, code=1, submit_time=T0), after(30)) is record


def test_requeue_retracted() -> None:
    record = job_merge.observe(requeued(), seen(JobState.RUNNING, start_time=after(4)), after(22))
    assert (record.state, record.earlier_start) == (JobState.RUNNING, None)
    assert job_merge.observe(record, ended(4, 30), after(31)).state is JobState.DONE


DONE = job_merge.observe(
    running(), ended(4, 18, submit_time=T0, owner="ana", submission_key=running().key), after(20)
)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        # `scontrol requeue` of a finished job: Slurm shows it pending, submitted anew
        ({"state": JobState.QUEUED, "submit_time": after(60)}, JobState.REQUEUED),
        ({"state": JobState.QUEUED_HELD, "submit_time": after(60)}, JobState.REQUEUED_HELD),
        ({"state": JobState.REQUEUED, "submit_time": T0}, JobState.REQUEUED),
        ({"state": JobState.REQUEUED_HELD, "submit_time": T0}, JobState.REQUEUED_HELD),
        ({"state": JobState.RUNNING, "start_time": after(60)}, JobState.REQUEUED),
        ({"state": JobState.DONE, "start_time": after(60)}, JobState.REQUEUED),
    ],
)
def test_reopened_job_runs_again(said: dict[str, Any], state: JobState) -> None:
    new = seen(submission_key=DONE.key, **said)
    record = job_merge.observe(DONE, new, after(70))
    assert (record.state, record.earlier_start) == (state, after(4))
    assert record.confirmed_at is None
    assert record.seen is not None
    assert (record.seen.exit_code, record.seen.end_time) == (None, None)
    assert record.seen.start_time is None
    assert find_contradiction(DONE, new) is None


def test_reopened_job_to_last_end() -> None:
    runs = seen(JobState.RUNNING, start_time=after(60), submission_key=DONE.key)
    record = job_merge.observe(job_merge.observe(DONE, runs, after(70)), runs, after(75))
    assert record.state is JobState.RUNNING
    assert job_merge.observe(record, ended(4, 18), after(90)) is record
    last = job_merge.observe(record, ended(60, 80, code=3), after(91))
    assert last.seen is not None
    assert (last.state, last.seen.exit_code) == (JobState.FAILED, 3)


def test_cancel_request_over_with_run() -> None:
    asked = job_changes.cancel_requested(DONE, after(21))
    record = job_merge.observe(asked, seen(JobState.REQUEUED, submission_key=DONE.key), after(70))
    assert record.status is JobStatus.START_REQUESTED


@pytest.mark.parametrize(
    "said",
    [
        seen(JobState.RUNNING),
        seen(JobState.QUEUED),
        # the same run, seen late
        seen(JobState.RUNNING, start_time=after(4), submission_key=DONE.key),
        # a later start, but nothing that proves it to be the same job
        seen(JobState.RUNNING, start_time=after(60)),
        # the same submission
        seen(JobState.QUEUED, submit_time=T0, submission_key=DONE.key),
        ended(4, 18, code=3, submission_key=DONE.key),
    ],
)
def test_contradiction_after_end(said: Observation) -> None:
    assert job_merge.observe(DONE, said, after(90)) is DONE
    found = find_contradiction(DONE, said)
    assert found is not None
    assert (found.uid, found.native_id) == (DONE.uid, ID)
    assert (found.held, found.said) == (JobState.DONE, said.state)
    assert found.reason.startswith("It had ended, as DONE")


@pytest.mark.parametrize("said", [ended(4, 18), seen(JobState.DONE)])
def test_contradiction_not_same_end(said: Observation) -> None:
    assert find_contradiction(DONE, said) is None


def test_contradiction_two_exit_codes() -> None:
    failed = job_merge.observe(running(), ended(4, 18, code=1), after(20))
    found = find_contradiction(failed, ended(4, 18, code=2))
    assert found is not None
    assert found.reason == (
        "It had ended, as FAILED with exit code 1, and is now said to have ended as FAILED "
        "with exit code 2."
    )
    killed = find_contradiction(failed, seen(JobState.FAILED, exit_signal=9))
    assert killed is not None
    assert killed.reason.endswith("FAILED by signal 9.")
    assert find_contradiction(failed, seen(JobState.FAILED)) is None


def test_contradiction_key_of_known_job() -> None:
    other = replace(seen(submission_key=OURS.key), native_id=NativeId("156"))
    assert not identity.same_job(OURS, other)
    found = find_contradiction(OURS, other)
    assert found is not None
    assert (found.native_id, found.uid) == ("156", UID)
    assert "the id 155" in found.reason


# Clocks


@pytest.mark.parametrize("ahead", [-300, 0, 300])
def test_end_not_before_start_clocks_differ(ahead: float) -> None:
    record = job_merge.observe(running(), ended(None, 5 + ahead), after(6))
    assert record.seen is not None
    assert record.seen.start_time is not None
    assert record.seen.end_time is not None
    assert record.seen.end_time >= record.seen.start_time


def test_submission_not_after_start_clocks_differ() -> None:
    behind = job_merge.observe(taken(), seen(JobState.RUNNING, start_time=after(-290)), after(6))
    assert behind.submit_time == after(-290)
    assert taken().submit_time == T0
    known = seen(JobState.RUNNING, submit_time=after(-295), start_time=after(-290))
    assert job_merge.observe(taken(), known, after(6)).submit_time == after(-295)


def test_removed_from_queue_no_run() -> None:
    record = job_merge.removed_while_queued(running(), after(2))
    assert record.seen is not None
    assert (record.seen.start_time, record.seen.end_time) == (None, after(2))


# Which of several answers of the accounting counts


def test_newest_run_any_order() -> None:
    first, second = ended(4, 18, code=1), ended(25, 28)
    for answers in ([first, second], [second, first]):
        assert newest(running(), answers) == second


def test_newest_run_without_times() -> None:
    first, second = seen(JobState.FAILED, exit_code=1), seen(JobState.DONE, exit_code=0)
    assert newest(taken(), [first, second]) == second


def test_newest_run_other_jobs_and_old_runs() -> None:
    record = requeued()
    other = ended(40, 50, submit_time=after(9999))
    assert newest(record, [ended(4, 18, code=1), other]) is None
    assert newest(record, []) is None
