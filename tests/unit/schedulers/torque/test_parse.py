"""Jobs in ``qstat -x``: fields, foreign keys, broken documents, arrays."""

from datetime import UTC, datetime

import pytest
from tests.unit.schedulers.torque.recorded import read_text, recorded

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.schedulers.pbs_family.values import parse_job_id
from hpcq.schedulers.torque.accounting import observe_lines, parse_tracejob
from hpcq.schedulers.torque.parse import Reader, parse_qstat_xml

KEY = "hpcq-" + "a" * 32
JOB = b"<Job><Job_Id>%d.vm</Job_Id><Job_Owner>%s@vm</Job_Owner><job_state>Q</job_state>%s</Job>"


def _document(*jobs: bytes) -> bytes:
    return b'<?xml version="1.0"?>\n<Data>' + b"".join(jobs) + b"</Data>\n"


def _one(case: str) -> Observation:
    (seen,) = parse_qstat_xml(recorded(case).stdout).observations
    return seen


def test_qstat_running_job() -> None:
    seen = _one("qstat-x.running")
    assert (seen.native_id, seen.state, seen.native_state) == ("839", JobState.RUNNING, "R")
    assert (seen.name, seen.owner, seen.queue) == ("running", "alice", "batch")
    assert seen.submit_time == seen.start_time == datetime(2026, 11, 22, 22, 25, 25, tzinfo=UTC)
    assert (seen.slots, seen.hosts) == (2, ("vm",))
    assert (seen.wall_time_limit_seconds, seen.memory_limit_bytes) == (9000, 200 << 20)
    assert seen.working_directory == "/home/alice/tq"
    assert seen.stdout_path == "/home/alice/tq/running.o839"
    assert seen.usage is not None
    assert (seen.usage.cpu_seconds, seen.usage.max_memory_bytes) == (43, 4720 << 10)
    assert seen.depends_on is None


def test_qstat_waiting_reasons() -> None:
    assert _one("qstat-x.queued").state_reason == (
        "Not Running: Not enough of the right type of nodes are available"
    )
    assert _one("qstat-x.queued").reason_code is ReasonCode.WAITING_FOR_RESOURCES
    assert _one("qstat-x.waiting").reason_code is ReasonCode.NOT_BEFORE_TIME
    held = _one("qstat-x.dependency-held")
    assert held.reason_code is ReasonCode.WAITING_FOR_DEPENDENCY
    assert (held.state, held.depends_on) == (JobState.QUEUED_HELD, ("839",))
    assert held.state_reason == "It waits for the jobs that it depends on."
    assert _one("qstat-x.waiting").state is JobState.QUEUED
    assert _one("qstat-x.suspended").state is JobState.SUSPENDED
    assert _one("qstat-x.exiting").stage is Stage.EXITING


@pytest.mark.parametrize(
    ("case", "kind", "code", "signal"),
    [
        ("complete-exit0", None, 0, None),
        ("complete-exit3", FailureKind.NON_ZERO_EXIT, 3, None),
        ("complete-sig9", FailureKind.SIGNAL, None, 9),
        ("complete-segv", FailureKind.SIGNAL, None, 11),
        ("complete-wallkill", FailureKind.TIME_LIMIT, None, None),
        ("complete-cputkill", FailureKind.TIME_LIMIT, None, None),
        ("complete-del-running", FailureKind.CANCELLED, None, 15),
        ("complete-del-queued", FailureKind.CANCELLED, None, None),
    ],
)
def test_qstat_ended_jobs(
    case: str, kind: FailureKind | None, code: int | None, signal: int | None
) -> None:
    (seen,) = read_text(recorded(f"qstat-f.{case}").stdout).observations
    assert seen.state is (JobState.DONE if kind is None else JobState.FAILED)
    assert (seen.failure_kind, seen.exit_code, seen.exit_signal) == (kind, code, signal)
    assert seen.end_time is not None
    assert (seen.start_time is None) == (case == "complete-del-queued")


def test_qstat_rerunning_job() -> None:
    (seen,) = read_text(recorded("qstat-f.rerun").stdout).observations
    assert (seen.state, seen.exit_code, seen.end_time) == (JobState.RUNNING, None, None)


def test_qstat_keys_of_own_account() -> None:
    variables = f"<Variable_List>A=1,HPCQ_KEY={KEY},B=2</Variable_List>".encode()
    document = _document(JOB % (1, b"us", variables), JOB % (2, b"them", variables))
    ours, theirs = parse_qstat_xml(document, "us").observations
    assert (ours.submission_key, theirs.submission_key) == (KEY, None)
    hidden = f"<Variable_List>A=1\\,HPCQ_KEY={KEY}</Variable_List>".encode()
    (seen,) = parse_qstat_xml(_document(JOB % (1, b"us", hidden)), "us").observations
    assert seen.submission_key is None


@pytest.mark.parametrize(
    "bad",
    [
        b"<Job><Job_Id>9.vm</Job_Id></Job>",
        b"<Job><Job_Id>9.vm</Job_Id><job_state>Q</job_state>",
        b"<Job><Job_Id>9.vm</Job_Id><job_state>Q</queue></Job>",
        b"<Job><Job_Id>9.vm</Job_Id><job_state>Q</job_state><job_state>C</job_state></Job>",
        b"<Job><Job_Id>all</Job_Id><job_state>Q</job_state></Job>",
    ],
)
def test_qstat_one_bad_record(bad: bytes) -> None:
    listing = parse_qstat_xml(_document(JOB % (1, b"a", b""), bad, JOB % (2, b"a", b"")))
    assert [seen.native_id for seen in listing.observations] == ["1", "2"]
    (unreadable,) = listing.unreadable
    assert unreadable.native_id == (None if b"all" in bad else "9")


def test_qstat_duplicate_id() -> None:
    document = _document(JOB % (1, b"a", b""), JOB % (2, b"a", b""), JOB % (1, b"b", b""))
    listing = parse_qstat_xml(document)
    assert [seen.native_id for seen in listing.observations] == ["2"]
    assert [bad.native_id for bad in listing.unreadable] == ["1", "1"]


def test_qstat_empty_or_truncated() -> None:
    assert parse_qstat_xml(recorded("qstat-x.empty").stdout).observations == []
    assert parse_qstat_xml(b"").observations == []
    whole = recorded("qstat-x.mixed").stdout
    for broken in (whole[:-20], whole[:4000], b"Welcome to Stampede3\n", b"<html></html>"):
        with pytest.raises(OutputParseError):
            parse_qstat_xml(broken)


def test_qstat_noise_before_document() -> None:
    whole = recorded("qstat-x.mixed").stdout
    found = parse_qstat_xml(b"Welcome <b>\n" + whole).observations
    assert len(found) == len(parse_qstat_xml(whole).observations)


def test_qstat_array_and_jobs() -> None:
    listing = parse_qstat_xml(recorded("qstat-x-t.arrays").stdout)
    by_id = {seen.native_id: seen for seen in listing.observations}
    assert (by_id["45[2]"].array_job_id, by_id["45"].array_job_id) == ("45", None)  # type: ignore[index]
    assert by_id["45[2]"].array_task_id == 2  # type: ignore[index]
    assert (by_id["45"].state, by_id["45"].name) == (JobState.RUNNING, "arr")  # type: ignore[index]


def test_accounting_ends_and_deletions() -> None:
    lines = recorded("accounting.20261122").stdout.splitlines()
    by_id = {seen.native_id: seen for seen in observe_lines(lines)[0]}
    rerun, deleted, odd = by_id["888"], by_id["887"], by_id["6129"]  # type: ignore[index]
    assert (rerun.state, rerun.start_time) == (
        JobState.DONE,
        datetime(2026, 11, 22, 22, 30, 22, tzinfo=UTC),
    )
    assert (deleted.failure_kind, deleted.usage) == (FailureKind.CANCELLED, None)
    assert (odd.owner, odd.account, odd.state) == ("alice", "proj x=1; user=bob", JobState.DONE)


def test_tracejob_last_run_of_job() -> None:
    full = parse_tracejob(recorded("tracejob.complete").stdout, parse_job_id("850"))
    assert full is not None
    assert (full.exit_code, full.owner, full.name) == (3, "alice", "exit3")
    poor = parse_tracejob(recorded("tracejob.alice").stdout, parse_job_id("850"))
    assert poor is not None
    assert (poor.exit_code, poor.owner) == (3, None)
    assert "server's log" in (poor.state_reason or "")
    rerun = parse_tracejob(recorded("tracejob.rerun").stdout, parse_job_id("888"))
    assert rerun is not None
    assert rerun.start_time == datetime(2026, 11, 22, 22, 30, 22, tzinfo=UTC)
    output = recorded("tracejob.complete").stdout
    for other in ("85", "8500", "850[1]"):
        assert parse_tracejob(output, parse_job_id(other)) is None
    running = recorded("tracejob.running").stdout
    assert parse_tracejob(running, parse_job_id("888")) is None


def _with_key(job_id: int, submit_args: bytes | None) -> bytes:
    more = b"<Variable_List>PBS_O_QUEUE=batch,HPCQ_KEY=%s</Variable_List>" % KEY.encode()
    if submit_args is not None:
        more += b"<submit_args>%s</submit_args>" % submit_args
    return JOB % (job_id, b"alice", more)


def test_key_inherited_with_qsub_v() -> None:
    document = _document(
        _with_key(7, b"-v HPCQ_KEY=%s -N parent" % KEY.encode()),
        _with_key(8, b"-V -N child child.sh"),
        _with_key(9, b"-V -v HPCQ_KEY=hpcq-%s" % (b"b" * 32)),
        _with_key(10, None),
    )
    seen = parse_qstat_xml(document).observations
    assert [one.submission_key for one in seen] == [KEY, None, None, KEY]


@pytest.mark.parametrize(
    "document",
    [
        _document(b"<JobArray><Job_Id>1.vm</Job_Id></JobArray>"),
        _document(JOB % (1, b"a", b""), b"<job id='2.vm'/>"),
        _document(b'<Job state="R"><Job_Id>1.vm</Job_Id></Job>'),
        _document() + _document(b"<Jobs>", JOB % (1, b"a", b""), b"</Jobs>"),
        b"<Data><error>not now</error></Data>",
    ],
)
def test_qstat_unknown_element(document: bytes) -> None:
    with pytest.raises(OutputParseError, match="not known"):
        parse_qstat_xml(document)


def test_qstat_unreadable_names_program() -> None:
    with pytest.raises(OutputParseError, match="/opt/torque/bin/qstat"):
        Reader(None, "/opt/torque/bin/qstat").read(b"Job id  Name  User\n")


@pytest.mark.parametrize(
    ("printed", "stdout", "stderr"),
    [
        (("vm:/a/x.o7", "vm:/a/x.e7", "oe"), "/a/x.o7", "/a/x.o7"),
        (("vm:/a/x.o7", "vm:/a/x.e7", "eo"), "/a/x.e7", "/a/x.e7"),
        (("vm:/a/x.o7", "vm:/a/x.e7", "n"), "/a/x.o7", "/a/x.e7"),
        (("vm:/a:b/x.o7", "/a:b/x.e7", "n"), "/a:b/x.o7", "/a:b/x.e7"),
        (("vm:x.o7", "x.e7", "n"), None, None),
        (("vm:/a/$PBS_JOBID.o", "vm:/a/^array_index^", "n"), None, None),
        (("vm:/a/b$c.o7", "/dev/null", "n"), "/a/b$c.o7", None),
    ],
)
def test_output_paths_filled_in(
    printed: tuple[str, str, str], stdout: str | None, stderr: str | None
) -> None:
    names = ("Output_Path", "Error_Path", "Join_Path")
    more = "".join(f"<{n}>{text}</{n}>" for n, text in zip(names, printed, strict=True))
    (seen,) = parse_qstat_xml(_document(JOB % (7, b"a", more.encode()))).observations
    assert (seen.stdout_path, seen.stderr_path) == (stdout, stderr)


def test_array_job_paths_and_key() -> None:
    document = (
        recorded("qstat-x-t.arrays")
        .stdout.replace(
            b"<Variable_List>PBS_ARRAYID=2,", b"<Variable_List>HPCQ_KEY=%s," % KEY.encode()
        )
        .replace(b"<submit_args>-t 1-3", b"<submit_args>-v HPCQ_KEY=%s -t 1-3" % KEY.encode())
    )
    seen = {one.native_id: one for one in parse_qstat_xml(document).observations}
    second = seen[NativeId("45[2]")]
    assert (second.array_job_id, second.array_task_id) == ("45", 2)
    assert (second.stdout_path, second.stderr_path) == (
        "/home/alice/tq/arr.o45-2",
        "/home/alice/tq/arr.e45-2",
    )
    assert second.submission_key == KEY
    assert seen[NativeId("45")].submission_key == KEY
    assert seen[NativeId("45")].stdout_path is None
