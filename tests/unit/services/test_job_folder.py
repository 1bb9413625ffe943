"""The folder of a job, as the account that ran it tells it."""

import stat

import pytest

from hpcq.services.output.folder import read_folder

YEAR_SECONDS = 31_556_952


@pytest.mark.parametrize(
    ("year", "is_shown"), [(1, False), (999, False), (1900, True), (9998, True), (9999, False)]
)
def test_time_any_reader_can_show(year: int, is_shown: bool) -> None:
    nanoseconds = (year - 1970) * YEAR_SECONDS * 10**9
    line = b"%d 5 %d a" % (stat.S_IFREG, nanoseconds)
    (entry,) = read_folder(line, 10).entries
    assert (entry.name, entry.size, entry.modified is not None) == ("a", 5, is_shown)
