"""Looking at many things of which some may never answer: file servers hang."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Patience"]

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
_MOST_THREADS = 8
# One thread looks at thousands of things in this time, unless their file server is slow.
_NEXT_THREAD_SECONDS = 0.02


@dataclass(slots=True, eq=False)
class _Worker(Generic[_K]):
    holds: _K | None = None


@dataclass(slots=True)
class _Round(Generic[_K, _V]):
    look: Callable[[_K], _V]
    waiting: deque[_K]
    answers: dict[_K, _V] = field(default_factory=dict)
    working: int = 0
    error: BaseException | None = None

    def is_over(self) -> bool:
        return self.error is not None or not (self.waiting or self.working)


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
        self._workers: list[_Worker[_K]] = []

    def each(self, things: Sequence[_K], look: Callable[[_K], _V]) -> dict[_K, _V]:
        """Return what looking at each thing gave; those that gave no answer in time are missing.

        Args:
            things: each once; none is None.
            look: called in another thread. What it raises, this raises.
        """
        deadline = time.monotonic() + self._seconds
        with self._changed:
            held = {worker.holds for worker in self._workers}
            this = _Round[_K, _V](look, deque(thing for thing in things if thing not in held))
            while not this.is_over():
                if this.waiting and len(self._workers) < _MOST_THREADS:
                    self._employ(this)
                left = deadline - time.monotonic()
                if left <= 0 or not this.working:
                    break
                pause = min(left, _NEXT_THREAD_SECONDS) if this.waiting else left
                self._changed.wait_for(this.is_over, pause)
            this.waiting.clear()
            if this.error is not None:
                raise this.error
            return this.answers.copy()

    def _employ(self, this: _Round[_K, _V]) -> None:
        worker = _Worker[_K]()
        self._workers.append(worker)
        this.working += 1
        threading.Thread(
            target=self._work, args=(this, worker), name="hpcq-programs", daemon=True
        ).start()

    def _work(self, this: _Round[_K, _V], worker: _Worker[_K]) -> None:
        error: BaseException | None = None
        # Without the lock, which would cost more than most looks do: each step is one operation
        # on a deque, an attribute or a dict.
        try:
            while True:
                try:
                    worker.holds = thing = this.waiting.popleft()
                except IndexError:
                    break
                this.answers[thing] = this.look(thing)
        except BaseException as problem:
            error = problem
        with self._changed:
            self._workers.remove(worker)
            this.working -= 1
            this.error = this.error or error
            self._changed.notify_all()
