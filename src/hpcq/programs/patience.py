"""Looking at many things of which some may never answer: file servers hang."""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Patience"]

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
_MOST_THREADS = 8


@dataclass(slots=True)
class _Round(Generic[_K, _V]):
    look: Callable[[_K], _V]
    waiting: deque[_K]
    answers: dict[_K, _V] = field(default_factory=dict)
    left: int = 0
    error: BaseException | None = None


class Patience(Generic[_K]):
    """Looks at things in a few threads, which the process does not wait for when it ends.

    What did not answer once holds its thread until it does, and is not looked at meanwhile; when
    it holds all of them, nothing is looked at until one is free.

    Args:
        seconds: how long all of one round may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self._held: set[_K] = set()

    def each(self, things: Sequence[_K], look: Callable[[_K], _V]) -> dict[_K, _V]:
        """Return what looking at each thing gave; those that gave no answer in time are missing.

        Args:
            things: each once.
            look: called in another thread. What it raises, this raises.
        """
        with self._changed:
            free = [thing for thing in things if thing not in self._held]
            this = _Round[_K, _V](look, deque(free), left=len(free))
            workers = min(len(free), _MOST_THREADS - len(self._held))
            for _ in range(workers):
                threading.Thread(
                    target=self._work, args=(this,), name="hpcq-programs", daemon=True
                ).start()
            if workers:
                self._changed.wait_for(lambda: not this.left or this.error, self._seconds)
            this.waiting.clear()
            if this.error is not None:
                raise this.error
            return dict(this.answers)

    def _work(self, this: _Round[_K, _V]) -> None:
        while True:
            with self._changed:
                if not this.waiting or len(self._held) >= _MOST_THREADS:
                    return
                thing = this.waiting.popleft()
                self._held.add(thing)
            answer: list[_V] = []
            error: BaseException | None = None
            try:
                answer.append(this.look(thing))
            except BaseException as problem:
                error = problem
            with self._changed:
                self._held.discard(thing)
                this.left -= 1
                this.error = this.error or error
                if answer:
                    this.answers[thing] = answer[0]
                if not this.left or this.error:
                    self._changed.notify_all()
