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
def test_sizes_are_read_as_schedulers_print_them(text: str, size: float) -> None:
    assert parse_size(text) == pytest.approx(size)


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "1,5G", "0x10", "nan", "inf", "1e3", "٣", "1G2", "UNLIMITED"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
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
def test_durations_are_read_as_schedulers_print_them(text: str, seconds: float) -> None:
    assert parse_clock(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", ":", "1:", "-1", "1:2:3:4", "UNLIMITED", "INVALID", "\u0661:\u0660\u0660", "1-", "1e3"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_clock(text)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "9" * 400 + ":00:00.5"])
def test_a_duration_of_hundreds_of_digits_is_refused_and_does_not_overflow(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_clock(text)


@given(st.text())
def test_parsers_of_units_raise_nothing_but_value_errors(text: str) -> None:
    for parse in (parse_size, parse_clock):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert "not a" in str(error)


@given(st.integers(min_value=0, max_value=10**9))
def test_durations_survive_printing_and_reading(seconds: int) -> None:
    assert parse_clock(format_clock(seconds)) == seconds


@given(st.integers(min_value=0, max_value=2**50), st.sampled_from(["", "K", "kb", "M", "g", "T"]))
def test_whole_sizes_are_exact(count: int, unit: str) -> None:
    power = " kmgt".index(unit[:1].lower() or " ")
    assert parse_size(f"{count}{unit}") == count * 1024**power


@pytest.mark.parametrize(
    "seconds", [None, 0, -1, float("nan"), float("inf"), 2**63, 4294967294 * 100]
)
def test_never_is_no_time(seconds: float | None) -> None:
    assert from_epoch(seconds) is None


@given(st.floats(min_value=1e-6, max_value=253402300799))
def test_epoch_seconds_are_aware_utc(seconds: float) -> None:
    moment = from_epoch(seconds)
    assert moment is not None
    assert moment.tzinfo is UTC
    assert moment.timestamp() == pytest.approx(seconds, abs=1e-4)


def test_times_are_printed_as_rfc_3339_in_utc_with_milliseconds() -> None:
    moment = datetime(2024, 1, 11, 8, 15, 53, 999_999, tzinfo=timezone(timedelta(hours=-3)))
    assert format_time(moment) == "2024-01-11T11:15:53.999Z"


@given(
    st.datetimes(
        min_value=datetime(1970, 1, 2),
        max_value=datetime(9999, 12, 30),
        timezones=st.timezones(),
    )
)
def test_printed_times_mean_the_same_moment(moment: datetime) -> None:
    read = datetime.fromisoformat(format_time(moment))
    assert timedelta(0) <= moment - read < timedelta(milliseconds=1)


def test_a_naive_time_is_not_put_on_the_wire() -> None:
    with pytest.raises(ValueError, match="zone"):
        format_time(datetime(2024, 1, 11))


def test_an_unknown_size_stays_unknown() -> None:
    assert gibibytes(None) is None
    assert gibibytes(0) == 0
    assert gibibytes(3 * GIBIBYTE) == 3
