"""Look-ups in the machine's directory of accounts, which may hang."""

import asyncio
import concurrent.futures
import pwd
import queue
import threading
from typing import NamedTuple

from hpcq.schedulers.local.accounts import (
    AccountIds,
    AccountUnusable,
    account_ids,
    find_account,
)

__all__ = ["AccountLookups", "AccountsUnavailable", "FoundAccount"]

_THREADS = 4
_PATIENCE_SECONDS = 5.0


class AccountsUnavailable(AccountUnusable):
    """The machine's directory of accounts does not answer."""


class FoundAccount(NamedTuple):
    """An account that a job runs as, and its numbers."""

    entry: pwd.struct_passwd
    ids: AccountIds


_Look = concurrent.futures.Future[FoundAccount]


class AccountLookups:
    """A few threads that look accounts up, so that a directory that hangs holds up nothing else.

    All who ask for one account share one look-up. The threads exist from the start, as those of
    `Runs` do; the process does not wait for them when it ends.
    """

    def __init__(self) -> None:
        self._looks: dict[str, _Look] = {}
        self._waiting: queue.SimpleQueue[tuple[str, _Look] | None] = queue.SimpleQueue()
        self._threads = 0

    def start(self) -> None:
        """Start the threads."""
        for _ in range(_THREADS):
            threading.Thread(target=self._work, name="hpcq-accounts", daemon=True).start()
            self._threads += 1

    def stop(self) -> None:
        """Let the threads go, without waiting for one that hangs."""
        for _ in range(self._threads):
            self._waiting.put(None)
        self._threads = 0

    async def find(self, name: str) -> FoundAccount:
        """Return an account that a job may run as.

        Raises:
            AccountsUnavailable: the directory did not answer in time.
            AccountUnusable: there is none of this name, or it is root.
        """
        look = self._looks.get(name)
        if look is None:
            look = self._looks[name] = _Look()
            # Whoever no longer waits for it does not end it.
            look.set_running_or_notify_cancel()
            self._waiting.put((name, look))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await asyncio.wrap_future(look)
        except TimeoutError:
            raise AccountsUnavailable(
                f"The machine's directory of accounts did not tell of {name!r} within "
                f"{_PATIENCE_SECONDS:g} s."
            ) from None

    def _work(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            name, look = waiting
            try:
                entry = find_account(name)
                found = FoundAccount(entry, account_ids(entry))
            except BaseException as error:
                del self._looks[name]
                look.set_exception(error)
            else:
                del self._looks[name]
                look.set_result(found)
