"""The output of ``qstat``, also with hostile content of users, as observations."""

import re
from datetime import UTC, datetime

import pytest
from tests.fakebin.pbs.output import render_dsv
from tests.unit.schedulers.pbs.recorded import DELIMITER, as_dsv, cases, recorded

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import NativeId
from hpcq.domain.states import FailureKind, JobState, ReasonCode, Stage
from hpcq.schedulers.pbs.arrays import with_tasks
from hpcq.schedulers.pbs.parse import Answer, Reader, read_text
from hpcq.schedulers.pbs.qstat_job import Record, record_of

_PRINTED_ID = re.compile(rb'^(?:Job Id: |\t\t")([0-9]+(?:\[[0-9]*\])?)\.pbshead\b', re.M)
_ID = re.compile(rb"^Job Id: ([0-9]+(?:\[[0-9]*\])?)\.pbshead$", re.M)
_NOW = datetime(2026, 11, 22, 21, 57, 37, tzinfo=UTC)
_KEY = "hpcq-00000000000000000000000000000001"


_MIXED = as_dsv(recorded("qstat-f-json.mixed").stdout)


def _dsv(output: bytes, owner: str | None = "alice", delimiter: str = DELIMITER) -> Answer:
    return Reader(owner).read(output, delimiter, _NOW)


def _read(case: str, version: str = "2026.04") -> Answer:
    """Read a recording, in the delimiter format as it is."""
    real = recorded(case, version)
    if "json" in real.argv:
        return _dsv(as_dsv(real.stdout))
    return _dsv(real.stdout, delimiter=real.argv[real.argv.index("-D") + 1])


def _only(case: str, version: str = "2026.04") -> Record:
    answer = _read(case, version)
    assert not answer.unreadable
    (record,) = answer.records
    return record


@pytest.mark.parametrize(
    ("case", "version"),
    [
        *(
            c
            for c in cases("qstat", "-f", "json", version="2026.04")
            if "-Q" not in recorded(*c).argv and b"E_HUGE" not in recorded(*c).stdout
        ),
        *cases("qstat", "-f", "dsv", "-D"),
    ],
)
def test_qstat_dsv_all_jobs(case: str, version: str) -> None:
    answer = _read(case, version)
    assert not answer.unreadable
    printed = _PRINTED_ID.findall(recorded(case, version).stdout)
    assert [r.observation.native_id for r in answer.records] == [
        number.decode().replace("[]", "") for number in printed
    ]
    for record in answer.records:
        seen = record.observation
        assert seen.state is not JobState.UNDETERMINED
        assert (seen.owner, seen.name is not None) == ("alice", True)
        assert seen.submit_time is not None


@pytest.mark.parametrize(
    ("case", "version"),
    [c for c in cases("qstat", "-f") if not {"json", "dsv", "-Q"} & set(recorded(*c).argv)],
)
def test_qstat_text_all_jobs(case: str, version: str) -> None:
    output = recorded(case, version).stdout
    forged = {b"1"} if "injected" in case else set()
    known = [f"{n.decode()}.pbshead" for n in _ID.findall(output) if n not in forged]
    answer = read_text(output, known, "alice", None)
    assert not answer.unreadable
    assert len(answer.records) == len(known)
    assert all(r.observation.state is not JobState.UNDETERMINED for r in answer.records)


@pytest.mark.parametrize("case", ["qstat-Q-f", "pbsnodes-a", "tracejob.finished-ok"])
def test_qstat_text_other_heading(case: str) -> None:
    output = recorded(case).stdout
    assert output
    for known in ([], None, ["36.pbshead"]):
        with pytest.raises(OutputParseError, match="/opt/pbs/bin/qstat"):
            read_text(output, known, "alice", None, command="/opt/pbs/bin/qstat")
    assert read_text(b"", [], "alice", None) == read_text(b"\n", [], "alice", None)


@pytest.mark.parametrize(
    ("case", "letter", "state", "stage"),
    [
        ("qstat-f-json.queued", "Q", JobState.QUEUED, None),
        ("qstat-f-json.queued-never-run", "Q", JobState.QUEUED, None),
        ("qstat-f-json.held", "H", JobState.QUEUED_HELD, None),
        ("qstat-f-json.held-by-dependency", "H", JobState.QUEUED_HELD, None),
        ("qstat-f-json.waiting", "W", JobState.QUEUED, None),
        ("qstat-f-json.running", "R", JobState.RUNNING, None),
        ("qstat-f-json.running-but-mom-down", "R", JobState.RUNNING, None),
        ("qstat-f-json.suspended", "S", JobState.SUSPENDED, None),
        ("qstat-f-json.exiting", "E", JobState.RUNNING, Stage.EXITING),
        ("qstat-f-json.array-begun", "B", JobState.RUNNING, None),
        ("qstat-f-json.array-held", "H", JobState.QUEUED_HELD, None),
    ],
)
def test_state_letters(case: str, letter: str, state: JobState, stage: Stage | None) -> None:
    record = _only(case)
    seen = record.observation
    assert (seen.native_state, seen.state, seen.stage) == (letter, state, stage)
    assert not record.is_over
    assert (seen.exit_code, seen.end_time) == (None, None)


@pytest.mark.parametrize(
    ("case", "code", "native"),
    [
        (
            "qstat-f-json.queued",
            ReasonCode.WAITING_FOR_RESOURCES,
            "Not Running: Insufficient amount of resource: ncpus (R: 8 A: 3 T: 8)",
        ),
        (
            "qstat-f-json.queued-never-run",
            ReasonCode.CANNOT_RUN,
            "Can Never Run: Insufficient amount of resource: ncpus (R: 100 A: 8 T: 8)",
        ),
        ("qstat-f-json.held", ReasonCode.HELD_BY_USER, None),
        ("qstat-f-json.held-by-dependency", ReasonCode.WAITING_FOR_DEPENDENCY, None),
        ("qstat-f-json.waiting", ReasonCode.NOT_BEFORE_TIME, None),
    ],
)
def test_reason_codes(case: str, code: ReasonCode, native: str | None) -> None:
    seen = _only(case).observation
    assert (seen.reason_code, seen.native_reason) == (code, native)


@pytest.mark.parametrize("text", ["Sun Nov 22 22:30:00 2026", "1795386600"])
def test_start_estimate_in_details_only(text: str) -> None:
    told = {"job_state": "Q", "estimated.start_time": text}
    record = record_of("36.pbshead", told, None, None)
    assert record.observation.start_estimate is None
    assert record.complete.start_estimate == datetime(2026, 11, 22, 22, 30, tzinfo=UTC)
    running = record_of("36.pbshead", {**told, "job_state": "R"}, None, None)
    assert running.complete.start_estimate is None


@pytest.mark.parametrize(
    ("case", "state", "kind", "code", "signal"),
    [
        ("finished-ok", JobState.DONE, None, 0, None),
        ("finished-exit3", JobState.FAILED, FailureKind.NON_ZERO_EXIT, 3, None),
        ("finished-exit255", JobState.FAILED, FailureKind.NON_ZERO_EXIT, 255, None),
        ("finished-signal9", JobState.FAILED, FailureKind.SIGNAL, None, 9),
        ("after-qsig-TERM", JobState.FAILED, FailureKind.SIGNAL, None, 15),
        ("finished-walltime-killed", JobState.FAILED, FailureKind.TIME_LIMIT, None, None),
        ("finished-deleted-running", JobState.FAILED, FailureKind.CANCELLED, None, 15),
        ("finished-deleted-ignoring-TERM", JobState.FAILED, FailureKind.CANCELLED, None, 9),
        ("finished-deleted-queued", JobState.FAILED, FailureKind.CANCELLED, None, None),
        ("finished-deleted-held", JobState.FAILED, FailureKind.CANCELLED, None, None),
        ("subjob-X-exit7", JobState.FAILED, FailureKind.NON_ZERO_EXIT, 7, None),
        ("dep-afterok-of-failed", JobState.FAILED, FailureKind.CANCELLED, None, None),
    ],
)
def test_ended_jobs(
    case: str, state: JobState, kind: FailureKind | None, code: int | None, signal: int | None
) -> None:
    record = _only(f"qstat-x-f-json.{case}")
    seen = record.complete
    assert record.is_over
    assert (seen.state, seen.failure_kind) == (state, kind)
    assert (seen.exit_code, seen.exit_signal) == (code, signal)
    assert seen.end_time is not None
    assert (seen.state_reason is None) == (state is JobState.DONE)


def test_output_not_delivered() -> None:
    seen = _only("qstat-x-f-json.output-dir-not-writable").observation
    assert seen.state is JobState.DONE
    assert seen.state_reason == "Its output files could not be delivered."


def test_running_job_fields() -> None:
    record = _only("qstat-f-json.running")
    seen = record.observation
    assert (seen.native_id, seen.name, seen.owner, seen.queue) == ("36", "runjob", "alice", "workq")
    assert (seen.slots, seen.hosts) == (2, ("pbshead",))
    assert (seen.memory_limit_bytes, seen.wall_time_limit_seconds) == (100 << 20, 600)
    assert seen.submit_time == datetime(2026, 11, 22, 21, 57, 10, tzinfo=UTC)
    assert seen.start_time == datetime(2026, 11, 22, 21, 57, 10, tzinfo=UTC)
    assert seen.working_directory == "/home/alice"
    assert seen.stdout_path == "/home/alice/runjob.o36"


def test_usage_sampled_at() -> None:
    (record,) = [r for r in _read("qstat-f-json.mixed").records if r.observation.native_id == "36"]
    assert record.usage is not None
    assert (record.usage.cpu_seconds, record.usage.max_memory_bytes) == (0, 4312 << 10)
    assert record.usage.sampled_at == datetime(2026, 11, 22, 21, 57, 37, tzinfo=UTC)


def test_array_tasks() -> None:
    whole, *tasks = _read("qstat-t-f-json.array-partly-done").records
    assert (whole.is_array, whole.observation.native_id) == (True, "5283")
    assert [t.observation.native_id for t in tasks] == [f"5283[{n}]" for n in range(1, 5)]
    assert {t.observation.array_job_id for t in tasks} == {"5283"}
    assert [t.observation.array_task_id for t in tasks] == [1, 2, 3, 4]
    assert [t.is_over for t in tasks] == [True, True, False, False]


@pytest.mark.parametrize("name", ["1e5", "12345", "007", "1e999", "true", "null"])
def test_job_name_like_number(name: str) -> None:
    output = _MIXED.replace(b"=runjob\x1f", f"={name}\x1f".encode())
    (seen,) = [r.observation for r in _dsv(output).records if r.observation.native_id == "36"]
    assert seen.name == name


def test_dsv_and_text_same_values() -> None:
    """Newlines and backslashes included; only the text lets a variable make up a job."""
    for case in ("mixed", "environments"):
        delimited = _read(f"qstat-f-dsv.{case}", "23.06.06").records
        text = recorded(f"qstat-f.{case}", "23.06.06").stdout
        known = [f"{name.decode()}.pbshead" for name in _ID.findall(text)]
        assert list(delimited) == list(read_text(text, known, "alice", _NOW).records)


def test_dsv_newline_and_delimiter_in_value() -> None:
    answer = _read("qstat-f-dsv.environments", "23.06.06")
    assert b"\\nJob Id: 1.x" in recorded("qstat-f-dsv.environments", "23.06.06").stdout
    assert {r.observation.state for r in answer.records} == {JobState.QUEUED_HELD}
    injected = recorded("qstat-f-dsv.injected-newlines").stdout
    (record,) = _dsv(injected.replace(b"|", DELIMITER.encode())).records
    assert record.observation.state is JobState.QUEUED_HELD


def test_depends_on_direction() -> None:
    assert _only("qstat-f-json.held-by-dependency").observation.depends_on == ("36",)
    assert _only("qstat-f-json.running-with-dependent").observation.depends_on is None


def test_dsv_empty() -> None:
    assert _dsv(b"") == _dsv(b"\n") == Answer((), ())


@pytest.mark.parametrize("cut", [1, 10, 100, 5000, -2])
def test_dsv_truncated(cut: int) -> None:
    with pytest.raises(OutputParseError):
        _dsv(_MIXED.rstrip()[:cut])


@pytest.mark.parametrize(
    "output",
    [
        b"Welcome to the front end!\n",
        b'{\n\t"timestamp":\t1\n}\n',
        b"Job Id: 1.s\n    job_state = R\n\n",
        b"Job Id: 1.s|Job_Name=n|job_state=R\n",
    ],
)
def test_dsv_other_format(output: bytes) -> None:
    with pytest.raises(OutputParseError, match="no line begins with 'Job Id: ' and an id"):
        _dsv(output)


def test_dsv_noise_before_jobs() -> None:
    greeting = b"Welcome to the front end!\n"
    assert _dsv(greeting + _MIXED) == _dsv(_MIXED)


_PLACE = b"PBS_O_SYSTEM=Linux"


@pytest.mark.parametrize(
    "value",
    [
        rb"a\q b",
        rb"C:\\temp\\new",
        b"",
        b"\x01\x02\x1b\x1f",
        b"caf\xe9 \xff\xfe",
        b"tab\there",
        b"line\nbreak",
        b"\nJob Id: 1.pbshead",
        b"\nJob Id: 1.pbshead|Job_Name=forged|job_state=F",
        b"^\nJob Id: 36.pbshead\n    job_state = F",
        b"\n\nJob Id: 36.pbshead\x1f0123456789abcdee\x1fJob_Name=forged",
        rb"end\\",
        b"x" * 1_000_000,
        b"\0",
    ],
)
def test_dsv_odd_value(value: bytes) -> None:
    answer = _dsv(_MIXED.replace(_PLACE, b"PBS_O_SYSTEM=" + value, 1))
    assert answer == _dsv(_MIXED)


def test_dsv_careted_newline() -> None:
    """The release of June 2023 prints the byte 0xCA so: here in ``/d/\u028a`` and after a key."""
    told = [("Job_Name", "n"), ("job_state", "Q"), ("Error_Path", "h:/d/\u028aJob Id: 1.s")]
    output = render_dsv("Job Id: 2.s", told, DELIMITER, release=True).encode(
        "utf-8", "surrogateescape"
    )
    assert b"\n" in output.rstrip()
    (record,) = _dsv(output).records
    assert (record.observation.native_id, record.observation.stderr_path) == (
        "2",
        "/d/\u028aJob Id: 1.s",
    )


def test_dsv_duplicate_id() -> None:
    first = _MIXED[: _MIXED.index(b"\n") + 1]
    answer = _dsv(_MIXED + first)
    assert len(answer.unreadable) == 2
    assert len(answer.records) == len(_dsv(_MIXED).records) - 1


def test_text_forged_records() -> None:
    output = recorded("qstat-f.injected-newlines").stdout
    answer = read_text(output, ["5291.pbshead"], "alice", None)
    (record,) = answer.records
    assert record.observation.native_id == "5291"
    assert record.observation.state is JobState.QUEUED_HELD


def _submitted_with_key(output: bytes) -> bytes:
    """Return an answer in which every job's command line has the key."""
    return output.replace(b"Submit_arguments=", b"Submit_arguments=-v HPCQ_KEY=%b " % _KEY.encode())


def test_key_of_own_account_only() -> None:
    output = _submitted_with_key(_MIXED.replace(_PLACE, f"HPCQ_KEY={_KEY}".encode()))
    for owner, key in (("alice", _KEY), (None, _KEY), ("bob", None)):
        keys = {r.observation.submission_key for r in _dsv(output, owner).records}
        assert keys == {key}


def test_key_inherited_by_child() -> None:
    """The child was submitted with ``qsub -V``: the key is in its environment alone."""
    child = _MIXED.replace(_PLACE, f"HPCQ_KEY={_KEY}".encode())
    assert _KEY.encode() in child
    keys = {r.observation.submission_key for r in _dsv(child).records}
    assert keys == {None}


def test_key_after_empty_variable() -> None:
    """The writer of JSON of 23.06 put it into that one's value."""
    output = _MIXED.replace(_PLACE, f"EMPTY=,HPCQ_KEY={_KEY}".encode())
    assert {r.observation.submission_key for r in _dsv(_submitted_with_key(output)).records} == {
        _KEY
    }


def test_reader_unchanged_same_object() -> None:
    reader = Reader("alice")
    first = reader.read(_MIXED, DELIMITER, _NOW, remember=True)
    other = _MIXED.replace(DELIMITER.encode(), b"another")
    again = reader.read(other, "another", _NOW, remember=True)
    assert all(a is b for a, b in zip(first.records, again.records, strict=True))


@pytest.mark.parametrize("text", ["", "45[]", "all", "workq", "-1", "45[].pbshead"])
def test_native_id_of_several_jobs(text: str) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        NativeId(text)


@pytest.mark.parametrize("case", ["qstat-f", "qstat-f-dsv"])
def test_path_with_special_characters(case: str) -> None:
    output = recorded(f"{case}.long-workdir.LANG-C").stdout
    if "dsv" in case:
        (record,) = _dsv(output, delimiter="|").records
    else:
        (record,) = read_text(output, None, "alice", None).records
    directory = record.observation.working_directory
    assert directory is not None
    assert directory.endswith("/a_rather_long_directory_name_07/with space, comma/größe_☃_ende")
    assert record.observation.stdout_path == f"{directory}/longwd.o76"


def test_path_of_release() -> None:
    seen = [r.observation for r in _read("qstat-f-dsv.mixed", "23.06.06").records]
    assert "/var/tmp/dsv/ç a|b" in {job.working_directory for job in seen}


@pytest.mark.parametrize(
    "path",
    ["/a/^array_index^", "/a/b^'c", "relative", "", "/a/\ufffd"],
)
def test_path_invalid(path: str) -> None:
    job = {
        "job_state": "R",
        "Output_Path": f"host:{path}",
        "Variable_List": f"PBS_O_WORKDIR={path}",
    }
    record = record_of("7.s", job, None, None)
    assert record.observation.stdout_path is None
    assert record.observation.working_directory is None


def test_array_hosts_and_usage_from_tasks() -> None:
    records = with_tasks(_read("qstat-t-f-json.array-begun").records)
    whole, *tasks = records
    assert (whole.is_array, whole.observation.hosts) == (True, ("pbshead",))
    assert whole.observation.stdout_path is None
    usages = [task.usage for task in tasks if task.usage is not None]
    assert whole.usage is not None
    assert len(usages) == 3
    assert whole.usage.max_memory_bytes == max(u.max_memory_bytes or 0 for u in usages) > 0
    assert [task.observation.stdout_path for task in tasks] == [
        f"/home/alice/arr.o32.{number}" for number in (1, 2, 3)
    ]
