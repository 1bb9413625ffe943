import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
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
from hpcq.schedulers.sge.accounting_record import AccountingRecord, observe
from hpcq.schedulers.sge.parse import with_arrays
from hpcq.schedulers.sge.qacct import parse_qacct
from hpcq.schedulers.sge.states import Used, memory_specifier, outcome_of

KEY = SubmissionKey("hpcq-0123456789abcdef0123456789abcdef")


def lines(version: str) -> list[bytes]:
    content = recorded("accounting_file", version).stdout
    return [line for line in content.splitlines() if not line.startswith(b"#")]


def ends(entries: Iterable[AccountingRecord]) -> dict[str, list[Observation]]:
    found: dict[str, list[Observation]] = {}
    for seen in with_arrays(observe(entries)):
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
def test_ends_recorded_8_1_9(
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


def test_job_never_started(
    ended: dict[str, list[Observation]],
) -> None:
    (seen,) = ended["nodir"]
    assert (seen.start_time, seen.end_time, seen.usage) == (None, None, None)
    assert "working directory" in (seen.state_reason or "")


def test_usage_unmeasured_figures(ended: dict[str, list[Observation]]) -> None:
    usage = ended["exit3"][0].usage
    assert usage is not None
    assert (usage.max_memory_bytes, usage.io_bytes) == (None, None)
    assert usage.cpu_seconds is not None


def test_key_and_limits(ended: dict[str, list[Observation]]) -> None:
    seen = ended["ok"][-1]
    assert seen.submission_key == KEY
    assert (seen.account, seen.slots, seen.wall_time_limit_seconds) == ("climate", 2, 600)


def test_array_and_tasks(ended: dict[str, list[Observation]]) -> None:
    by_id = {str(seen.native_id): seen for seen in ended["arr"]}
    assert {i: seen.exit_code for i, seen in by_id.items()} == {
        "25[1]": 1,
        "25[2]": 2,
        "25[3]": 3,
        "25": 1,
    }
    assert (by_id["25"].array_job_id, by_id["25"].is_array) == (None, True)


@pytest.mark.parametrize("case", sorted(p.name for p in (ROOT / "8.1.9").glob("qacct_*")))
def test_qacct_same_as_file(ended: dict[str, list[Observation]], case: str) -> None:
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


def test_accounting_older_dialect() -> None:
    jobs = ends(parse_accounting_line(line) for line in lines("6.2u5"))
    flow = jobs["flow"][0].usage
    assert flow is not None
    assert flow.cpu_seconds == pytest.approx(631414.377)
    assert flow.memory_byte_seconds == pytest.approx(2810232.418 * GIBIBYTE)
    assert jobs["wall"][0].failure_kind is FailureKind.TIME_LIMIT  # failed 100 in this release
    assert jobs["oom"][0].failure_kind is FailureKind.OUT_OF_MEMORY
    assert jobs["colon"][0].state is JobState.DONE  # an account string with a colon
    assert jobs["old61"][0].state is JobState.DONE  # 43 fields


def test_slave_tasks_summed() -> None:
    (seen,) = ends(parse_accounting_line(line) for line in lines("6.2u5"))["mpi"]
    assert seen.usage is not None
    assert seen.usage.cpu_seconds == pytest.approx(350)
    assert seen.usage.max_memory_bytes == 2.5 * GIBIBYTE
    assert seen.hosts == ("node07.cluster", "node08.cluster", "node09.cluster")


def entries_of(case: str, version: str = "8.1.9") -> list[AccountingRecord]:
    content = recorded(case, version).stdout
    if case.endswith("accounting") or case.startswith("accounting"):
        return [parse_accounting_line(line) for line in content.splitlines() if line[:1] != b"#"]
    found, unreadable = parse_qacct(content)
    assert not unreadable
    return found


@pytest.mark.parametrize("case", ["slaves_accounting", "slaves_qacct"])
def test_records_overlapping_one_run(case: str) -> None:
    # qacct does not say which records are those of slave tasks
    (seen,) = ends(entries_of(case))["slaves"]
    assert (seen.state, seen.exit_code) == (JobState.FAILED, 7)
    assert seen.start_time is not None
    assert seen.end_time is not None
    assert (seen.end_time - seen.start_time).total_seconds() == 4
    assert seen.usage is not None
    assert seen.usage.cpu_seconds == pytest.approx(0.222, abs=0.001)


@pytest.mark.parametrize("case", ["slaves_accounting", "slaves_killed_qacct"])
def test_records_overlapping_end_of_master(case: str) -> None:
    (seen,) = ends(entries_of(case))["killed"]
    assert (seen.failure_kind, seen.exit_code) == (FailureKind.NON_ZERO_EXIT, 7)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_records_overlapping_any_order(order: tuple[int, ...]) -> None:
    first = entries_of("slaves_qacct")[-1]
    assert first.started is not None
    assert first.ended is not None
    second = timedelta(seconds=1)
    slaves = [
        replace(
            first,
            host=host,
            started=first.started + second,
            ended=first.ended + extra * second,
            exit_status=0,
        )
        for host, extra in (("n1", -1), ("n2", 2))
    ]
    records = [first, *slaves]
    (seen,) = observe([records[at] for at in order])
    assert (seen.exit_code, seen.start_time) == (7, first.started)
    assert seen.end_time == first.ended + 2 * second
    assert seen.hosts is not None
    assert (seen.hosts[0], set(seen.hosts)) == ("vm", {"vm", "n1", "n2"})
    assert seen.usage is not None
    assert seen.usage.cpu_seconds == pytest.approx(3 * first.cpu_seconds)


def test_rerun_last_run() -> None:
    (seen,) = ends(entries_of("accounting_in_turn"))["put_back"]
    assert (seen.state, seen.start_time) == (
        JobState.DONE,
        datetime.fromtimestamp(1795750588, UTC),
    )


def test_array_tasks_in_turn() -> None:
    by_id = {
        str(seen.native_id): seen for seen in ends(entries_of("accounting_in_turn"))["in_turn"]
    }
    assert by_id["2"].start_time == by_id["2[1]"].start_time
    assert by_id["2"].end_time == by_id["2[2]"].end_time


@pytest.mark.parametrize(
    ("name", "kind", "code", "signal"),
    [
        ("perl_s_rt_3", FailureKind.TIME_LIMIT, None, 10),
        ("bash_s_rt_3", FailureKind.TIME_LIMIT, None, 10),
        ("perl_s_cpu_2", FailureKind.TIME_LIMIT, None, 24),
        ("bash_s_cpu_2", FailureKind.TIME_LIMIT, None, 24),
        ("bash_h_cpu_2", FailureKind.TIME_LIMIT, None, 9),
        # The allocation fails, and the program says how it ends.
        ("perl_s_vmem_200M", FailureKind.NON_ZERO_EXIT, 1, None),
        ("bash_h_vmem_200M", FailureKind.NON_ZERO_EXIT, 2, None),
        # The script's own child was killed at the limit; the script ended with 137.
        ("perl_h_cpu_2", FailureKind.NON_ZERO_EXIT, 137, None),
        ("kill9", FailureKind.SIGNAL, None, 9),
        ("killxcpu", FailureKind.SIGNAL, None, 24),
        ("killusr1", FailureKind.SIGNAL, None, 10),
    ],
)
def test_limits_recorded_8_1_9(
    name: str, kind: FailureKind, code: int | None, signal: int | None
) -> None:
    (seen,) = ends(entries_of("accounting_limits"))[name]
    assert (seen.failure_kind, seen.exit_code, seen.exit_signal) == (kind, code, signal)


@pytest.mark.parametrize(
    ("limits", "used", "signal", "kind"),
    [
        ({"s_vmem": 100.0}, Used(memory_bytes=95), 24, FailureKind.OUT_OF_MEMORY),
        ({"s_vmem": 100.0, "s_cpu": 9.0}, Used(cpu_seconds=9), 24, FailureKind.TIME_LIMIT),
        ({"h_vmem": 100.0}, Used(memory_bytes=95), 9, FailureKind.OUT_OF_MEMORY),
        ({"h_vmem": 100.0}, Used(memory_bytes=50), 9, FailureKind.SIGNAL),
        ({"s_rt": 9.0}, Used(wall_seconds=8), 10, FailureKind.SIGNAL),
        ({"s_rt": 9.0}, Used(wall_seconds=10), 9, FailureKind.SIGNAL),
    ],
)
def test_end_by_limit(limits: dict[str, float], used: Used, signal: int, kind: FailureKind) -> None:
    assert outcome_of(100, 128 + signal, used, limits).failure_kind is kind


@pytest.mark.parametrize(
    "category", ["-l cpu=24:00:00", "-l h_rt=1:00:00,h_vmem=2G -pe orte 2", "a:b:1:2:3"]
)
@pytest.mark.parametrize("name", ["slaves", "killed"])
def test_category_with_colons(category: str, name: str) -> None:
    for line in recorded("slaves_accounting").stdout.splitlines():
        fields = line.split(b":")
        if fields[4] != name.encode():
            continue
        plain = parse_accounting_line(line)
        fields[39] = category.encode()
        seen = parse_accounting_line(b":".join(fields))
        assert seen == replace(plain, category=category)


def test_usage_unreadable_figure() -> None:
    fields = recorded("slaves_accounting").stdout.splitlines()[0].split(b":")
    for at in (36, 37, 38, 40, 42):
        broken = b":".join([*fields[:at], b"?", *fields[at + 1 :]])
        assert parse_accounting_line(broken).exit_status == 4
    text = recorded("qacct_exit3").stdout.replace(b"maxvmem      0.000B", b"maxvmem      ?")
    entries, unreadable = parse_qacct(text.replace(b"\ncpu  ", b"\ncpu  x"))
    assert ([entry.exit_status for entry in entries], unreadable) == ([3], [])


def test_job_number_reused() -> None:
    entries = [parse_accounting_line(line) for line in lines("6.2u5")]
    assert [s.owner for s in observe(entries) if s.native_id == "155"] == ["alice", "bob"]


def test_qacct_older_dialect() -> None:
    (entry,), _ = parse_qacct(recorded("qacct_ok", "6.2u5").stdout)
    assert entry.cpu_seconds == pytest.approx(631414.377)
    assert entry.max_memory_bytes == pytest.approx(6.2 * GIBIBYTE)
    assert entry.memory_byte_seconds == pytest.approx(2810232.418 * GIBIBYTE)
    assert entry.io_bytes == pytest.approx(12.345 * GIBIBYTE)
    assert entry.started is not None
    assert entry.started.isoformat() == "2024-01-10T10:00:00+00:00"


def test_qacct_older_dialect_signal_and_failure() -> None:
    (signal,) = observe(parse_qacct(recorded("qacct_signal", "6.2u5").stdout)[0])
    assert (signal.failure_kind, signal.exit_signal) == (FailureKind.SIGNAL, 9)
    (unstarted,) = observe(parse_qacct(recorded("qacct_not_started", "6.2u5").stdout)[0])
    assert (unstarted.failure_kind, unstarted.usage) == (FailureKind.SCHEDULER_ERROR, None)
    (again,) = observe(parse_qacct(recorded("qacct_restarted", "6.2u5").stdout)[0])
    assert again.state is JobState.DONE
    assert again.usage is not None
    assert again.usage.cpu_seconds == 28000.5


def test_qacct_units_8_1_9() -> None:
    text = recorded("qacct_ok").stdout
    text = text.replace(b"maxvmem      0.000B", b"maxvmem      106.711MB")
    text = text.replace(b"mem          0.000Bs", b"mem          614.456MBs")
    (entry,), _ = parse_qacct(text)
    assert entry.max_memory_bytes == pytest.approx(106.711 * 2**20)
    assert entry.memory_byte_seconds == pytest.approx(614.456 * 2**20)


def test_qacct_one_bad_record() -> None:
    text = recorded("qacct_array").stdout.replace(b"exit_status  1", b"exit_status  ?", 1)
    entries, unreadable = parse_qacct(text)
    assert (len(entries), len(unreadable)) == (2, 1)


@given(st.binary())
def test_qacct_any_bytes(output: bytes) -> None:
    try:
        parse_qacct(output)
    except OutputParseError:
        return


@given(st.binary())
def test_accounting_line_any_bytes(line: bytes) -> None:
    try:
        parse_accounting_line(line)
    except ValueError:
        return


@given(st.data())
def test_accounting_line_damaged(data: st.DataObject) -> None:
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


def record(number: int, name: str = "job", account: str = "sge", owner: str | None = None) -> bytes:
    fields = lines("8.1.9")[0].split(b":")
    fields[3] = fields[3] if owner is None else owner.encode()
    fields[4:7] = [name.encode(), str(number).encode(), account.encode()]
    return b":".join(fields) + b"\n"


def test_file_growing(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(b"# Version: 8.1.9\n" + record(1))
    followed = follow(path)
    assert [e.number for e in followed.records(["1", "2"])[0]] == ["1"]
    with path.open("ab") as file:
        file.write(record(2))
    assert [e.number for e in followed.records(["1", "2"])[0]] == ["1", "2"]


def test_file_half_written_line(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    whole = record(1)
    path.write_bytes(whole[:50])
    followed = follow(path)
    assert followed.records(["1"]) == ([], [])
    path.write_bytes(whole)
    assert len(followed.records(["1"])[0]) == 1


def test_file_rotated(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(record(1))
    followed = follow(path)
    followed.records([])
    with path.open("ab") as file:
        file.write(record(2))
    path.rename(tmp_path / "accounting.0")
    path.write_bytes(record(3))
    assert [e.number for e in followed.records(["1", "2", "3"])[0]] == ["1", "2", "3"]


def test_file_truncated(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(record(1) + record(2))
    followed = follow(path)
    followed.records([])
    os.truncate(path, 0)
    with path.open("ab") as file:
        file.write(record(3))
    assert [e.number for e in followed.records(["3"])[0]] == ["3"]


def test_file_before_tail(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(b"".join(record(n) for n in range(100, 200)))
    followed = follow(path, tail_bytes=1000)
    assert [e.number for e in followed.records(["101", "199", "7"])[0]] == ["101", "199"]
    assert [e.number for e in followed.records(["101"])[0]] == ["101"]


def test_find_key_anywhere(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    content = record(1, account=KEY) + b"".join(record(n) for n in range(2, 90))
    path.write_bytes(content)
    assert follow(path).find(KEY) == "1"
    assert follow(path, tail_bytes=1000).find(KEY) == "1"
    assert follow(path).find(SubmissionKey("hpcq-" + "f" * 32)) is None


def test_find_key_of_other_owner(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(record(1, account=KEY, owner="eve") + record(2, account=KEY, owner="ana"))
    assert follow(path).find(KEY, "ana") == "2"
    assert follow(path).find(KEY, "bob") is None


def test_file_missing(tmp_path: Path, follow: Follow) -> None:
    with pytest.raises(FileNotFoundError):
        follow(tmp_path / "accounting").records(["1"])


def test_file_unreadable_line(tmp_path: Path, follow: Follow) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(b":".join(record(1).split(b":")[:20]) + b"\n" + record(1))
    entries, unreadable = follow(path).records(["1"])
    assert (len(entries), len(unreadable)) == (1, 1)
