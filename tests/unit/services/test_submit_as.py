"""Submitting and changing jobs in the name of the account of whoever asks."""

import asyncio
import contextlib
import pwd
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from tests.unit.services.kit import World, service_settings

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import (
    AccountUnavailable,
    InvalidSpec,
    NotAuthorized,
    PathUnavailable,
    SchedulerUnavailable,
)
from hpcq.domain.jobs import NativeId, SubmissionKey
from hpcq.domain.principals import Method, Principal, Role
from hpcq.execution.accounts import Account, Accounts
from hpcq.execution.files import OwnFiles
from hpcq.schedulers.testing.fake import FakeScheduler
from hpcq.services.submission import path_threads
from hpcq.services.submission.paths import PathChecker

pytestmark = pytest.mark.anyio

ANA = Principal(user="ana", role=Role.OPERATOR, method=Method.TOKEN, sees_all=True)
BOB = replace(ANA, user="bob")
ACCOUNT = "nobody"


class HereFiles(OwnFiles):
    """Files with the rights of this process, in place of those of an account."""

    def kill(self) -> None:
        """End no process: there is none."""


class Noting(FakeScheduler):
    """A scheduler that notes in whose name it was asked for what."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self.asked: list[tuple[str, str | None]] = []

    async def find(self, key: SubmissionKey, run_as: str | None = None) -> NativeId | None:
        self.asked.append(("find", run_as))
        return await super().find(key, run_as)

    async def cancel(self, native_id: NativeId, run_as: str | None = None) -> bool:
        self.asked.append(("cancel", run_as))
        return await super().cancel(native_id, run_as)

    async def act(
        self,
        action: Action,
        native_id: NativeId,
        run_as: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        self.asked.append((action, run_as))
        await super().act(action, native_id, run_as, signal)


@pytest.fixture
def looked_as(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The accounts in whose name files are looked at; with this process's rights."""
    looked: list[str] = []

    @contextmanager
    def files(account: str, _seconds: float) -> Iterator[HereFiles]:
        looked.append(account)
        yield HereFiles()

    monkeypatch.setattr(path_threads, "AccountFiles", files)
    return looked


@pytest.fixture
async def world(tmp_path: Path, looked_as: list[str]) -> AsyncIterator[World]:
    accounts = Accounts({"ana": ACCOUNT}, 1000)
    async with World(directory=tmp_path, accounts=accounts, kind=Noting) as world:
        yield world


def noted(world: World) -> list[tuple[str, str | None]]:
    assert isinstance(world.scheduler, Noting)
    return world.scheduler.asked


async def test_submit_as_account(world: World, looked_as: list[str]) -> None:
    record = (await world.submitter.submit(ANA, world.spec)).record
    assert record.spec is not None
    assert record.spec.run_as == ACCOUNT
    assert world.scheduler.submitted[record.key].run_as == ACCOUNT
    # To check the paths, and to read the script.
    assert looked_as == [ACCOUNT, ACCOUNT]


async def test_user_without_account(world: World) -> None:
    with pytest.raises(NotAuthorized, match="'bob' has no account here"):
        await world.submitter.submit(BOB, world.spec)
    assert world.scheduler.submitted == {}


async def test_accounts_lookup_hanging() -> None:
    let_go = threading.Event()

    class Hanging(Accounts):
        def of(self, user: str) -> Account:
            let_go.wait()
            return super().of(user)

    settings = service_settings(path_check_timeout_seconds=0.1)
    checker = PathChecker(FakeScheduler(), settings, Hanging(None, 1))
    with pytest.raises(PathUnavailable, match="'ana' could not be used within"):
        await checker.account_of("ana")
    let_go.set()
    checker.close()


async def test_account_stopped_looks_others_unaffected() -> None:
    threads, let_go = path_threads.PathThreads(0.2), threading.Event()
    looks = [threads.run(lambda _: let_go.wait(), "ana") for _ in range(100)]
    outcomes = await asyncio.gather(*looks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {PathUnavailable, AccountUnavailable}
    assert await threads.run(lambda _: "seen", "bob") == "seen"
    let_go.set()
    while True:
        with contextlib.suppress(AccountUnavailable):
            assert await threads.run(lambda _: "seen", "ana") == "seen"
            break
    threads.close()


async def test_idempotency_key_same_for_all_accounts(world: World) -> None:
    first = await world.submitter.submit(ANA, world.spec, "key")
    second = await world.submitter.submit(ANA, world.spec, "key")
    assert (second.is_replay, second.record.uid) == (True, first.record.uid)


async def test_hold_and_cancel_as_account(world: World) -> None:
    record = (await world.submitter.submit(ANA, world.spec)).record
    await world.changer.act(Action.HOLD, BOB, record.uid)
    await world.changer.cancel(BOB, record.uid)
    assert noted(world) == [("hold", ACCOUNT), ("cancel", ACCOUNT)]


@pytest.mark.parametrize(("owner", "run_as"), [(ACCOUNT, ACCOUNT), ("root", None), ("gone", None)])
async def test_cancel_foreign_job_as_owner(world: World, owner: str, run_as: str | None) -> None:
    native_id = world.scheduler.enqueue(owner=owner)
    await world.tick(5)
    await world.changer.cancel(BOB, native_id)
    assert noted(world) == [("cancel", run_as)]


async def test_cancel_foreign_job_users_of_account(
    world: World,
) -> None:
    """A person of the table, and somebody whose name is that of the person's account."""
    native_id = world.scheduler.enqueue(owner=ACCOUNT)
    await world.tick(5)
    namesake = replace(ANA, user=ACCOUNT, role=Role.USER)
    for change in (
        world.changer.cancel,
        partial(world.changer.act, Action.HOLD),
        partial(world.changer.act, Action.RELEASE),
    ):
        with pytest.raises(NotAuthorized, match="is not yours"):
            await change(namesake, native_id)
    assert noted(world) == []
    await world.changer.cancel(replace(namesake, account=ACCOUNT), native_id)
    assert noted(world)[-1] == ("cancel", ACCOUNT)


async def test_cancel_account_job_after_run_as_disabled(
    world: World,
) -> None:
    record = (await world.submitter.submit(ANA, world.spec)).record
    world.accounts = None
    await world.restart()
    await world.tick(5)
    await world.changer.cancel(BOB, record.uid)
    assert noted(world)[-1] == ("cancel", None)


async def test_find_uncertain_submission_as_account(world: World) -> None:
    lost = SchedulerUnavailable("The network is down.")
    world.scheduler.fail_next("submit", lost, after_effect=True)
    record = (await world.submitter.submit(ANA, world.spec)).record
    assert record.native_id is not None
    assert set(noted(world)) == {("find", ACCOUNT)}


async def test_repeated_submission_accounts_unavailable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is away answers as one that does not know the account (nsswitch.conf(5))."""
    lost = SchedulerUnavailable("The network is down.")
    world.scheduler.fail_next("submit", lost)
    record = (await world.submitter.submit(ANA, world.spec, "key")).record
    with monkeypatch.context() as away:
        away.setattr(pwd, "getpwnam", {}.__getitem__)
        for _ in range(3):
            await world.tick(61)
            await world.runner.drain()
        assert not world.job(record.uid).state.is_final
    for _ in range(3):
        await world.tick(61)
        await world.runner.drain()
    assert world.job(record.uid).native_id is not None
    assert world.scheduler.submitted.keys() == {record.key}


async def test_script_unreadable_for_account(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    class Closed(HereFiles):
        def read(self, path: str, most_bytes: int, within: Sequence[str] = ()) -> bytes | None:
            looks.append(path)
            if len(looks) > 1:
                raise PermissionError(13, "Permission denied")
            return super().read(path, most_bytes, within)

    @contextmanager
    def files(_account: str, _seconds: float) -> Iterator[HereFiles]:
        yield Closed()

    monkeypatch.setattr(path_threads, "AccountFiles", files)
    with pytest.raises(InvalidSpec, match="by the account 'nobody': Permission denied"):
        await world.submitter.submit(ANA, world.spec)
    assert world.scheduler.submitted == {}
