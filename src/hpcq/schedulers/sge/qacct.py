"""``qacct -j``: accounting records as text, in the dialects of 8.1.9 and of 6.2 / 2011.11."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from hpcq.domain.errors import OutputParseError, excerpt
from hpcq.domain.jobs import NativeId
from hpcq.domain.units import GIBIBYTE, parse_size
from hpcq.schedulers.base import ParseFailure
from hpcq.schedulers.sge.accounting_record import AccountingRecord

__all__ = ["parse_qacct"]

_SEPARATOR = re.compile(rb"^={20,}[ \t]*\r?$", re.MULTILINE)
# What stands behind the records when they were selected by account.
_TOTALS = re.compile(
    rb"^(?:Total System Usage|[A-Z]*[ \t]+WALLCLOCK[ \t]).*", re.MULTILINE | re.DOTALL
)
_LEADING_INTEGER = re.compile(r"-?[0-9]+")
_NOTHING = frozenset({"", "NONE", "undefined", "-/-", "UNKNOWN"})

_DATE_FORMATS = (
    "%a %b %d %H:%M:%S %Y",  # 6.2, 2011.11, 8.1.9
    "%m/%d/%Y %H:%M:%S.%f",  # Univa 8.2 and newer
    "%m/%d/%Y %H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f",
    "%Y-%m-%d %H:%M:%S",
)


def parse_qacct(output: bytes) -> tuple[list[AccountingRecord], list[ParseFailure]]:
    """Return the records, in the order printed, and those that could not be read.

    8.1.9 prints units (``cpu 22.465s``, ``mem 614.456MBs``, ``io 1.681MB``), with multiples of
    1024; 6.2 and 2011.11 print bare seconds, GB x seconds and GB, and a letter after ``maxvmem``.
    Both are told apart value by value, never by version.

    Args:
        output: what ``qacct -j ID`` printed with ``TZ=UTC``.

    Raises:
        OutputParseError: there is no record in it, and it does not say that there is none.
    """
    text, totals = _TOTALS.subn(b"", output, count=1)
    blocks = _SEPARATOR.split(text)[1:]
    if not blocks and not totals:
        raise OutputParseError("qacct", "there is no record in it", output)
    records, unreadable = [], []
    for block in blocks:
        lines = block.decode("utf-8", "replace").splitlines()
        fields = dict(_pair(line) for line in lines if line.strip())
        try:
            records.append(_record(fields))
        except (KeyError, ValueError) as error:
            unreadable.append(
                ParseFailure(reason=f"{type(error).__name__}: {error}", excerpt=excerpt(block))
            )
    return records, unreadable


def _pair(line: str) -> tuple[str, str]:
    name, *rest = line.split(None, 1)
    return name, rest[0].strip() if rest else ""


def _record(fields: Mapping[str, str]) -> AccountingRecord:
    number = NativeId(fields["jobnumber"])
    task = fields.get("taskid", "undefined")
    return AccountingRecord(
        number=number,
        task=int(task) if task.isdecimal() and task != "0" else None,
        is_slave=_known(fields.get("pe_taskid")) is not None,
        queue=_known(fields.get("qname")),
        host=_known(fields.get("hostname")),
        owner=_known(fields.get("owner")),
        name=fields.get("jobname") or None,
        account=_known(fields.get("account")),
        project=_known(fields.get("project")),
        submitted=_date(fields.get("qsub_time")),
        started=_date(fields.get("start_time")),
        ended=_date(fields.get("end_time")),
        failed=_integer(fields["failed"]),
        exit_status=_integer(fields["exit_status"]),
        slots=max(1, _integer(fields.get("slots", "1"))),
        cpu_seconds=_seconds(fields.get("cpu", "0")),
        memory_byte_seconds=_bytes(fields.get("mem", "0"), bare=GIBIBYTE),
        io_bytes=_bytes(fields.get("io", "0"), bare=GIBIBYTE),
        io_wait_seconds=_seconds(fields.get("iow", "0")),
        max_memory_bytes=_bytes(fields.get("maxvmem", "0"), bare=1),
        category=_known(fields.get("category")) or "",
    )


def _known(text: str | None) -> str | None:
    return None if text is None or text in _NOTHING else text


def _integer(text: str) -> int:
    """Return the number that a field begins with: ``100 : assumedly after job``.

    Raises:
        ValueError: it begins with none.
    """
    match = _LEADING_INTEGER.match(text)
    if match is None:
        raise ValueError(f"not a number: {text!r}")
    return int(match[0])


def _seconds(text: str) -> float:
    """Return seconds; 0, as of what was not measured, for a figure that cannot be read."""
    with suppress(ValueError):
        value = float(text.removesuffix("s"))
        return value if 0 <= value < 1e15 else 0.0
    return 0.0


def _bytes(text: str, *, bare: int) -> float:
    """Return bytes (or byte seconds), as `_seconds` does.

    A number without any unit counts ``bare`` bytes each.
    """
    for read in (lambda text: float(text) * bare, parse_size):
        with suppress(ValueError):
            value = read(text)
            return value if 0 <= value < 1e30 else 0.0
    return 0.0


def _date(text: str | None) -> datetime | None:
    if text is None or text in _NOTHING:
        return None
    for pattern in _DATE_FORMATS:
        try:
            moment = datetime.strptime(text, pattern).replace(tzinfo=UTC)
        except ValueError:
            continue
        return moment if moment.year > 1970 else None
    return None
