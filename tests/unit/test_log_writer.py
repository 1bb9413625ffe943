"""A log that nobody reads stops nothing."""

import logging
import os
from collections.abc import Iterator

import pytest

from hpcq.log_writer import LogWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    os.close(ends[0])


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, "", 0, text, None, None)


def read_lines(descriptor: int, last: str) -> list[str]:
    """Return the lines up to one that holds ``last``."""
    with open(descriptor, encoding="utf-8", closefd=False) as stream:
        lines = []
        for line in stream:
            lines.append(line.rstrip("\n"))
            if last in line:
                return lines
    raise AssertionError(f"{last} was not written")


def test_lines_in_order(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    for number in range(100):
        writer.handle(record(f"line {number}"))
    assert read_lines(pipe[0], "line 99") == [f"line {number}" for number in range(100)]


def test_lines_dropped_without_reader(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], most_lines=50)
    # Far more than a pipe holds: this returns all the same.
    for number in range(2000):
        writer.handle(record(f"line {number} {'x' * 1000}"))
    lines: list[str] = []

    def notes() -> list[str]:
        return [line for line in lines if "missing here: nobody read it" in line]

    with open(pipe[0], encoding="utf-8", closefd=False) as stream:
        while len(lines) - len(notes()) < 2000 - writer.dropped:
            lines.append(stream.readline())
        writer.handle(record("again"))
        while "again" not in lines[-1]:
            lines.append(stream.readline())
    missing = sum(int(note.split()[0]) for note in notes())
    assert missing == writer.dropped > 0
    assert missing + len(lines) - len(notes()) - 1 == 2000


def test_reader_closed(pipe: tuple[int, int]) -> None:
    reader, write_end = os.pipe()
    writer = LogWriter(write_end)
    os.close(reader)
    for _ in range(10):
        writer.handle(record("line"))
    writer.flush()


def test_flush_timeout(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], most_lines=10)
    for _ in range(200):
        writer.handle(record("x" * 1000))
    writer.flush()


def test_line_truncated(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    writer.handle(record("x" * 100_000))
    writer.handle(record("end"))
    assert [len(line) for line in read_lines(pipe[0], "end")] == [16_384, 3]
