"""Accounting lines, forged words in them, and logs that grow from day to day."""

from pathlib import Path

import pytest

from hpcq.schedulers.pbs_family.accounting import (
    AccountingLogs,
    parse_accounting_line,
    parse_attributes,
)

END = (
    "user=alice group=users jobname=a;b$c&d<e>'f queue=batch ctime=1 exec_host=vm/0"
    " Exit_status=3 resources_used.cput=0 "
)


def _line(job_id: str, kind: str = "E", more: str = END) -> bytes:
    return f"11/22/2026 22:54:59;{kind};{job_id};{more}\n".encode()


def test_end_record() -> None:
    line = parse_accounting_line(_line("6128.vm"))
    assert (line.moment, line.kind, line.job_id) == ("11/22/2026 22:54:59", "E", "6128.vm")
    assert line.attributes["jobname"] == "a;b$c&d<e>'f"
    assert (line.attributes["user"], line.attributes["Exit_status"]) == ("alice", "3")


@pytest.mark.parametrize(
    "account",
    [
        "proj x=1; user=bob",
        "x jobname=evil queue=other Exit_status=0",
        "a  b",
        "user=bob group=root account=z",
        "ç;;",
    ],
)
def test_end_record_any_account(account: str) -> None:
    text = END.replace(" jobname", f" account={account} jobname")
    plain = parse_attributes(END)
    assert parse_attributes(text) == plain | {"account": account}


def test_deletion_and_empty_record() -> None:
    deleted = parse_accounting_line(_line("840.vm", "D", "requestor=alice@vm"))
    assert deleted.attributes == {"requestor": "alice@vm"}
    assert parse_accounting_line(_line("840.vm", "R", "")).attributes == {}


@pytest.mark.parametrize("line", [b"", b"\n", b"x;E;1;y", b"11/22/2026 22:54:59;E;1", b";;;"])
def test_record_invalid(line: bytes) -> None:
    with pytest.raises(ValueError, match="no accounting record"):
        parse_accounting_line(line)


def test_logs_across_midnight(tmp_path: Path) -> None:
    logs = AccountingLogs(tmp_path)
    (tmp_path / "20261122").write_bytes(_line("1.vm") + _line("2.vm", "S") + _line("11[3].vm"))
    (tmp_path / "README").write_text("no log")
    assert logs.lines(["1", "2", "11", "111"]) == [_line("1.vm")[:-1], _line("11[3].vm")[:-1]]
    with (tmp_path / "20261122").open("ab") as file:
        file.write(_line("3.vm")[:-5])
        file.flush()
        assert logs.lines(["3"]) == []
        file.write(_line("3.vm")[-5:])
    (tmp_path / "20261123").write_bytes(_line("1.vm", "D", "requestor=x"))
    assert [len(logs.lines([number])) for number in ("1", "2", "3")] == [2, 0, 1]


def test_logs_old_files_skipped(tmp_path: Path) -> None:
    (tmp_path / "20261121").write_bytes(_line("1.vm"))
    (tmp_path / "20261122").write_bytes(_line("2.vm") * 3)
    logs = AccountingLogs(tmp_path, first_read_bytes=10)
    assert (len(logs.lines(["1"])), len(logs.lines(["2"]))) == (0, 3)


def test_logs_folder_missing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        AccountingLogs(tmp_path / "absent").lines(["1"])
