import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.schedulers.sge.recorded import recorded

from hpcq.domain.errors import HpcqError, OutputParseError, SchedulerUnavailable
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import JobState, ReasonCode
from hpcq.domain.units import GIBIBYTE
from hpcq.schedulers.sge.details import parse_qstat_details, parse_requests
from hpcq.schedulers.sge.parse import parse_qstat_xml

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)


def listed() -> dict[NativeId, Observation]:
    listing = parse_qstat_xml(recorded("qstat_xml_mixed").stdout)
    return {seen.native_id: seen for seen in listing.observations}


def detail(case: str, native_id: str, version: str = "8.1.9") -> Observation:
    output = recorded(case, version).stdout
    listing = parse_qstat_details(output, [NativeId(native_id)], listed(), NOW)
    assert not listing.unreadable
    (seen,) = listing.observations
    return seen


def test_running_job() -> None:
    seen = detail("qstat_j_xml_running", "31")
    assert seen.state is JobState.RUNNING
    assert seen.native_state == "r"
    assert seen.args == ("first arg", "", "it's")
    assert seen.script_file == "/srv/jobs/run1/busy.sh"
    assert seen.working_directory == "/srv/jobs/run1"
    assert seen.stdout_path == "/dev/null"
    assert seen.account == "climate"
    assert seen.slots == 2
    assert seen.wall_time_limit_seconds == 3600
    assert seen.memory_limit_bytes == 2 * GIBIBYTE  # 1G for each of two slots
    assert seen.submission_key == "hpcq-0123456789abcdef0123456789abcdef"
    assert seen.usage is not None
    assert seen.usage.cpu_seconds == pytest.approx(2.1)
    assert seen.usage.max_memory_bytes == 3280896
    assert seen.usage.io_bytes == pytest.approx(0.390645 * GIBIBYTE)
    assert seen.usage.sampled_at == NOW


def test_environment_not_exposed() -> None:
    assert b"hunter2" in recorded("qstat_j_xml_running").stdout
    assert "hunter2" not in repr(detail("qstat_j_xml_running", "31"))


def test_pending_job_reason() -> None:
    seen = detail("qstat_j_xml_pending", "35")
    assert seen.state is JobState.QUEUED
    assert (
        seen.state_reason == 'It waits: cannot run in PE "orte" because it only offers 122 slots.'
    )
    assert seen.native_reason == 'cannot run in PE "orte" because it only offers 122 slots'
    assert seen.reason_code is ReasonCode.WAITING_FOR_RESOURCES
    assert seen.usage is None


def test_error_state_reason() -> None:
    seen = detail("qstat_j_xml_eqw_failed_28", "23")
    assert seen.reason_code is ReasonCode.HELD_BY_SYSTEM
    assert (seen.native_reason or "").endswith("/srv/jobs/none: No such file or directory")
    assert seen.state is JobState.QUEUED_HELD
    assert "can't chdir to /srv/jobs/none" in (seen.state_reason or "")


def test_dependency() -> None:
    seen = detail("qstat_j_xml_dependent", "37")
    assert seen.depends_on == ("31",)
    assert seen.reason_code is ReasonCode.WAITING_FOR_DEPENDENCY


def test_job_with_start_time() -> None:
    (number,) = re.findall(rb"<JB_job_number>(\d+)<", recorded("qstat_j_xml_later").stdout)
    seen = detail("qstat_j_xml_later", number.decode())
    assert seen.native_reason == "execution time not reached"
    assert seen.reason_code is ReasonCode.NOT_BEFORE_TIME


def test_array_and_task() -> None:
    output = recorded("qstat_j_xml_array").stdout
    ids = [NativeId("39"), NativeId("39[2]"), NativeId("39[5]")]
    listing = parse_qstat_details(output, ids, listed(), NOW)
    whole, task, pending = listing.observations
    assert (pending.state, pending.array_task_id) == (JobState.QUEUED, 5)
    assert (whole.native_id, whole.array_job_id, whole.is_array) == ("39", None, True)
    assert (task.native_id, task.array_job_id, task.array_task_id) == ("39[2]", "39", 2)


def test_several_jobs_one_unknown() -> None:
    ids = [NativeId(i) for i in ("31", "35", "39", "999999")]
    listing = parse_qstat_details(recorded("qstat_j_xml_several").stdout, ids, {}, NOW)
    assert [seen.native_id for seen in listing.observations] == ["31", "35", "39"]


def test_unknown_job() -> None:
    output = recorded("qstat_j_xml_unknown").stdout
    assert not parse_qstat_details(output, [NativeId("999999")], {}).observations


def test_qmaster_down_exit_status_0() -> None:
    with pytest.raises(SchedulerUnavailable, match="unable to send message"):
        parse_qstat_details(recorded("qmaster_down_qstat_j").stdout, [NativeId("1")], {})


def test_usage_slave_tasks_and_earlier_runs() -> None:
    seen = detail("qstat_j_xml_running", "155", "6.2u5")
    assert seen.usage is not None
    assert seen.usage.cpu_seconds == pytest.approx(350.5)
    assert seen.usage.max_memory_bytes == 3 * GIBIBYTE
    assert seen.usage.memory_byte_seconds == pytest.approx(6.5 * GIBIBYTE)
    assert seen.stdout_path == "/home/alice/flow/flow.o155"
    assert "secret" not in repr(seen)


def test_control_characters_and_bad_utf8() -> None:
    output = recorded("qstat_j_xml_several").stdout.replace(b"it&apos;s", b"\x01\xff")
    listing = parse_qstat_details(output, [NativeId("31"), NativeId("35")], {}, NOW)
    assert len(listing.observations) == 2


def test_one_broken_job() -> None:
    output = recorded("qstat_j_xml_several").stdout.replace(b"</JB_account>", b"", 1)
    listing = parse_qstat_details(output, [NativeId("31"), NativeId("35")], {}, NOW)
    assert [seen.native_id for seen in listing.observations] == ["35"]
    assert len(listing.unreadable) == 1


@given(st.binary())
def test_details_any_bytes(output: bytes) -> None:
    try:
        parse_qstat_details(output, [NativeId("1")], {})
    except OutputParseError:
        return


@given(st.data())
def test_details_damaged_document(data: st.DataObject) -> None:
    text = bytearray(recorded("qstat_j_xml_running").stdout)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=8))
    try:
        parse_qstat_details(bytes(text), [NativeId("31")], {})
    except HpcqError:
        return


@pytest.mark.parametrize(("version", "h_rt"), [("8.1.9", "3600"), ("2011.11", "600")])
def test_requests_of_job(version: str, h_rt: str) -> None:
    told = parse_requests(recorded("qstat_j_xml_running", version).stdout)
    assert told == {"h_rt": h_rt, "h_vmem": "1G"}


def test_requests_of_unknown_job() -> None:
    with pytest.raises(OutputParseError):
        parse_requests(recorded("qstat_j_xml_unknown").stdout)
