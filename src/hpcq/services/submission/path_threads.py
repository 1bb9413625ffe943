"""Threads that look at paths. A file system that hangs keeps its own requests, and no others."""

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from hpcq.domain.errors import AccountUnavailable, NotAuthorized, Overloaded, PathUnavailable
from hpcq.execution.account_files import AccountFiles
from hpcq.execution.accounts import Accounts, NoSuchAccount
from hpcq.services.submission.visit import Mounts, Visit

__all__ = ["PathThreads"]

_T = TypeVar("_T")

_MOST_THREADS = 64
# An account can stop the processes that look in its name, and with each of them a thread
# and a place: some are left to others.
_MOST_OF_AN_ACCOUNT = 6


class PathThreads:
    """A few threads, for which the process does not wait when it ends.

    Args:
        seconds: how long a look may take, and the process of an account to start.
        accounts: those in whose name jobs are submitted; None where the service does so itself.
        allowed: the folders, without links, that jobs may use; none for all.
    """

    def __init__(
        self, seconds: float, accounts: Accounts | None = None, allowed: Sequence[str] = ()
    ) -> None:
        self._seconds = seconds
        self._accounts = accounts
        self._allowed = allowed
        self._mounts = Mounts()
        self._places: dict[str, asyncio.Semaphore] = {}
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._is_closed = False

    async def run(self, look: Callable[[Visit], _T], account: str | None = None) -> _T:
        """Return what ``look`` returns, called in a thread.

        Args:
            look: what is to be done.
            account: the account in whose name; None for the service's own.

        Raises:
            PathUnavailable: a file system did not answer in time.
            AccountUnavailable: too many looks in the account's name do not end.
            Overloaded: no thread was free in time.
        """
        give_back = await self._place_of(account)
        visit = Visit(self._mounts)
        visit.account = account
        done: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def work() -> None:
            try:
                if done.set_running_or_notify_cancel():
                    done.set_result(look(visit))
            except BaseException as error:
                done.set_exception(error)
            finally:
                visit.leave()
                give_back()

        self.start(work)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(done)
        except TimeoutError:
            visit.give_up()
            if visit.at is None and visit.account is not None:
                raise PathUnavailable(
                    f"The account {visit.account!r} could not be used within {self._seconds:g} s: "
                    "the machine's directory of accounts, or sudo, does not answer."
                ) from None
            if visit.at is None:
                raise Overloaded("Too many paths are being looked at. Try again later.") from None
            raise PathUnavailable(
                f"The file system of {visit.at!r} did not answer within {self._seconds:g} s. Try "
                "again when it does."
            ) from None

    async def run_as(self, name: str | None, look: Callable[[Visit], _T]) -> _T:
        """Return what ``look`` returns, called in a thread in the name of the account of a job.

        Args:
            name: the account; None for the service's own.
            look: what is to be done.

        Raises:
            NotAuthorized: jobs are not submitted in the name of the account.
            AccountUnavailable: this service cannot look in its name.
            PathUnavailable, Overloaded: as `run`.
        """
        accounts = self._accounts

        def look_as(visit: Visit) -> _T:
            visit.allowed = self._allowed
            if name is None:
                return look(visit)
            if accounts is None:
                raise NotAuthorized(
                    f"This service does not submit in the name of {name!r} any more: SUBMIT_AS is "
                    "not user."
                )
            try:
                # Its home may have moved.
                visit.uid = accounts.find(name).uid
            except NoSuchAccount:
                raise AccountUnavailable(
                    f"The account {name!r} was there and is not now: the machine's directory of "
                    "accounts is away, or the account was removed."
                ) from None
            with (
                AccountFiles(name, self._seconds) as files,
                visit.through(files, files.kill),
            ):
                return look(visit)

        return await self.run(look_as, name)

    def start(self, work: Callable[[], None]) -> None:
        """Have a thread do something without waiting for it; nothing once they were let go.

        A process that ends starts no more threads: it would wait for one for ever.
        """
        if self._is_closed:
            return
        self._waiting.put(work)
        if not self._idle.acquire(blocking=False) and self._threads < _MOST_THREADS:
            self._threads += 1
            threading.Thread(target=self._work, name="hpcq-paths", daemon=True).start()

    async def _place_of(self, account: str | None) -> Callable[[], None]:
        """Wait for one of the few places of an account; return what gives it back, in a thread."""
        if account is None:
            return lambda: None
        places = self._places.setdefault(account, asyncio.Semaphore(_MOST_OF_AN_ACCOUNT))
        try:
            async with asyncio.timeout(self._seconds):
                await places.acquire()
        except TimeoutError:
            raise AccountUnavailable(
                f"Too many looks in the name of the account {account!r} do not end."
            ) from None
        loop = asyncio.get_running_loop()

        def give_back() -> None:
            # The service may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(places.release)

        return give_back

    def close(self) -> None:
        """Let the threads go, without waiting for one that hangs."""
        self._is_closed = True
        for _ in range(self._threads):
            self._waiting.put(None)

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None:
            work()
            self._idle.release()
