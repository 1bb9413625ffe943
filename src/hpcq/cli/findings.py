"""The findings of the doctor."""

from enum import StrEnum

import msgspec

from hpcq.cli.texts import translated as _

__all__ = ["Finding", "Verdict", "good", "problem", "unchecked", "warning"]


class Verdict(StrEnum):
    """The meaning of a finding for the service."""

    GOOD = "good"
    WARNING = "warning"
    PROBLEM = "problem"
    UNCHECKED = "unchecked"
    """Another problem keeps the doctor from looking."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        part: of the installation.
        verdict: on it.
        text: what there is, a sentence.
        remedy: what to do about it.
    """

    part: str
    verdict: Verdict
    text: str
    remedy: str | None = None


def good(part: str, text: str) -> Finding:
    """Return that a part is as it should be."""
    return Finding(part, Verdict.GOOD, text)


def warning(part: str, text: str, remedy: str) -> Finding:
    """Return what may do harm one day."""
    return Finding(part, Verdict.WARNING, text, remedy)


def problem(part: str, text: str, remedy: str | None = None) -> Finding:
    """Return what keeps the service from working."""
    return Finding(part, Verdict.PROBLEM, text, remedy)


def unchecked(part: str, because_of: str) -> Finding:
    """Return that another problem, of the part ``because_of``, keeps the doctor from looking."""
    text = _("Not checked, because of the problem above: {part}.").format(part=because_of)
    return Finding(part, Verdict.UNCHECKED, text)
