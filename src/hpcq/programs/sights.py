"""What many paths hold, of which some cannot be read and some do not answer."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from hpcq.domain.programs import Installation
from hpcq.programs.folders import is_certain, shown
from hpcq.programs.patience import Patience
from hpcq.programs.reading import AS_LAST

__all__ = ["Found", "Sights", "because"]

Found = Sequence[Installation | str]
"""Versions, and sentences about why something is left out."""

# Those that did not answer are named one by one only while they are few.
_MOST_NAMED = 5


class Place(Hashable, Protocol):
    """Something that has a path."""

    @property
    def path(self) -> str: ...


_P = TypeVar("_P", bound=Place)


@dataclass(frozen=True, slots=True)
class _Unsure:
    problem: str


class Sights(Generic[_P]):
    """Looks at places, and remembers what was seen last where nothing can be seen now.

    Args:
        name: the program's.
        seconds: how long all of them may take.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._patience = Patience[_P](seconds)
        self._last: Mapping[str, Sequence[Installation]] = {}
        self._told: dict[_P, Found] = {}

    def of(
        self, places: Sequence[_P], look: Callable[[_P], Found], *, all_anew: bool = True
    ) -> tuple[Mapping[str, Sequence[Installation]], list[str]]:
        """Return the versions by the path of their place, in this order, and what is left out.

        Args:
            places: each once.
            look: called in threads. An `OSError` is a reason to leave the place out.
            all_anew: look at places of which something is known, too.
        """
        told = {} if all_anew else self._told
        anew = [place for place in places if place not in told]
        answers = self._patience.each(anew, lambda place: self._look(place, look))
        self._told = {}
        seen: dict[str, Sequence[Installation]] = {}
        problems: list[str] = []
        for place in places:
            answer = told[place] if place in told else answers.get(place)
            last = self._last.get(place.path, ())
            if isinstance(answer, _Unsure):
                problems.append(answer.problem + AS_LAST * bool(last))
            if answer is None or isinstance(answer, _Unsure):
                seen[place.path] = last
            else:
                self._told[place] = answer
                seen[place.path] = [one for one in answer if isinstance(one, Installation)]
                problems += [one for one in answer if isinstance(one, str)]
        silent = [place.path for place in anew if place not in answers]
        are_known = any(seen[path] for path in silent)
        self._last = seen
        return seen, problems + self._late(silent, AS_LAST * are_known)

    def _look(self, place: _P, look: Callable[[_P], Found]) -> Found | _Unsure:
        try:
            return look(place)
        except OSError as error:
            path = shown(error.filename or place.path)
            problem = f"The path {path} of {self._name} {because(error)}."
            return (problem,) if is_certain(error) else _Unsure(problem)

    def _late(self, paths: Sequence[str], more: str) -> list[str]:
        silent = f"of {self._name} did not answer within {self._seconds:g} s.{more}"
        if len(paths) > _MOST_NAMED:
            return [f"{shown(paths[0])} and {len(paths) - 1} more paths {silent}"]
        return [f"The path {shown(path)} {silent}" for path in paths]


def because(error: OSError) -> str:
    """Return why a folder is left out, to be put after its name."""
    return f"cannot be read: {error.strerror}"
