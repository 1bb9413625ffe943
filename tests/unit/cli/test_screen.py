"""The forms of output."""

import json

import pytest

from hpcq.cli.screen import (
    duration,
    plain,
    print_json,
    print_json_line,
    print_output,
    sparkline,
    unsteered,
)

# The clipboard, the title, the screen cleared, the cursor moved, a report asked for, C1, bidi.
STEERING = [
    "\x1b]52;c;cm0gLXJm\x07",
    "\x1b]0;title\x1b\\",
    "\x1b[2J",
    "\x1b[1A",
    "\x1b[6n",
    "\x1bP+q\x1b\\",
    "\x1bc",
    "\x9b2J",
    "\x9d52;c;cm0\x9c",
    "\u202egnp",
    "\u2066",
    "\u200b",
    "\x00\x07\x0b\x0c\x0e\x7f",
    "\x1b[31",
    "\x1b",
]


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


@pytest.mark.parametrize("text", STEERING)
def test_unsteered_nothing_steers(text: str) -> None:
    shown = unsteered(f"a{text}b")
    assert shown == plain(f"a{text}b")
    assert shown.startswith("a") and shown.endswith("b")
    # No part of it becomes one together with what comes next.
    assert "\x1b" not in unsteered(text) + unsteered("[2J")


def test_unsteered_colours_and_progress_kept() -> None:
    text = "\x1b[1;31mred\x1b[0m\t50 %\r\x1b[K100 %\n\b"
    assert unsteered(text) == text


def test_output_in_pipe_verbatim(capsys: pytest.CaptureFixture[str]) -> None:
    print_output("".join(STEERING))
    assert capsys.readouterr().out == "".join(STEERING)


def test_json_without_steering(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"name": "".join(STEERING) + "é 😀 \U000e0041\n"}
    for show in (print_json, print_json_line):
        show(answer)
        shown = capsys.readouterr().out
        assert json.loads(shown) == answer
        assert "é 😀 " in shown
        assert shown.replace("\n", "").isprintable()
