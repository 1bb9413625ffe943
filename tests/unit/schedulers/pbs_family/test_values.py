"""Ids, durations and sizes of the PBS family."""

import pytest

from hpcq.schedulers.pbs_family.values import (
    JobId,
    parse_duration,
    parse_job_id,
    parse_local_time,
    parse_pbs_size,
)


@pytest.mark.parametrize(
    ("text", "parts", "short"),
    [
        ("45.vm", JobId("45", None, "vm"), "45"),
        ("45", JobId("45"), "45"),
        ("45[].vm", JobId("45", "", "vm"), "45"),
        ("45[12].head.cluster-1.br", JobId("45", "12", "head.cluster-1.br"), "45[12]"),
        ("45[2]\n", JobId("45", "2"), "45[2]"),
    ],
)
def test_job_id_valid(text: str, parts: JobId, short: str) -> None:
    assert parse_job_id(text) == parts
    assert parts.short == short
    assert parts.is_array is ("[]" in text)


@pytest.mark.parametrize("text", ["", "all", "ALL", "vm", "45[", "45[1-3]", "45.", "45 46", "-5"])
def test_job_id_invalid(text: str) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        parse_job_id(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00:43", 43),
        ("250:00:00", 900000),
        ("1:00:00:00", 86400),
        ("90", 90),
        ("0.125707", 0.125707),
        ("-00:00:05", -5),
        ("05:30", 330),
    ],
)
def test_duration_valid(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "a", "1:", ":1", "1:2:3:4:5", "--5", "UNLIMITED"])
def test_duration_invalid(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4720kb", 4720 << 10),
        ("200mb", 200 << 20),
        ("2gb", 2 << 30),
        ("209715200b", 209715200),
        ("1000000", 1000000),
        ("2MW", 16 << 20),
        ("0kb", 0),
    ],
)
def test_size_valid(text: str, size: int) -> None:
    assert parse_pbs_size(text) == size


@pytest.mark.parametrize("text", ["", "kb", "1.5gb", "-1kb", "1 kb", "abc"])
def test_size_invalid(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_pbs_size(text)


def test_local_time_valid_and_invalid() -> None:
    moment = parse_local_time("Sun Nov 22 22:25:25 2026")
    assert moment is not None
    assert moment.isoformat() == "2026-11-22T22:25:25+00:00"
    for text in (None, "", "never", "Thu Jan  1 00:00:00 1970"):
        assert parse_local_time(text) is None
