from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hpcq.domain import life
from hpcq.domain.jobs import JobRecord, JobSpec, JobUid, NativeId, Observation, Usage
from hpcq.domain.states import FailureKind, JobState, JobStatus, Stage

T0 = datetime(2026, 1, 5, 12, tzinfo=UTC)
ID = NativeId("155")
UID = JobUid("3d6f7a52-0c0b-4b7e-9b57-6d1f3b9a7c11")
SPEC = JobSpec(name="study", working_directory="/srv", script_file="/srv/run.sh")


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def intended(**fields: object) -> JobRecord:
    return life.intent(UID, replace(SPEC, **fields), T0)  # type: ignore[arg-type]


def taken() -> JobRecord:
    return life.submitted(intended(), ID, after(1))


def seen(state: JobState = JobState.QUEUED, **fields: object) -> Observation:
    return Observation(native_id=ID, state=state, **fields)  # type: ignore[arg-type]


def running() -> JobRecord:
    return life.observe(
        taken(), seen(JobState.RUNNING, start_time=after(4), hosts=("n1",)), after(5)
    )


# From the intent to the scheduler


def test_an_intent_waits_without_an_id() -> None:
    record = intended()
    assert (record.state, record.native_id, record.seen) == (JobState.QUEUED, None, None)
    assert record.is_ours
    assert record.status is JobStatus.START_REQUESTED


def test_the_intent_of_a_held_job_is_held() -> None:
    assert intended(hold=True).state is JobState.QUEUED_HELD


def test_a_job_that_was_taken_has_its_id_and_no_reason_any_more() -> None:
    record = taken()
    assert (record.native_id, record.state_reason) == (ID, None)
    assert record.confirmed_at == after(1)


def test_a_refused_job_is_failed_with_the_reason() -> None:
    record = life.submission_failed(intended(), "unknown queue", after(1))
    assert (record.state, record.state_reason) == (JobState.FAILED, "unknown queue")
    assert record.confirmed_at == record.state_changed_at == after(1)


def test_an_unclear_submission_is_undetermined_and_says_so_once_it_is_found() -> None:
    unclear = life.submission_uncertain(intended(), "no answer", after(1))
    assert (unclear.state, unclear.state_reason) == (JobState.UNDETERMINED, "no answer")
    found = life.submitted(unclear, ID, after(2))
    assert (found.state, found.native_id) == (JobState.UNDETERMINED, ID)
    assert found.state_reason


def test_a_job_held_never_to_have_been_taken_can_turn_up() -> None:
    lost = life.submission_failed(intended(), "nobody has it", after(200))
    record = life.turned_up(lost, seen(JobState.RUNNING), after(300))
    assert (record.uid, record.native_id, record.state) == (UID, ID, JobState.RUNNING)
    assert record.state_changed_at == after(300)


# What the scheduler says


def test_a_foreign_job_begins_with_its_first_sight() -> None:
    record = life.first_sight("1", seen(submit_time=after(-60), owner="ana"), T0)
    assert not record.is_ours
    assert record.created_at == after(-60)
    assert record.uid == JobUid.of_foreign("1", ID, after(-60), "ana")


@pytest.mark.parametrize(
    ("times", "changed"),
    [
        ({}, T0),
        ({"submit_time": after(-60)}, after(-60)),
        ({"submit_time": after(-60), "start_time": after(-50)}, after(-50)),
        (
            {"submit_time": after(-60), "start_time": after(-50), "end_time": after(-40)},
            after(-40),
        ),
    ],
)
def test_the_newest_known_time_of_a_foreign_job_is_its_last_change(
    times: dict[str, Any], changed: datetime
) -> None:
    assert life.first_sight("1", seen(**times), T0).state_changed_at == changed


def test_a_change_of_state_has_the_time_at_which_it_was_seen() -> None:
    record = running()
    assert (record.state, record.state_changed_at) == (JobState.RUNNING, after(5))
    same = life.observe(record, seen(JobState.RUNNING, queue="all.q"), after(9))
    assert same.state_changed_at == after(5)


def test_a_change_of_stage_is_a_change() -> None:
    record = life.observe(running(), seen(JobState.RUNNING, stage=Stage.EXITING), after(9))
    assert (record.stage, record.state_changed_at) == (Stage.EXITING, after(9))
    assert record.status is JobStatus.STOPPING


def test_an_end_has_its_own_time() -> None:
    ended = seen(JobState.DONE, exit_code=0, end_time=after(7))
    record = life.observe(running(), ended, after(20))
    assert (record.state_changed_at, record.confirmed_at) == (after(7), after(20))


def test_what_an_answer_does_not_mention_stays() -> None:
    usage = Usage(cpu_seconds=3.0)
    record = life.observe(running(), seen(JobState.RUNNING, usage=usage, owner="ana"), after(6))
    record = life.observe(record, seen(JobState.SUSPENDED), after(7))
    assert record.seen is not None
    assert (record.seen.start_time, record.seen.hosts) == (after(4), ("n1",))
    assert (record.seen.usage, record.seen.owner) == (usage, "ana")


def test_reasons_and_raw_words_belong_to_one_sight() -> None:
    waits = seen(native_state="qw", state_reason="no slots")
    record = life.observe(taken(), waits, after(2))
    record = life.observe(record, seen(JobState.RUNNING), after(3))
    assert record.seen is not None
    assert (record.state_reason, record.seen.native_state) == (None, None)


def test_a_job_that_is_put_back_into_the_queue_has_not_started() -> None:
    record = life.observe(running(), seen(JobState.REQUEUED, owner="ana"), after(9))
    assert record.seen is not None
    assert (record.seen.start_time, record.seen.hosts, record.seen.usage) == (None, None, None)
    again = life.observe(record, seen(JobState.RUNNING, start_time=after(12)), after(13))
    assert again.seen is not None
    assert (again.seen.start_time, again.seen.owner) == (after(12), "ana")


@pytest.mark.parametrize("end", [JobState.DONE, JobState.FAILED])
def test_a_final_state_stays_whatever_comes_after(end: JobState) -> None:
    ended = life.observe(running(), seen(end, end_time=after(7)), after(8))
    for state in JobState:
        assert life.observe(ended, seen(state), after(9)) is ended
    assert life.vanished(ended, "gone", last_seen=after(8), at=after(9)) is ended
    assert life.removed_while_queued(ended, after(9)) is ended
    assert life.held(ended, after(9)) is ended
    assert life.released(ended, after(9)) is ended


# Leaving the queue


def test_a_job_that_is_missed_was_confirmed_when_it_was_last_seen() -> None:
    assert life.missed(running(), after(30)).confirmed_at == after(30)
    assert life.missed(running(), None).confirmed_at == after(5)
    assert life.missed(taken(), after(30)).confirmed_at == after(1)


def test_a_vanished_job_is_undetermined_with_the_reason_until_the_truth_comes() -> None:
    record = life.vanished(running(), "not accounted yet", last_seen=after(30), at=after(35))
    assert (record.state, record.stage) == (JobState.UNDETERMINED, None)
    assert (record.state_reason, record.confirmed_at) == ("not accounted yet", after(30))
    assert life.vanished(record, "again", last_seen=after(40), at=after(45)) is record
    ended = life.observe(record, seen(JobState.DONE, exit_code=0, end_time=after(33)), after(90))
    assert (ended.state, ended.state_reason) == (JobState.DONE, None)
    assert ended.seen is not None
    assert ended.seen.start_time == after(4)


# Our own doing


def test_a_cancelled_job_keeps_its_state_and_shows_that_its_end_was_asked_for() -> None:
    record = life.cancel_requested(running(), after(6))
    assert (record.state, record.status) == (JobState.RUNNING, JobStatus.STOPPING)
    assert life.cancel_requested(record, after(9)) is record


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
def test_a_signal_after_we_asked_for_the_end_is_a_cancellation(
    said: FailureKind | None, kind: FailureKind, answer_comes_first: bool
) -> None:
    ended = seen(JobState.FAILED, failure_kind=said, exit_signal=9)
    if answer_comes_first:
        record = life.observe(life.cancel_requested(running(), after(6)), ended, after(7))
    else:
        record = life.cancel_requested(life.observe(running(), ended, after(7)), after(8))
    assert record.seen is not None
    assert record.seen.failure_kind is kind


def test_a_job_that_ended_well_before_it_could_be_cancelled_is_done() -> None:
    ended = life.observe(running(), seen(JobState.DONE, exit_code=0), after(7))
    record = life.cancel_requested(ended, after(8))
    assert record.state is JobState.DONE
    assert record.seen is not None
    assert record.seen.failure_kind is None


def test_a_job_deleted_from_the_queue_is_cancelled_without_a_start() -> None:
    record = life.removed_while_queued(taken(), after(6))
    assert (record.state, record.status) == (JobState.FAILED, JobStatus.STOPPED)
    assert record.seen is not None
    assert record.seen.failure_kind is FailureKind.CANCELLED
    assert (record.seen.start_time, record.seen.end_time) == (None, after(6))


@pytest.mark.parametrize(
    ("free", "held"),
    [(JobState.QUEUED, JobState.QUEUED_HELD), (JobState.REQUEUED, JobState.REQUEUED_HELD)],
)
def test_holding_and_releasing_are_each_others_opposite(free: JobState, held: JobState) -> None:
    record = life.observe(taken(), seen(free), after(2))
    kept = life.held(record, after(3))
    assert (kept.state, kept.state_changed_at) == (held, after(3))
    assert life.held(kept, after(4)) is kept
    assert life.released(kept, after(5)).state is free
    assert life.released(record, after(5)) is record


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUSPENDED, JobState.UNDETERMINED])
def test_only_a_queued_job_is_held_or_released(state: JobState) -> None:
    record = life.observe(taken(), seen(state), after(2))
    assert life.held(record, after(3)) is record
    assert life.released(record, after(3)) is record


# Which job a number means

OURS = taken()
OTHER_KEY = JobUid("11111111-0c0b-4b7e-9b57-6d1f3b9a7c11")


@pytest.mark.parametrize(
    ("said", "same"),
    [
        # a key says it all, whatever the times are
        ({"submission_key": OURS.key, "submit_time": after(9999)}, True),
        ({"submission_key": life.intent(OTHER_KEY, SPEC, T0).key, "submit_time": T0}, False),
        # without one: our clock and the scheduler's may be minutes apart (apel 153)
        ({"submit_time": after(300)}, True),
        ({"submit_time": after(-300)}, True),
        ({"submit_time": after(3600)}, False),
        # and without any of it there is only the number
        ({}, True),
    ],
)
def test_our_job_is_told_from_a_later_one_under_its_number(
    said: dict[str, Any], same: bool
) -> None:
    assert life.same_job(OURS, seen(**said)) is same


KNOWN = life.first_sight("1", seen(submit_time=T0, owner="ana"), T0)


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
def test_a_known_job_is_told_from_a_later_one_under_its_number(
    said: dict[str, Any], same: bool
) -> None:
    assert life.same_job(KNOWN, seen(**said)) is same
