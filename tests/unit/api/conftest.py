"""The application over a scheduler in memory, installed as a plugin is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpcq.api.app import create_app
from hpcq.config import Settings
from hpcq.domain.errors import SchedulerUnavailable
from hpcq.domain.principals import Method
from hpcq.schedulers.base import Listing
from hpcq.schedulers.testing import FakeScheduler
from hpcq.schedulers.testing.waiting import eventually
from hpcq.services.monitoring.monitor import Health

_METADATA = "Metadata-Version: 2.1\nName: fake-scheduler\nVersion: 1\n"
_ENTRY_POINTS = "[hpcq.schedulers]\nfake = hpcq.schedulers.testing:create\n"


@dataclass
class App:
    """A running application, spoken to without a network.

    Attributes:
        body: what a submission has to hold.
    """

    client: httpx.AsyncClient
    scheduler: FakeScheduler
    context: Any
    body: dict[str, Any]

    async def asked_again(self) -> None:
        """Wait until the scheduler was asked for its queue, and the answer is on the table."""
        answer = self.scheduler.hold_back_next("jobs")
        self.context.monitor.wake()
        await answer.ready.wait()
        published = self.scheduler.hold_back_next("jobs")
        answer.let_go()
        self.context.monitor.wake()
        await published.ready.wait()
        published.let_go()

    async def stream(
        self,
        url: str,
        headers: Mapping[str, str],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Ask for a stream, and send each message of its answer, until it ends."""
        # httpx's transport would keep an answer until its end.
        application = self.client._transport.app  # type: ignore[attr-defined]
        path, _, query = url.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost")]
            + [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "scheme": "http",
        }

        async def receive() -> Any:
            await asyncio.Event().wait()

        await application(scope, receive, send)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler FAKE, where Python looks for installed packages."""
    installed = tmp_path / "site-packages" / "fake_scheduler-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(_METADATA)
    (installed / "entry_points.txt").write_text(_ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(installed.parent))


@pytest.fixture
async def app(plugin: None, tmp_path: Path) -> AsyncIterator[App]:
    """A service over a scheduler that answers."""
    async with running(tmp_path) as app:
        yield app


@pytest.fixture
async def silent(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[App]:
    """A service over a scheduler that has never told its queue."""

    async def away(_scheduler: FakeScheduler) -> Listing:
        raise SchedulerUnavailable("It is away.")

    monkeypatch.setattr(FakeScheduler, "jobs", away)
    async with running(tmp_path) as app:
        yield app


@contextlib.asynccontextmanager
async def running(tmp_path: Path, **settings: Any) -> AsyncIterator[App]:
    """Run the application with these settings, and wait for its first answer or refusal."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "run.sh").write_text("#!/bin/sh\n")
    folder = tmp_path / "state"
    application = create_app(
        Settings(
            **{"auth": (Method.NONE,)} | settings,
            scheduler="fake",
            state_directory=folder,
            poll_interval_seconds=0.1,
        )
    )
    # A failure that a test scripts is answered with, and not asked away.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpcq.services.resilience._PAUSES_SECONDS", ())
        async with application.router.lifespan_context(application):
            context = application.state.context
            await eventually(lambda: _was_asked(context))
            transport = httpx.ASGITransport(application, raise_app_exceptions=False)
            base_url = "http://localhost"
            async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
                yield App(
                    client,
                    context.jobs.backend.wrapped,
                    context,
                    {
                        "workingDirectory": str(work),
                        "reservedSlots": 1,
                        "scriptFile": str(work / "run.sh"),
                    },
                )


async def _was_asked(context: Any) -> bool:
    return bool(context.monitor.health != Health())
