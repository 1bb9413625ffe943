"""The forms of output."""

import pytest

from hpcq.cli.screen import duration, plain, sparkline


def test_plain_control_characters() -> None:
    assert plain("a\tb\n\x1b[31m\x9bc é") == "a\ufffdb\ufffd\ufffd[31m\ufffdc é"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, ""), (0, "0:00:00"), (3661, "1:01:01"), (90_000, "1-01:00:00")]
)
def test_duration(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_sparkline() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([0, 1, 2, 7]) == "▁▂▃█"
    assert sparkline([0, 0, 1, 1], width=2) == "▁█"
