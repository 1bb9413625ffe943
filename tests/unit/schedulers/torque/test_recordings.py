"""Every recording is read without a record lost or an error that nobody foresaw."""

import re
from collections import Counter

import pytest
from tests.unit.schedulers.torque.recorded import cases, read_text, recorded

from hpcq.domain.errors import HpcqError
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind
from hpcq.schedulers.base import Listing
from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.pbs_family.values import parse_job_id
from hpcq.schedulers.torque.accounting import observe_lines, parse_tracejob
from hpcq.schedulers.torque.cluster import parse_pbsnodes, parse_queues
from hpcq.schedulers.torque.errors import check_completed, parse_qsub
from hpcq.schedulers.torque.parse import parse_qstat_xml

_HEADING = re.compile(rb"^Job Id: ([0-9]+(?:\[[0-9]*\])?\.vm)$", re.MULTILINE)
_JOB_ID = re.compile(rb"<Job_Id>([^<]*)</Job_Id>")
_XML = [case for case in cases("qstat") if b"<Data>" in recorded(case).stdout]
_TEXT = [case for case in cases("qstat", "qsub") if recorded(case).stdout.startswith(b"Job Id:")]


def _ids(listing: Listing) -> set[str]:
    assert listing.unreadable == []
    return {seen.native_id for seen in listing.observations}


def _short(names: list[bytes]) -> set[str]:
    return {parse_job_id(name.decode()).short for name in names}


def test_recordings_present() -> None:
    assert len(_XML) > 40
    assert len(_TEXT) > 80


@pytest.mark.parametrize("case", _XML)
def test_qstat_x_all_jobs(case: str) -> None:
    output = recorded(case).stdout
    expected = _short(_JOB_ID.findall(output))
    found = _ids(parse_qstat_xml(output))
    arrays = {i.partition("[")[0] for i in expected if "[" in i}
    assert found == expected | arrays


@pytest.mark.parametrize("case", _TEXT)
def test_qstat_f_all_jobs(case: str) -> None:
    output = recorded(case).stdout
    expected = _short(_HEADING.findall(output))
    found = _ids(read_text(output))
    arrays = {i.partition("[")[0] for i in expected if "[" in i}
    assert found == expected | arrays
    assert "1" not in found


@pytest.mark.parametrize("case", [c for c in _XML if c.replace("qstat-x", "qstat-f") in _TEXT])
def test_qstat_x_and_f_same(case: str) -> None:
    xml = parse_qstat_xml(recorded(case).stdout).observations
    text = read_text(recorded(case.replace("qstat-x", "qstat-f")).stdout).observations
    if "saopaulo" not in case:  # the text's times are those of the caller
        assert list(map(_steady, xml)) == list(map(_steady, text))


def _steady(seen: Observation) -> tuple[object, ...]:
    # Figures of running jobs grow from one command to the next; text loses some newlines.
    return (
        *(seen.native_id, seen.state, seen.state_reason, seen.exit_code, seen.owner, seen.name),
        *(seen.submit_time, seen.start_time, seen.slots, seen.hosts, seen.depends_on),
        *(seen.wall_time_limit_seconds, seen.memory_limit_bytes, seen.account),
    )


def test_qstat_environment_with_fake_record() -> None:
    for case, parse in (("qstat-f.oddenv", read_text), ("qstat-x.oddenv", parse_qstat_xml)):
        (seen,) = parse(recorded(case).stdout).observations
        assert (seen.native_id, seen.native_state, seen.owner) == ("881", "H", "alice")
        assert seen.working_directory == "/home/alice/tq"


def test_qstat_x_invalid_byte() -> None:
    whole = recorded("qstat-x.mixed").stdout
    broken = whole.replace(b"PBS_O_LANG=C.UTF-8", b"X=\xff\x01\x0b", 1)
    assert _ids(parse_qstat_xml(broken)) == _ids(parse_qstat_xml(whole))


@pytest.mark.parametrize("case", cases("qsub", "qdel", "qhold", "qrls", "qstat", "pbsnodes"))
def test_errors_of_all_recordings(case: str) -> None:
    done = recorded(case)
    is_submission = done.argv[0] == "qsub" and "-z" not in done.argv
    try:
        if is_submission:
            assert re.fullmatch("[0-9]+", parse_qsub(done).short)
        else:
            check_completed(done, NativeId("1"))
    except HpcqError as error:
        assert done.exit_code != 0 or case == "qdel.mom-hung"
        assert error.detail
    else:
        assert done.exit_code == 0


def test_accounting_all_lines() -> None:
    lines = recorded("accounting.20261122").stdout.splitlines()
    observations, unreadable = observe_lines(lines)
    assert unreadable == []
    over = {line.split(b";")[2] for line in lines if line.split(b";")[1] in (b"E", b"D", b"A")}
    assert {seen.native_id for seen in observations} == _short(list(over))
    assert len(observations) == len(over) == 158
    assert Counter(seen.failure_kind for seen in observations) == {
        None: 83,
        FailureKind.CANCELLED: 43,
        FailureKind.NON_ZERO_EXIT: 25,
        FailureKind.SIGNAL: 3,
        FailureKind.TIME_LIMIT: 2,
        FailureKind.SCHEDULER_ERROR: 2,
    }


@pytest.mark.parametrize("case", cases("tracejob"))
def test_tracejob_all_recordings(case: str) -> None:
    done = recorded(case)
    asked = done.argv[-1] if done.argv[-1][0].isdigit() else "850"
    seen = parse_tracejob(done.stdout, parse_job_id(asked))
    assert (seen is not None) == (b"Exit_status=" in done.stdout or b"deleted at" in done.stdout)


@pytest.mark.parametrize("case", [c for c in cases("pbsnodes") if "-x" in recorded(c).argv])
def test_pbsnodes_all_recordings(case: str) -> None:
    output = recorded(case).stdout
    assert len(parse_pbsnodes(output)) == output.count(b"<Node>")


@pytest.mark.parametrize(
    ("text", "xml"),
    [("pbsnodes.busy", "pbsnodes-x.busy"), ("pbsnodes.pbsnodes", "pbsnodes.pbsnodes-x")],
)
def test_pbsnodes_text_and_xml_same(text: str, xml: str) -> None:
    (host,) = parse_pbsnodes(recorded(text).stdout)
    assert [host] == parse_pbsnodes(recorded(xml).stdout)
    assert (host.name, host.slots_total, host.is_up) == ("vm", 8, True)
    assert host.slots_used == (3 if "busy" in text else 0)


@pytest.mark.parametrize("case", cases("qstat_-Q_-f"))
def test_queues_all_recordings(case: str) -> None:
    output = recorded(case).stdout
    assert [q.name for q in parse_queues(output)] == ["batch"] * output.count(b"Queue: ")


@pytest.mark.parametrize("case", ["qstat_-B_-f.mixed"])
def test_text_records_of_server(case: str) -> None:
    (server,) = parse_text_records(recorded(case).stdout, b"Server: ")
    assert server.attributes["pbs_version"] == "6.1.3.h5"
