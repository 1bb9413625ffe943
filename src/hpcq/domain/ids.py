"""Ids of jobs as people write them, and as a scheduler's commands print them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hpcq.domain.jobs import NativeId

__all__ = ["ANY_ID", "IdForm", "read_id"]


@dataclass(frozen=True, slots=True)
class IdForm:
    """One way in which a scheduler writes ids.

    Attributes:
        pattern: matches the whole text.
        template: makes the id that this service uses of what the pattern's groups found.
        is_array: whether such an id means a whole array, and nothing else: ``45[].server``.
    """

    pattern: re.Pattern[str]
    template: str = r"\1"
    is_array: bool = False


ANY_ID = IdForm(re.compile(r"([ -~]+)"))
"""For a scheduler that says nothing of its ids: all that `NativeId` takes."""


def read_id(text: str, forms: Sequence[IdForm]) -> tuple[NativeId, bool]:
    """Return the id that a text means, and whether it can only mean a whole array.

    Args:
        text: ``45[2].server`` means ``45[2]``, and ``45[].server`` the array ``45``.
        forms: the scheduler's.

    Raises:
        ValueError: it is no id of this scheduler's.
    """
    for form in forms:
        match = form.pattern.fullmatch(text)
        if match is not None:
            return NativeId(match.expand(form.template)), form.is_array
    raise ValueError(f"not a job id: {text!r}")
