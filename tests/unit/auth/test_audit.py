"""The audit log: what finds no place is told, and no trouble of the disk ends it."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcq.auth.audit import AuditLog
from hpcq.schedulers.testing.waiting import until


class Disk:
    """A disk that takes a line only when it is let go."""

    def __init__(self) -> None:
        self.has_line = threading.Event()
        self.is_free = threading.Event()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    write = AuditLog._write

    def write_when_free(log: AuditLog, line: str) -> None:
        disk.has_line.set()
        disk.is_free.wait()
        write(log, line)

    monkeypatch.setattr(AuditLog, "_write", write_when_free)
    yield disk
    disk.is_free.set()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_audit_log_dropped_lines_counted(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, most_lines=5)
    log.write({"number": 0})
    assert disk.has_line.wait(10)
    for number in range(1, 20):
        log.write({"number": number})
    assert log.dropped == 14
    disk.is_free.set()
    assert until(lambda: len(lines(path)) == 6)
    log.write({"number": 20})
    log.close()
    written = lines(path)
    assert [line["number"] for line in written[:6]] == [0, 1, 2, 3, 4, 5]
    assert written[6]["missing"] == 14
    assert written[7:] == [{"number": 20}]
    assert log.dropped == 14


def test_audit_log_folder_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    log = AuditLog(folder / "audit.jsonl")
    log.write({"number": 1})
    assert until(lambda: len(lines(folder / "audit.jsonl")) == 1)
    os.rename(folder, tmp_path / "away")
    log.write({"number": 2})
    assert until(lambda: '"number":2' in capsys.readouterr().out)
    folder.mkdir()
    log.write({"number": 3})
    log.close()
    assert lines(folder / "audit.jsonl") == [{"number": 3}]


def test_audit_log_rotated(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    log.write({"number": 1})
    assert until(lambda: len(lines(path)) == 1)
    path.rename(tmp_path / "audit.jsonl.1")
    before = os.umask(0)
    try:
        log.write({"number": 2})
        log.close()
    finally:
        os.umask(before)
    assert lines(path) == [{"number": 2}]
    assert path.stat().st_mode & 0o777 == 0o600
