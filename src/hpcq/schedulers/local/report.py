"""The report of a shepherd as the service reads it: data of an untrusted source.

A job runs as the account of the service and can change its own run directory. So the service reads
a report through a descriptor from before the job started where it has one, without waiting, up to
a bound, and believes it only if each value is possible. Anything else is no report.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar, cast

import msgspec
from msgspec import Meta

from hpcq.domain.states import FailureKind
from hpcq.schedulers.local.files import (
    LOG,
    LONGEST_REPORT_BYTES,
    REPORT,
    REPORT_DESCRIPTOR,
    Result,
    ShepherdStart,
    UsageSample,
    open_regular,
)
from hpcq.schedulers.local.processes import Process, is_running

__all__ = ["JobReport", "parse_start"]

_LOG_BYTES = 1 << 16
_LINE = 500
_MOST_PROCESSES = 1 << 16
# The files of shepherds of earlier versions, which have no `report.json`.
_OLD_RESULT, _OLD_SAMPLE, _OLD_START = "result.json", "usage.json", "started.json"

# Errors that say nothing about the file.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE}

_Time = Annotated[float, Meta(ge=0, le=1e11)]
_Figure = Annotated[float, Meta(ge=0, le=1e30)]
_Number = Annotated[int, Meta(ge=0, lt=1 << 62)]


class _Sample(msgspec.Struct):
    cpu_seconds: _Figure
    memory_byte_seconds: _Figure | None
    memory_bytes: _Figure | None
    max_memory_bytes: _Figure
    io_bytes: _Figure
    sampled_at: _Time
    processes: Annotated[list[tuple[_Number, _Number]], Meta(max_length=_MOST_PROCESSES)]
    io_wait_seconds: _Figure | None = None


class _Result(msgspec.Struct):
    exit_code: Annotated[int, Meta(ge=0, le=255)] | None
    exit_signal: Annotated[int, Meta(ge=1, le=64)] | None
    failure_kind: FailureKind | None
    reason: Annotated[str, Meta(max_length=8192)] | None
    start_time: _Time | None
    end_time: _Time
    usage: _Sample | None


class _Report(msgspec.Struct):
    sample: _Sample | None = None
    result: _Result | None = None


class _Start(msgspec.Struct):
    pid: Annotated[int, Meta(gt=0, lt=1 << 31)]
    start_ticks: _Number
    boot_id: Annotated[str, Meta(max_length=100)]
    start_time: _Time
    began: _Time | msgspec.UnsetType = msgspec.UNSET
    folder: str | msgspec.UnsetType = msgspec.UNSET
    passes_signals_on: bool = False


_Content = TypeVar("_Content")

# Made while one thread loads this module: msgspec looks at a type when it first meets it, and
# two threads that do so at the same time end the process.
_samples = msgspec.json.Decoder(_Sample)
_results = msgspec.json.Decoder(_Result)
_reports = msgspec.json.Decoder(_Report)
_starts = msgspec.json.Decoder(_Start)


class JobReport:
    """The report of one job.

    Args:
        directory: the run directory.
        descriptor: of the report, to be closed with this; None to look for the file each time.
    """

    def __init__(self, directory: Path, descriptor: int | None = None) -> None:
        self._directory = directory
        self._descriptor = descriptor

    @classmethod
    def of_shepherd(cls, directory: Path, shepherd: Process) -> "JobReport":
        """Return the report of a shepherd that an earlier service has started.

        As long as the shepherd lives, its own descriptor leads to the file, wherever the job has
        put that.
        """
        with suppress(OSError):
            path = f"/proc/{shepherd.pid}/fd/{REPORT_DESCRIPTOR}"
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and is_running(shepherd):
                return cls(directory, descriptor)
            os.close(descriptor)
        return cls(directory)

    @property
    def is_open(self) -> bool:
        """True when reading needs no path."""
        return self._descriptor is not None

    def result(self) -> Result | None:
        """Return the result; None if there is none that can be believed."""
        report = self._report()
        result = report.result or _parse(self._read(_OLD_RESULT), _results)
        return None if result is None else cast(Result, msgspec.to_builtins(result))

    def sample(self) -> UsageSample | None:
        """Return the last sample; None if there is none that can be believed."""
        report = self._report()
        sample = report.sample or _parse(self._read(_OLD_SAMPLE), _samples)
        return None if sample is None else cast(UsageSample, msgspec.to_builtins(sample))

    def old_start(self) -> ShepherdStart | None:
        """Return the mark of a shepherd that an earlier version has started."""
        return parse_start(self._read(_OLD_START))

    def log(self) -> str | None:
        """Return the last line that a shepherd has left which failed itself."""
        lines = self._read(LOG, _LOG_BYTES).decode("ascii", "replace").splitlines()
        return "".join(c if c.isprintable() else "?" for c in lines[-1][:_LINE]) if lines else None

    def close(self) -> None:
        """Let the file go. Harmless when repeated."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _report(self) -> _Report:
        if self._descriptor is None:
            content = self._read(REPORT)
        else:
            content = os.pread(self._descriptor, LONGEST_REPORT_BYTES, 0)
        return _parse(content, _reports) or _Report()

    def _read(self, name: str, most_bytes: int = LONGEST_REPORT_BYTES) -> bytes:
        try:
            descriptor = open_regular(self._directory / name)
        except OSError as error:
            if error.errno in _PASSING:
                raise
            return b""
        try:
            return os.pread(descriptor, most_bytes, 0)
        finally:
            os.close(descriptor)


def parse_start(content: str | bytes | None) -> ShepherdStart | None:
    """Return the identity of a shepherd from its JSON; None if this is none."""
    start = None if content is None else _parse(content, _starts)
    return None if start is None else cast(ShepherdStart, msgspec.to_builtins(start))


def _parse(content: str | bytes, decoder: msgspec.json.Decoder[_Content]) -> _Content | None:
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
