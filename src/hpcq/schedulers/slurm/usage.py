"""The usage of jobs in the answers of sacct and sstat; pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from hpcq.domain.jobs import NativeId, Usage
from hpcq.domain.units import parse_clock
from hpcq.schedulers.slurm import fields
from hpcq.schedulers.slurm.commands import USAGE_COLUMNS

__all__ = ["final_usage", "parse_usage"]


def parse_usage(stdout: bytes, ids: Mapping[str, NativeId], now: datetime) -> dict[NativeId, Usage]:
    """Return what running jobs use.

    Args:
        stdout: what `commands.build_usage` made sstat print, one line per step.
        ids: each job by the number sstat calls it.
        now: when it was asked.

    In sstat's answer TRESUsageInTot is the memory at the last sample, MaxRSS the most that one
    task ever had (seen in 22.05; in sacct's both are the most).
    """
    steps: dict[str, list[Mapping[str, str]]] = {}
    for line in fields.decode(stdout).splitlines():
        values = line.split("|")
        if len(values) == len(USAGE_COLUMNS):
            row = dict(zip(USAGE_COLUMNS, values, strict=True))
            steps.setdefault(row["JobID"].split(".", 1)[0], []).append(row)
    return {ids[raw]: _running_usage(rows, now) for raw, rows in steps.items() if raw in ids}


def final_usage(row: Mapping[str, str], steps: Sequence[Mapping[str, str]]) -> Usage:
    """Return what a job used: the sum of its steps, and the highest of their memory peaks.

    Slurm writes that a job was cancelled before its nodes tell what the steps used, up to a
    second later; of a step that could not be started they never do (seen in 22.05 to 26.11).

    Args:
        row: its record in accounting.
        steps: those of its steps.

    Returns:
        The figures so far, without a time while those of a step are missing.
    """
    measured = [step for step in steps if step["TRESUsageInTot"]]
    return Usage(
        cpu_seconds=_clock(row["TotalCPU"]) if measured else None,
        max_memory_bytes=_highest(measured, "TRESUsageInTot", "mem"),
        io_bytes=_io(measured),
        sampled_at=fields.moment(row["End"]) if len(measured) == len(steps) else None,
    )


def _running_usage(steps: Sequence[Mapping[str, str]], now: datetime) -> Usage:
    totals = [fields.tres(step["TRESUsageInTot"]) for step in steps]
    memory = [m for m in (fields.tres_bytes(total, "mem") for total in totals) if m is not None]
    clocks = [_clock(total["cpu"]) for total in totals if "cpu" in total]
    cpu = [c for c in clocks if c is not None]
    peaks = [fields.tres_bytes({"rss": step["MaxRSS"]}, "rss") for step in steps]
    return Usage(
        cpu_seconds=sum(cpu) if cpu else None,
        memory_bytes=sum(memory) if memory else None,
        max_memory_bytes=max((p for p in peaks if p is not None), default=None),
        io_bytes=_io(steps),
        sampled_at=now,
    )


def _highest(steps: Sequence[Mapping[str, str]], column: str, name: str) -> float | None:
    sizes = (fields.tres_bytes(fields.tres(step[column]), name) for step in steps)
    return max((size for size in sizes if size is not None), default=None)


def _io(steps: Sequence[Mapping[str, str]]) -> float | None:
    columns = ("TRESUsageInTot", "TRESUsageOutTot")
    sizes = [fields.tres_bytes(fields.tres(s[c]), "fs/disk") for s in steps for c in columns]
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def _clock(text: str) -> float | None:
    try:
        return parse_clock(text)
    except ValueError:
        return None
