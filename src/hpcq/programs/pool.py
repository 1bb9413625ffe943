"""Threads with a time limit, and pauses: file servers hang, and cost time."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["RescanInterval", "TimeLimitedPool"]

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
_MOST_THREADS = 8
# One thread looks at thousands of things in this time, unless their file server is slow.
_NEXT_THREAD_SECONDS = 0.02
# So few things are looked at for each caller.
_FEW = 500
_REST = 20.0
_LONGEST_REST_SECONDS = 60.0


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


class TimeLimitedPool(Generic[_K]):
    """A few threads that look at things. The process does not wait for them when it ends.

    What did not answer once holds its thread until it does, and is not looked at meanwhile; when
    it holds all of them, nothing is looked at until one is free.

    Args:
        seconds: the time limit of one round.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self._workers: list[_Worker[_K]] = []

    def map(self, things: Sequence[_K], look: Callable[[_K], _V]) -> dict[_K, _V]:
        """Return the answer of each thing; those that gave none in time are missing.

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
                    self._start_worker(this)
                left = deadline - time.monotonic()
                if left <= 0 or not this.working:
                    break
                pause = min(left, _NEXT_THREAD_SECONDS) if this.waiting else left
                self._changed.wait_for(this.is_over, pause)
            this.waiting.clear()
            if this.error is not None:
                raise this.error
            return this.answers.copy()

    def _start_worker(self, this: _Round[_K, _V]) -> None:
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


class RescanInterval:
    """The time until paths are checked again without a sign of a change.

    A few are looked at for each caller. Many are left alone for twenty times as long as looking
    at them took, and a minute at most: 10,000 folders, or a slow file server, cost a twentieth of
    one processor however many callers there are.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def is_over(self) -> bool:
        """Return whether it is time."""
        return time.monotonic() >= self._next

    def restart(self, things: int, began: float) -> None:
        """Note that so many things were looked at, beginning then (`time.monotonic`)."""
        now = time.monotonic()
        rest = 0.0 if things <= _FEW else min(_REST * (now - began), _LONGEST_REST_SECONDS)
        self._next = now + rest
