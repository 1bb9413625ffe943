"""The values of options, from the texts of a command line."""

import re
from collections.abc import Mapping, Sequence

import msgspec

from hpcq.cli.commands import fail
from hpcq.cli.texts import translated as _

__all__ = ["fields_of", "pairs_of", "seconds_of"]

_CLOCK = re.compile(r"(?:(?P<d>\d+)-)?(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d)")
_UNITS = re.compile(r"(?P<number>\d+)(?P<unit>[smhd]?)")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}
_FIELD = re.compile(r"[a-z][A-Za-z]*")
# They have a place of their own on the command line.
_ELSEWHERE = ("args", "slots")
_decoder = msgspec.json.Decoder()


def pairs_of(option: str, texts: Sequence[str] | None) -> Mapping[str, str] | None:
    """Return the values of an option by their names; None when it was not given.

    >>> pairs_of("--env", ["CASE=december", "EMPTY="])
    {'CASE': 'december', 'EMPTY': ''}
    """
    if not texts:
        return None
    pairs = [text.partition("=") for text in texts]
    for name, sign, _value in pairs:
        if not name or not sign:
            fail(_("{option} takes NAME=VALUE.").format(option=option))
    return {name: value for name, _sign, value in pairs}


def fields_of(texts: Sequence[str] | None) -> Mapping[str, object]:
    """Return the fields of ``--field``, by the API's names.

    >>> fields_of(["nodes=2", "qos=long"])
    {'nodes': 2, 'qos': 'long'}
    """
    pairs = pairs_of("--field", texts) or {}
    for name in pairs:
        if _FIELD.fullmatch(name) is None or name in _ELSEWHERE:
            fail(_("--field takes the fields of the API, without {name}.").format(name=name))
    return {name: _json_or_text(text) for name, text in pairs.items()}


def _json_or_text(text: str) -> object:
    """Return a value as JSON has it; what is no JSON is text."""
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError:
        return text


def seconds_of(text: str) -> int:
    """Return the seconds of ``--time``.

    >>> seconds_of("1:30:00"), seconds_of("90m")
    (5400, 5400)
    """
    if found := _CLOCK.fullmatch(text):
        return sum(int(found[unit] or 0) * _SECONDS[unit] for unit in "dhms")
    if found := _UNITS.fullmatch(text):
        return int(found["number"]) * _SECONDS[found["unit"]]
    fail(_("--time takes seconds, 90m, 12h, 2d or 1:30:00."))
