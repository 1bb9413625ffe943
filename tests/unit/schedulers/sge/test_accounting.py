import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.schedulers.sge.recorded import ROOT, recorded

from hpcq.domain.errors import OutputParseError
from hpcq.domain.jobs import Observation, SubmissionKey
from hpcq.domain.states import FailureKind, JobState
from hpcq.domain.units import GIBIBYTE
from hpcq.schedulers.sge.accounting import AccountingFile, parse_accounting_line
from hpcq.schedulers.sge.entries import Entry, memory_specifier, observe
from hpcq.schedulers.sge.qacct import parse_qacct

KEY = SubmissionKey("hpcq-0123456789abcdef0123456789abcdef")


def lines(version: str) -> list[bytes]:
    content = recorded("accounting_file", version).stdout
    return [line for line in content.splitlines() if not line.startswith(b"#")]


def ends(entries: Iterable[Entry]) -> dict[str, list[Observation]]:
    found: dict[str, list[Observation]] = {}
    for seen in observe(entries):
        found.setdefault(str(seen.name), []).append(seen)
    return found


@pytest.fixture(scope="module")
def ended() -> dict[str, list[Observation]]:
    return ends(parse_accounting_line(line) for line in lines("8.1.9"))


@pytest.mark.parametrize(
    ("name", "state", "kind", "code", "signal"),
    [
        ("exit3", JobState.FAILED, FailureKind.NON_ZERO_EXIT, 3, None),
        ("signal", JobState.FAILED, FailureKind.SIGNAL, None, 11),
        ("too_long", JobState.FAILED, FailureKind.TIME_LIMIT, None, 9),
        ("burn", JobState.FAILED, FailureKind.TIME_LIMIT, None, 9),  # h_cpu: failed 100, not 37
        ("deleted", JobState.FAILED, FailureKind.SIGNAL, None, 9),
        ("nodir", JobState.FAILED, FailureKind.SCHEDULER_ERROR, None, None),  # exit status 0
        ("noout", JobState.FAILED, FailureKind.SCHEDULER_ERROR, None, None),
        ("noshell", JobState.FAILED, FailureKind.SCHEDULER_ERROR, None, None),
        ("errstate", JobState.FAILED, FailureKind.NON_ZERO_EXIT, 100, None),
        ("rerun", JobState.DONE, None, 0, None),  # two records, the first with times of 0
        ("resched", JobState.DONE, None, 0, None),  # ended with 99, then with 0
    ],
)
def test_ends_recorded_on_819(
    ended: dict[str, list[Observation]],
    name: str,
    state: JobState,
    kind: FailureKind | None,
    code: int | None,
    signal: int | None,
) -> None:
    (seen,) = ended[name]
    assert (seen.state, seen.failure_kind) == (state, kind)
    assert (seen.exit_code, seen.exit_signal) == (code, signal)
    assert (seen.state_reason is None) == (kind is None)


def test_job_that_never_started_has_no_times_and_no_usage(
    ended: dict[str, list[Observation]],
) -> None:
    (seen,) = ended["nodir"]
    assert (seen.start_time, seen.end_time, seen.usage) == (None, None, None)
    assert "working directory" in (seen.state_reason or "")


def test_unmeasured_figures_are_absent_not_zero(ended: dict[str, list[Observation]]) -> None:
    usage = ended["exit3"][0].usage
    assert usage is not None
    assert (usage.max_memory_bytes, usage.io_bytes) == (None, None)
    assert usage.cpu_seconds is not None


def test_key_and_limits_come_from_the_record(ended: dict[str, list[Observation]]) -> None:
    seen = ended["ok"][-1]
    assert seen.submission_key == KEY
    assert (seen.account, seen.slots, seen.wall_time_limit_seconds) == ("climate", 2, 600)


def test_array_tasks_and_the_array(ended: dict[str, list[Observation]]) -> None:
    by_id = {str(seen.native_id): seen for seen in ended["arr"]}
    assert {i: seen.exit_code for i, seen in by_id.items()} == {
        "25[1]": 1,
        "25[2]": 2,
        "25[3]": 3,
        "25": 1,
    }
    assert by_id["25"].array_job_id == "25"


@pytest.mark.parametrize("case", sorted(p.name for p in (ROOT / "8.1.9").glob("qacct_*")))
def test_qacct_says_what_the_file_says(ended: dict[str, list[Observation]], case: str) -> None:
    output = recorded(case).stdout
    if not output or case == "qacct_task":
        return
    entries, unreadable = parse_qacct(output)
    assert not unreadable
    of_file = {seen.native_id: seen for group in ended.values() for seen in group}
    for seen in observe(entries):
        same = of_file[seen.native_id]
        for field in ("state", "failure_kind", "exit_code", "exit_signal", "start_time"):
            assert getattr(seen, field) == getattr(same, field)
        assert (seen.end_time, seen.submit_time, seen.submission_key, seen.account) == (
            same.end_time,
            same.submit_time,
            same.submission_key,
            same.account,
        )


def test_older_dialect_of_the_file() -> None:
    jobs = ends(parse_accounting_line(line) for line in lines("2011.11"))
    flow = jobs["flow"][0].usage
    assert flow is not None
    assert flow.cpu_seconds == pytest.approx(631414.377)
    assert flow.memory_byte_seconds == pytest.approx(2810232.418 * GIBIBYTE)
    assert jobs["wall"][0].failure_kind is FailureKind.TIME_LIMIT  # failed 100 in this release
    assert jobs["oom"][0].failure_kind is FailureKind.OUT_OF_MEMORY
    assert jobs["colon"][0].state is JobState.DONE  # an account string with a colon
    assert jobs["old61"][0].state is JobState.DONE  # 43 fields


def test_slave_tasks_are_added_to_their_job() -> None:
    (seen,) = ends(parse_accounting_line(line) for line in lines("2011.11"))["mpi"]
    assert seen.usage is not None
    assert seen.usage.cpu_seconds == pytest.approx(350)
    assert seen.usage.max_memory_bytes == 2.5 * GIBIBYTE
    assert seen.hosts == ("node07.cluster", "node09.cluster", "node08.cluster")


def test_number_used_again_gives_both_jobs() -> None:
    entries = [parse_accounting_line(line) for line in lines("2011.11")]
    assert [s.owner for s in observe(entries) if s.native_id == "155"] == ["alice", "bob"]


def test_older_dialect_of_qacct() -> None:
    (entry,), _ = parse_qacct(recorded("qacct_ok", "2011.11").stdout)
    assert entry.cpu_seconds == pytest.approx(631414.377)
    assert entry.max_memory_bytes == pytest.approx(6.2 * GIBIBYTE)
    assert entry.memory_byte_seconds == pytest.approx(2810232.418 * GIBIBYTE)
    assert entry.io_bytes == pytest.approx(12.345 * GIBIBYTE)
    assert entry.started is not None
    assert entry.started.isoformat() == "2024-01-10T10:00:00+00:00"


def test_older_dialect_of_qacct_signal_and_failure() -> None:
    (signal,) = observe(parse_qacct(recorded("qacct_signal", "2011.11").stdout)[0])
    assert (signal.failure_kind, signal.exit_signal) == (FailureKind.SIGNAL, 9)
    (unstarted,) = observe(parse_qacct(recorded("qacct_not_started", "2011.11").stdout)[0])
    assert (unstarted.failure_kind, unstarted.usage) == (FailureKind.SCHEDULER_ERROR, None)
    (again,) = observe(parse_qacct(recorded("qacct_restarted", "2011.11").stdout)[0])
    assert again.state is JobState.DONE
    assert again.usage is not None
    assert again.usage.cpu_seconds == 28000.5


def test_qacct_units_of_819() -> None:
    text = recorded("qacct_ok").stdout
    text = text.replace(b"maxvmem      0.000B", b"maxvmem      106.711MB")
    text = text.replace(b"mem          0.000Bs", b"mem          614.456MBs")
    (entry,), _ = parse_qacct(text)
    assert entry.max_memory_bytes == pytest.approx(106.711 * 2**20)
    assert entry.memory_byte_seconds == pytest.approx(614.456 * 2**20)


def test_one_bad_record_of_qacct_hides_no_other() -> None:
    text = recorded("qacct_array").stdout.replace(b"exit_status  1", b"exit_status  ?", 1)
    entries, unreadable = parse_qacct(text)
    assert (len(entries), len(unreadable)) == (2, 1)


@given(st.binary())
def test_any_bytes_are_records_or_a_parse_error(output: bytes) -> None:
    try:
        parse_qacct(output)
    except OutputParseError:
        return


@given(st.binary())
def test_any_line_is_a_record_or_a_value_error(line: bytes) -> None:
    try:
        parse_accounting_line(line)
    except ValueError:
        return


@given(st.data())
def test_damaged_line_is_a_record_or_a_value_error(data: st.DataObject) -> None:
    fields = data.draw(st.sampled_from(lines("8.1.9"))).split(b":")
    at = data.draw(st.integers(0, len(fields) - 1))
    fields[at] = data.draw(st.binary(max_size=12))
    try:
        observe([parse_accounting_line(b":".join(fields))])
    except ValueError:
        return


def test_memory_specifiers() -> None:
    assert memory_specifier("1G") == 2**30
    assert memory_specifier("1g") == 10**9
    with pytest.raises(ValueError, match="INFINITY"):
        memory_specifier("INFINITY")


Follow = Callable[..., AccountingFile]


@pytest.fixture
def follow() -> Iterator[Follow]:
    with ExitStack() as stack:

        def opened(path: Path, **options: int) -> AccountingFile:
            return stack.enter_context(closing(AccountingFile(path, **options)))

        yield opened


def record(number: int, name: str = "job", account: str = "sge") -> bytes:
    fields = lines("8.1.9")[0].split(b":")
    fields[4:7] = [name.encode(), str(number).encode(), account.encode()]
    return b":".join(fields) + b"\n"


def test_file_is_followed_as_it_grows(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(b"# Version: 8.1.9\n" + record(1))
    followed = follow(path)
    assert [e.number for e in followed.records(["1", "2"])[0]] == ["1"]
    with path.open("ab") as file:
        file.write(record(2))
    assert [e.number for e in followed.records(["1", "2"])[0]] == ["1", "2"]


def test_half_written_last_line_waits_for_its_end(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    whole = record(1)
    path.write_bytes(whole[:50])
    followed = follow(path)
    assert followed.records(["1"]) == ([], [])
    path.write_bytes(whole)
    assert len(followed.records(["1"])[0]) == 1


def test_rotation_is_noticed_and_the_old_end_still_read(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(record(1))
    followed = follow(path)
    followed.records([])
    with path.open("ab") as file:
        file.write(record(2))
    path.rename(tmp_path / "accounting.0")
    path.write_bytes(record(3))
    assert [e.number for e in followed.records(["1", "2", "3"])[0]] == ["1", "2", "3"]


def test_cut_file_is_read_anew(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(record(1) + record(2))
    followed = follow(path)
    followed.records([])
    os.truncate(path, 0)
    with path.open("ab") as file:
        file.write(record(3))
    assert [e.number for e in followed.records(["3"])[0]] == ["3"]


def test_what_lies_before_the_kept_part_is_found_too(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(b"".join(record(n) for n in range(100, 200)))
    followed = follow(path, tail_bytes=1000)
    assert [e.number for e in followed.records(["101", "199", "7"])[0]] == ["101", "199"]
    assert [e.number for e in followed.records(["101"])[0]] == ["101"]


def test_key_is_found_wherever_it_stands(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    content = record(1, account=KEY) + b"".join(record(n) for n in range(2, 90))
    path.write_bytes(content)
    assert follow(path).find(KEY) == "1"
    assert follow(path, tail_bytes=1000).find(KEY) == "1"
    assert follow(path).find(SubmissionKey("hpcq-" + "f" * 32)) is None


def test_missing_file_is_an_os_error(tmp_path: Path, follow: Follow) -> None:
    with pytest.raises(FileNotFoundError):
        follow(tmp_path / "accounting").records(["1"])


def test_unreadable_line_is_reported(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(b":".join(record(1).split(b":")[:20]) + b"\n" + record(1))
    entries, unreadable = follow(path).records(["1"])
    assert (len(entries), len(unreadable)) == (1, 1)
