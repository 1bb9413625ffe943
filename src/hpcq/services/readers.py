"""Readers of streams, a limited number at a time."""

from collections import Counter
from types import TracebackType

from hpcq.domain.errors import Overloaded
from hpcq.domain.principals import Principal, Role

__all__ = ["Readers"]


class Readers:
    """Counts those who are being answered at this moment.

    Args:
        setting: the name of the setting that says how many there may be.
        most: how many there may be; a user who is no operator may be a quarter of them.
        what: the answers, in words.
    """

    def __init__(self, setting: str, most: int, what: str) -> None:
        self.most = most
        self._setting = setting
        self._what = what
        self._of_user: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Their number."""
        return self._of_user.total()

    def admit(self, principal: Principal) -> "Place":
        """Return the place of one more.

        Raises:
            Overloaded: there are too many.
        """
        user = principal.user
        is_greedy = self._of_user[user] >= max(1, self.most // 4)
        if self.count >= self.most or (is_greedy and principal.role is not Role.OPERATOR):
            raise Overloaded(
                f"Too many {self._what} are being read at this moment "
                f"({self._setting}={self.most}, a quarter of them for one user)."
            )
        self._of_user[user] += 1
        return Place(self._of_user, user)


class Place:
    """The place of one reader, until the end of ``with``."""

    def __init__(self, taken: Counter[str], user: str) -> None:
        self._taken = taken
        self._user = user

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._taken[self._user] -= 1
        if not self._taken[self._user]:
            del self._taken[self._user]
