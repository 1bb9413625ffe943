"""A mapping that is copied at the cost of its latest changes, not of its size."""

from collections.abc import Iterator
from typing import Generic, TypeVar, cast

__all__ = ["Layers"]

_K = TypeVar("_K")
_V = TypeVar("_V")

_GONE = object()
# Below this share of the whole the changes are copied again and again; above it they are merged.
_MERGED_FROM = 64
_MERGED_SHARE = 16


class Layers(Generic[_K, _V]):
    """A dictionary below, never changed, and what has changed since above it.

    Keys keep the order in which they came, as a dictionary's do; one that was deleted and comes
    again may stand in its old place.
    """

    __slots__ = ("_above", "_below")

    def __init__(
        self, below: dict[_K, _V] | None = None, above: dict[_K, object] | None = None
    ) -> None:
        self._below = {} if below is None else below
        self._above = {} if above is None else above

    def copy(self) -> "Layers[_K, _V]":
        """Return a mapping with the same content that can be changed by itself."""
        if len(self._above) <= _MERGED_FROM + len(self._below) // _MERGED_SHARE:
            return Layers(self._below, dict(self._above))
        return Layers(dict(self.items()))

    def get(self, key: _K) -> _V | None:
        """Return the value of a key, or None."""
        if key in self._above:
            value = self._above[key]
            return None if value is _GONE else cast(_V, value)
        return self._below.get(key)

    def __contains__(self, key: _K) -> bool:
        if key in self._above:
            return self._above[key] is not _GONE
        return key in self._below

    def __getitem__(self, key: _K) -> _V:
        if key not in self:
            raise KeyError(key)
        return cast(_V, self.get(key))

    def __setitem__(self, key: _K, value: _V) -> None:
        self._above[key] = value

    def pop(self, key: _K) -> _V | None:
        """Take a key out and return its value, or None when it is not there."""
        value = self.get(key)
        if key in self._below:
            self._above[key] = _GONE
        else:
            self._above.pop(key, None)
        return value

    def items(self) -> Iterator[tuple[_K, _V]]:
        """Yield keys and values, oldest key first."""
        above = self._above
        for key, value in self._below.items():
            now = above.get(key, value) if above else value
            if now is not _GONE:
                yield key, cast(_V, now)
        for key, later in above.items():
            if later is not _GONE and key not in self._below:
                yield key, cast(_V, later)

    def values(self) -> Iterator[_V]:
        """Yield values, oldest key first."""
        return (value for _, value in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self.items())
