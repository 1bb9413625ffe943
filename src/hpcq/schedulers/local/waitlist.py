"""The jobs that could start, in the order they came."""

import time
from collections.abc import Iterable, Iterator

from hpcq.schedulers.local.entry import Entry
from hpcq.schedulers.local.queue import Running, choose

__all__ = ["Waitlist"]


class Waitlist:
    """Queued jobs by number. A job that comes back takes the place it had.

    A job that asks for more slots than the machine has waits apart, so that none waits for it. It
    was taken when there were more; each start of the service looks again.
    """

    def __init__(self, total_slots: int) -> None:
        self._total_slots = total_slots
        self._entries: dict[int, Entry] = {}

    def add(self, entry: Entry) -> None:
        """Put a job in its place, or apart if it cannot start with the slots there are."""
        if entry.spec.slots > self._total_slots:
            entry.note = (
                f"It asks for {entry.spec.slots} slots and the machine has {self._total_slots} "
                "now. It waits until INTERNAL_SCHEDULER_MAX_SLOTS is as large, or until it is "
                "deleted; other jobs go before it."
            )
            return
        is_last = not self._entries or entry.number > next(reversed(self._entries))
        self._entries[entry.number] = entry
        if not is_last:
            self._entries = dict(sorted(self._entries.items()))

    def discard(self, entry: Entry) -> None:
        """Take a job out, if it is there."""
        self._entries.pop(entry.number, None)

    def take(self, holding: Iterable[Entry]) -> list[Entry]:
        """Take out the jobs that start now, given those that hold slots."""
        waiting = (entry.waiting for entry in self._entries.values())
        choice = choose(waiting, _running(holding), self._total_slots)
        if choice.head is not None:
            self._entries[choice.head].overtaken += choice.overtakes
        return [self._entries.pop(number) for number in choice.start]


def _running(holding: Iterable[Entry]) -> Iterator[Running]:
    now = time.monotonic()
    for entry in holding:
        limit = entry.spec.wall_time_limit_seconds
        spent = 0.0 if entry.began is None else now - entry.began
        yield Running(entry.spec.slots, None if limit is None else max(0.0, limit - spent))
