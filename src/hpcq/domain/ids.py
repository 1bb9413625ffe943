"""Ids of jobs: the scheduler's, this service's, and the mark of a submission.

An id is a kind of text of its own, so that none is taken for another.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

__all__ = ["ANY_ID", "IdForm", "JobUid", "NativeId", "SubmissionKey", "read_id"]


class NativeId(str):
    """The scheduler's own id of one job: ``155``, ``12_3``, ``9[2]``, ``45.server``, ``123+0``.

    The grammar is what all schedulers here share: a number, then at most one array task or
    component, then at most a host. It cannot be empty, cannot be a word (``all``) and cannot be
    a whole array (``45[]``), so that no command meant for one job can reach all of them.

    Raises:
        ValueError: the text is not such an id.

    >>> NativeId("all")
    Traceback (most recent call last):
        ...
    ValueError: not a job id: 'all'
    """

    __slots__ = ()
    _GRAMMAR = re.compile(
        r"[0-9]{1,18}(?:_[0-9]{1,9}|\[[0-9]{1,9}\]|\+[0-9]{1,9})?(?:\.[A-Za-z][A-Za-z0-9.-]{0,252})?"
    )

    def __new__(cls, text: str) -> Self:
        if cls._GRAMMAR.fullmatch(text) is None:
            raise ValueError(f"not a job id: {text!r}")
        return super().__new__(cls, text)


class JobUid(str):
    """The permanent id that this service gives a job; a lower-case UUID.

    Raises:
        ValueError: the text is not a UUID in its canonical form.
    """

    __slots__ = ()
    _GRAMMAR = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    _FOREIGN = uuid.UUID("3d6f7a52-0c0b-5b7e-9b57-6d1f3b9a7c11")
    _TASK = uuid.UUID("5b1c0f0e-8a57-5c9d-8f0a-2f6b8f2f7a63")

    def __new__(cls, text: str) -> Self:
        if cls._GRAMMAR.fullmatch(text) is None:
            raise ValueError(f"not a job uid: {text!r}")
        return super().__new__(cls, text)

    @classmethod
    def new(cls) -> Self:
        """Return an id never given before."""
        return cls(str(uuid.uuid4()))

    @classmethod
    def of_foreign(
        cls, cluster_id: str, native_id: NativeId, submitted: datetime | None, owner: str | None
    ) -> Self:
        """Return the id of a job that was not submitted through this service.

        The same job gets the same id from every process, without one being stored; a number
        that the scheduler uses again gets another, because its submission time differs.
        """
        moment = "" if submitted is None else str(int(submitted.timestamp()))
        words = "\x1f".join((cluster_id, native_id, moment, owner or ""))
        return cls(str(uuid.uuid5(cls._FOREIGN, words)))

    def of_task(self, number: int) -> "JobUid":
        """Return the id of one task of this array; every process gives it the same."""
        return JobUid(str(uuid.uuid5(self._TASK, f"{self}\x1f{number}")))


class SubmissionKey(str):
    """The mark a job carries in the scheduler, by which its submission is found again.

    Letters, digits and hyphens only, so that every scheduler's comment, context and account
    fields take it as it is.

    Raises:
        ValueError: the text is not such a key.

    >>> uid = JobUid("6f1c1d2e-8a57-4c9d-8f0a-2f6b8f2f7a63")
    >>> SubmissionKey.for_uid(uid)
    'hpcq-6f1c1d2e8a574c9d8f0a2f6b8f2f7a63'
    """

    __slots__ = ()
    _GRAMMAR = re.compile(r"hpcq-[0-9a-f]{32}")

    def __new__(cls, text: str) -> Self:
        if cls._GRAMMAR.fullmatch(text) is None:
            raise ValueError(f"not a submission key: {text!r}")
        return super().__new__(cls, text)

    @classmethod
    def for_uid(cls, uid: JobUid) -> Self:
        """Return the key under which the job with this ``uid`` is submitted."""
        return cls("hpcq-" + uid.replace("-", ""))

    @property
    def uid(self) -> JobUid:
        """The job that carries this key."""
        return JobUid(str(uuid.UUID(self.removeprefix("hpcq-"))))

    @classmethod
    def find_in(cls, text: str | None) -> Self | None:
        """Return the key that stands in a scheduler's comment or context, or None.

        >>> SubmissionKey.find_in("hpcq-6f1c1d2e8a574c9d8f0a2f6b8f2f7a63 of the study")
        'hpcq-6f1c1d2e8a574c9d8f0a2f6b8f2f7a63'
        """
        match = cls._GRAMMAR.search(text or "")
        return None if match is None else cls(match[0])


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
