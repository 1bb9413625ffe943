from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain.units import (
    GIBIBYTE,
    format_clock,
    format_time,
    from_epoch,
    gibibytes,
    parse_clock,
    parse_size,
)

SIZES = [
    ("7", 7.0),
    ("12kb", 12 * 2**10),  # Torque, resources_used
    ("1.5G", 1.5 * 2**30),  # qacct of 6.2
    ("614.456MBs", 614.456 * 2**20),  # qacct of 8.1.9: "mem"
    ("106.711MB", 106.711 * 2**20),
    ("6.2G", 6.2 * 2**30),
    ("500M", 500 * 2**20),
    ("2T", 2 * 2**40),
    ("1 GB", 2.0**30),
    (" 3K\n", 3 * 2**10),
    ("1GiB", 2.0**30),
]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_size_scheduler_formats(text: str, size: float) -> None:
    assert parse_size(text) == pytest.approx(size)


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "1,5G", "0x10", "nan", "inf", "1e3", "٣", "1G2", "UNLIMITED"]
)
def test_size_invalid(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


CLOCKS = [
    ("0", 0.0),
    ("59", 59.0),
    ("01:02", 62.0),
    ("1:02:03", 3723.0),
    ("720:00:00", 720 * 3600.0),  # hours without a bound
    ("2-03:04:05", 2 * 86400 + 3 * 3600 + 4 * 60 + 5.0),  # Slurm
    ("00:00.041", 0.041),  # sacct's TotalCPU
    (" 10:00 ", 600.0),
]


@pytest.mark.parametrize(("text", "seconds"), CLOCKS)
def test_duration_scheduler_formats(text: str, seconds: float) -> None:
    assert parse_clock(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", ":", "1:", "-1", "1:2:3:4", "UNLIMITED", "INVALID", "\u0661:\u0660\u0660", "1-", "1e3"],
)
def test_duration_invalid(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_clock(text)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "9" * 400 + ":00:00.5"])
def test_duration_hundreds_of_digits(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_clock(text)


@given(st.text())
def test_parsers_raise_value_error_only(text: str) -> None:
    for parse in (parse_size, parse_clock):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert "not a" in str(error)


@given(st.integers(min_value=0, max_value=10**9))
def test_duration_round_trip(seconds: int) -> None:
    assert parse_clock(format_clock(seconds)) == seconds


@given(st.integers(min_value=0, max_value=2**50), st.sampled_from(["", "K", "kb", "M", "g", "T"]))
def test_size_whole_exact(count: int, unit: str) -> None:
    power = " kmgt".index(unit[:1].lower() or " ")
    assert parse_size(f"{count}{unit}") == count * 1024**power


@pytest.mark.parametrize(
    "seconds", [None, 0, -1, float("nan"), float("inf"), 2**63, 4294967294 * 100]
)
def test_epoch_never(seconds: float | None) -> None:
    assert from_epoch(seconds) is None


@given(st.floats(min_value=1e-6, max_value=253402300799))
def test_epoch_aware_utc(seconds: float) -> None:
    moment = from_epoch(seconds)
    assert moment is not None
    assert moment.tzinfo is UTC
    assert moment.timestamp() == pytest.approx(seconds, abs=1e-4)


def test_time_format_rfc_3339() -> None:
    moment = datetime(2024, 1, 11, 8, 15, 53, 999_999, tzinfo=timezone(timedelta(hours=-3)))
    assert format_time(moment) == "2024-01-11T11:15:53.999Z"


@given(
    st.datetimes(
        min_value=datetime(1970, 1, 2),
        max_value=datetime(9999, 12, 30),
        timezones=st.timezones(),
    )
)
def test_time_format_same_moment(moment: datetime) -> None:
    read = datetime.fromisoformat(format_time(moment))
    assert timedelta(0) <= moment - read < timedelta(milliseconds=1)


def test_time_format_naive_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        format_time(datetime(2024, 1, 11))


def test_size_unknown() -> None:
    assert gibibytes(None) is None
    assert gibibytes(0) == 0
    assert gibibytes(3 * GIBIBYTE) == 3
