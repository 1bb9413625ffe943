"""Looks at files in the name of the account of a job, in threads."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from hpcq.domain.errors import AccountUnavailable, NotAuthorized
from hpcq.execution.account_files import AccountFiles
from hpcq.execution.accounts import Accounts, NoSuchAccount
from hpcq.services.submission.path_threads import PathThreads, Visit

__all__ = ["AccountLooks"]

_T = TypeVar("_T")


class AccountLooks:
    """Looks in the name of the account of a job, or as the service's own where it has none.

    Args:
        threads: have the looks done.
        timeout_seconds: how long the process of an account may take to start.
        accounts: those in whose name jobs are submitted; None where the service does so itself.
        allowed: the folders, without links, that jobs may use; none for all.
    """

    def __init__(
        self,
        threads: PathThreads,
        timeout_seconds: float,
        accounts: Accounts | None,
        allowed: Sequence[str],
    ) -> None:
        self._threads = threads
        self._timeout_seconds = timeout_seconds
        self._accounts = accounts
        self._allowed = allowed

    async def look(self, name: str | None, look: Callable[[Visit], _T]) -> _T:
        """Return what ``look`` returns, called in a thread.

        Args:
            name: the account; None for the service's own.
            look: what is to be done.

        Raises:
            NotAuthorized: jobs are not submitted in the name of the account.
            AccountUnavailable: this service cannot look in its name.
            PathUnavailable, Overloaded: see `PathThreads.run`.
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
                AccountFiles(name, self._timeout_seconds) as files,
                visit.through(files, files.kill),
            ):
                return look(visit)

        return await self._threads.run(look_as, name)
