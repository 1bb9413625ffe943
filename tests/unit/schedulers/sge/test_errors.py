import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.schedulers.sge.recorded import recorded

from hpcq.domain.errors import (
    CommandFailed,
    HpcqError,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    QuotaExceeded,
    SchedulerUnavailable,
)
from hpcq.domain.jobs import NativeId
from hpcq.execution.protocol import Completed
from hpcq.schedulers.sge.cluster import parse_qhost_xml, parse_queue_limits, parse_queue_summary
from hpcq.schedulers.sge.errors import ERRORS, never_ran, parse_qsub, tasks_never_run

JOB = NativeId("31")


@pytest.mark.parametrize(
    ("case", "native_id"), [("qsub_ok", "3"), ("qsub_hold", "4"), ("qsub_array", "5")]
)
def test_qsub_id(case: str, native_id: str) -> None:
    assert parse_qsub(recorded(case)) == native_id


@pytest.mark.parametrize(("case", "native_id"), [("qsub_terse", "45"), ("qsub_terse_array", "46")])
def test_qsub_id_2011(case: str, native_id: str) -> None:
    assert parse_qsub(recorded(case, "2011.11")) == native_id


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("qdel_unknown", JobNotFound),
        ("qhold_unknown", JobNotFound),
        ("qrls_unknown", JobNotFound),
        ("qdel_strangers", NotAuthorized),
        ("qhold_strangers", NotAuthorized),  # exit status 18
        ("qdel_down", SchedulerUnavailable),
        ("qhold_down", SchedulerUnavailable),
        ("qstat_xml_down", SchedulerUnavailable),
        ("qstat_j_xml_down", SchedulerUnavailable),  # a signal ended it
        ("qstat_no_cell", SchedulerUnavailable),
    ],
)
def test_check_refusals_2011(case: str, error: type[HpcqError]) -> None:
    with pytest.raises(error):
        ERRORS.check(recorded(case, "2011.11"), JOB)


@pytest.mark.parametrize(
    ("case", "waiting"),
    [
        ("qdel_pending", True),
        ("qdel_pending_task", True),
        ("qdel_held_array", True),
        ("qdel_error_state", True),
        ("qdel_running", False),
        ("qdel_running_again", False),
        ("qdel_suspended", False),
        ("qdel_task", False),
    ],
)
def test_check_deletions_2011(case: str, waiting: bool) -> None:
    done = recorded(case, "2011.11")
    ERRORS.check(done, JOB)
    assert never_ran(done) is waiting


def test_qsub_qmaster_down_2011() -> None:
    with pytest.raises(SchedulerUnavailable):
        parse_qsub(recorded("qsub_down", "2011.11"))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("8.1.9/qsub_unknown_pe", 'parallel environment "nope" does not exist'),
        ("2011.11/qsub_no_such_pe", 'parallel environment "nosuch" does not exist'),
    ],
)
def test_qsub_refusal_message(case: str, message: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        parse_qsub(recorded_as(case))
    assert message in (refused.value.scheduler_message or "")


@pytest.mark.parametrize(
    ("case", "field", "message"),
    [
        ("8.1.9/qsub_unknown_queue", "queue", 'unknown queue "nowhere.q"'),
        ("8.1.9/qsub_unknown_project", "account", 'project "nope" does not exist'),
        ("8.1.9/qsub_name_with_slash", "name", "must not contain /"),
        ("8.1.9/qsub_bad_priority", "priority", "invalid priority"),
        ("8.1.9/qsub_priority_not_operator", "priority", "requires operator privileges"),
        ("8.1.9/qsub_no_such_script", "scriptFile", "No such file"),
        ("8.1.9/qsub_unknown_resource", "scriptFile", 'unknown resource "nope"'),
        ("8.1.9/qsub_no_such_option", "scriptFile", "invalid option"),
        ("8.1.9/qsub_too_many_tasks", "scriptFile", "more than 75000 tasks"),
        ("8.1.9/qsub_no_suitable_queue", None, "no suitable queues"),
        ("8.1.9/qsub_bad_time_in_script", "scriptFile", '"h_rt" is not a time value'),
        ("8.1.9/qsub_bad_option_in_script", "scriptFile", 'invalid option argument "-nosuch"'),
        ("2011.11/qsub_no_such_queue", "queue", 'unknown queue "nosuch.q"'),
        ("2011.11/qsub_no_such_project", "account", 'project "nosuch" does not exist'),
        ("2011.11/qsub_digit_name", "name", "cannot start with a digit"),
        ("2011.11/qsub_positive_priority", "priority", "requires operator privileges"),
        ("2011.11/qsub_no_script_file", "scriptFile", "No such file"),
        ("2011.11/qsub_no_such_resource", "scriptFile", 'unknown resource "nosuch"'),
        ("2011.11/qsub_bad_option", "scriptFile", "invalid option"),
    ],
)
def test_qsub_refusal_names_field(case: str, field: str | None, message: str) -> None:
    with pytest.raises(InvalidSpec, match=re.escape(message)) as refused:
        parse_qsub(recorded_as(case))
    assert refused.value.field == field
    assert "Exiting" not in refused.value.detail


def test_qsub_refusal_without_usage() -> None:
    done = replace(
        recorded("qsub_no_such_option"),
        stderr=b'qsub: invalid option argument "-x"\nUsage: qsub [options]\n -a x\n',
    )
    with pytest.raises(InvalidSpec) as refused:
        parse_qsub(done)
    assert refused.value.detail == 'Grid Engine refuses it: qsub: invalid option argument "-x"'


@pytest.mark.parametrize("case", ["qsub_too_many_jobs_of_a_user", "qsub_too_many_jobs"])
def test_qsub_quota_exceeded(case: str) -> None:
    with pytest.raises(QuotaExceeded, match="jobs are allowed"):
        parse_qsub(recorded(case))


def recorded_as(case: str) -> Completed:
    version, _, name = case.partition("/")
    return recorded(name, version)


def test_qsub_answer_lost() -> None:
    with pytest.raises(OutputParseError, match="lost"):
        parse_qsub(recorded("qsub_name_with_blank"))


def test_qsub_job_limit_exit_status() -> None:
    refused = replace(recorded("qsub_unknown_queue"), exit_code=25)
    with pytest.raises(QuotaExceeded):
        parse_qsub(refused)


@pytest.mark.parametrize(
    "stdout",
    [b"", b"banner\n5\n", b"5\nbye\n", b"5 6\n", b'Your job 6 ("x") has been submitted\n', b"-5\n"],
)
def test_qsub_output_without_id(stdout: bytes) -> None:
    with pytest.raises(OutputParseError):
        parse_qsub(replace(recorded("qsub_ok"), stdout=stdout))


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("qdel_unknown", JobNotFound),
        ("qdel_finished", JobNotFound),
        ("qdel_array_task_unknown", JobNotFound),
        ("qhold_unknown", JobNotFound),
        ("qrls_unknown", JobNotFound),
        ("qdel_not_owner", NotAuthorized),
        ("qhold_not_owner", NotAuthorized),
        ("qrls_not_owner", NotAuthorized),
        ("qmaster_down_qdel", SchedulerUnavailable),
        ("qmaster_down_qhold", SchedulerUnavailable),
        ("qmaster_down_qstat", SchedulerUnavailable),
        ("qmaster_down_qconf", SchedulerUnavailable),
        ("no_cell_qstat", SchedulerUnavailable),
        ("no_root_qstat", SchedulerUnavailable),
    ],
)
def test_check_refusals(case: str, error: type[HpcqError]) -> None:
    with pytest.raises(error):
        ERRORS.check(recorded(case), JOB)


def test_qsub_qmaster_down() -> None:
    with pytest.raises(SchedulerUnavailable):
        parse_qsub(recorded("qmaster_down_qsub"))


@pytest.mark.parametrize("case", ["qdel_running", "qdel_twice", "qrls_not_held", "qhold_running"])
def test_check_succeeded(case: str) -> None:
    ERRORS.check(recorded(case), JOB)


@pytest.mark.parametrize(
    ("case", "waiting"),
    [("qdel_pending", True), ("qdel_held", True), ("qdel_running", False), ("qdel_twice", False)],
)
def test_never_ran_job_deleted_while_waiting(case: str, waiting: bool) -> None:
    assert never_ran(recorded(case)) is waiting


@given(st.binary(), st.binary(), st.integers(-15, 255))
def test_qsub_any_answer(stdout: bytes, stderr: bytes, code: int) -> None:
    done = Completed(argv=("qsub",), exit_code=code, stdout=stdout, stderr=stderr)
    try:
        parse_qsub(done)
    except HpcqError:
        return


def test_queues() -> None:
    limits = parse_queue_limits(recorded("qconf_sq_several").stdout)
    assert limits == {"other.q": 86400}
    queues = parse_queue_summary(recorded("qstat_g_c_xml").stdout, limits)
    assert [(q.name, q.is_open, q.slots_used, q.slots_total) for q in queues] == [
        ("all.q", True, 6, 128),
        ("other.q", False, 1, 8),
    ]
    assert queues[1].max_wall_time_seconds == 86400


def test_nodes() -> None:
    (node,) = parse_qhost_xml(recorded("qhost_q_xml").stdout)
    assert (node.name, node.is_up, node.queues) == ("vm", True, ("all.q", "other.q"))
    assert (node.slots_total, node.slots_used) == (136, 7)
    assert node.memory_bytes == int(23.5 * 2**30)
    assert node.native_state == "s"


@pytest.mark.parametrize("number", [b"@", b"1.5", b"9" * 5000])
def test_slots_no_number(number: bytes) -> None:
    output = recorded("qhost_q_xml").stdout
    changed = re.sub(rb"(<queuevalue [^>]*name='slots_used'>)\d+", rb"\g<1>" + number, output)
    assert changed != output
    with pytest.raises(OutputParseError, match="no whole number"):
        parse_qhost_xml(changed)
    output = recorded("qstat_g_c_xml").stdout
    changed = re.sub(rb"<used>\d+", b"<used>" + number, output)
    assert changed != output
    with pytest.raises(OutputParseError, match="no whole number"):
        parse_queue_summary(changed, {})


@given(st.binary())
def test_queues_and_nodes_any_bytes(output: bytes) -> None:
    parse_queue_limits(output)
    for parse in (parse_qhost_xml, lambda text: parse_queue_summary(text, {})):
        try:
            parse(output)
        except OutputParseError:
            continue


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ("root has deleted job-array task 8.7\n", {7}),
        ("root has deleted job-array tasks 4-6:1 of job 9\n", {4, 5, 6}),
        ("root has deleted job-array tasks 1-5:2,8,9 of job 9\n", {1, 3, 5, 8, 9}),
        ("root has registered the job-array task 8.2 for deletion\n", set()),
        (
            'root has deleted job-array task 8.7\njob "8" task "9" does not exist\n'
            "root has registered the job-array task 8.1 for deletion\n",
            {7},
        ),
    ],
)
def test_never_ran_tasks_deleted_by_qdel(said: str, numbers: set[int]) -> None:
    """As 8.1.9 printed it."""
    done = Completed(argv=("qdel",), exit_code=0, stdout=said.encode(), stderr=b"")
    assert tasks_never_run(done) == numbers
