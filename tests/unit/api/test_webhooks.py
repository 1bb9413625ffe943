"""``/webhooks``: made and deleted by operators; messages in order, again, and listed."""

import socket
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from tests.receiver import Message, Receiver, receiving
from tests.unit.api.conftest import App, running

from hpcq.domain import webhooks as domain
from hpcq.schedulers.testing.waiting import eventually
from hpcq.services.deliveries import dispatcher
from hpcq.services.webhooks import service

pytestmark = pytest.mark.anyio


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
async def sending(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[App]:
    """A service that may send messages to this machine, and tries again at once."""
    monkeypatch.setattr(domain, "_DELAYS", (timedelta(seconds=0),))
    monkeypatch.setattr(dispatcher, "_LONGEST_REST_SECONDS", 0.05)
    async with running(tmp_path, webhook_networks=(ip_network("127.0.0.0/8"),)) as app:
        yield app


async def create(app: App, url: str, **more: Any) -> dict[str, Any]:
    answer = await app.client.post("/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/webhooks/{created['webhookId']}"
    return created


async def run_jobs(app: App, count: int) -> list[str]:
    """Submit and delete so many jobs."""
    ids = []
    for _ in range(count):
        answer = await app.client.post("/jobs", json=app.body)
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["jobId"])
    for job_id in ids:
        assert (await app.client.delete(f"/jobs/{job_id}")).status_code == 202
    return ids


async def test_webhooks_disabled(app: App) -> None:
    answer = await app.client.post("/webhooks", json={"url": "https://portal.example"})
    assert answer.status_code == 403
    assert "WEBHOOK_NETWORKS" in answer.json()["detail"]
    assert (await app.client.get("/webhooks")).json() == []


async def test_webhook_create_list_delete(sending: App) -> None:
    created = await create(sending, "http://127.0.0.1:1/x", events=["job.state"])
    assert created.pop("secret").startswith("whsec_")
    assert created["events"] == ["job.state"]
    where = f"/webhooks/{created['webhookId']}"
    assert (await sending.client.get("/webhooks")).json() == [created]
    assert (await sending.client.get(where)).json() == created
    assert (await sending.client.delete(where)).status_code == 204
    for method in ("GET", "DELETE"):
        again = await sending.client.request(method, where)
        assert (again.status_code, again.json()["code"]) == (404, "webhook_not_found")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "url"),
        ({"url": "ftp://x"}, 400, "url"),
        ({"url": "http://10.0.0.1/"}, 400, "url"),
        ({"url": "http://127.0.0.1/", "secret": "short"}, 400, "secret"),
        ({"url": "http://127.0.0.1/", "events": []}, 422, "events"),
        ({"url": "http://127.0.0.1/", "events": ["job.unknown"]}, 422, "events.0"),
        ({"url": "http://127.0.0.1/", "headers": {}}, 422, "headers"),
        ({"url": 5}, 422, "url"),
    ],
)
async def test_webhook_invalid_content(
    sending: App, body: dict[str, Any], status: int, field: str
) -> None:
    answer = await sending.client.post("/webhooks", json=body)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert (await sending.client.get("/webhooks")).json() == []


async def test_webhooks_limit(sending: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_WEBHOOKS", 1)
    await create(sending, "http://127.0.0.1:1/")
    answer = await sending.client.post("/webhooks", json={"url": "http://127.0.0.1:1/"})
    assert answer.status_code == 403
    assert "delete one of them first" in answer.json()["detail"]


async def test_messages_order_and_signature(sending: App, receiver: Receiver) -> None:
    receiver.secret = (await create(sending, receiver.url))["secret"]
    ids = await run_jobs(sending, 5)
    await eventually(lambda: _have_all(receiver, ids))
    assert receiver.unsigned == []
    events = await sending.context.store.events(0, 1000)
    assert sorted(m.event for m in receiver.messages) == [e.number for e in events]
    for job_id in ids:
        of_job = [m.event for m in receiver.messages if m.content["data"]["jobId"] == job_id]
        assert of_job == sorted(of_job)


async def _have_all(receiver: Receiver, ids: list[str]) -> bool:
    deleted = {m.content["data"]["jobId"] for m in receiver.messages if _is_deleted(m)}
    return deleted == set(ids)


def _is_deleted(message: Message) -> bool:
    return bool(message.content["type"] == "job.deleted")


async def test_message_retried_until_delivered(sending: App, receiver: Receiver) -> None:
    """Three of four attempts fail, and each job's messages still arrive in their order."""
    seen: dict[int, int] = {}
    taken: list[Message] = []

    def answer(message: Message) -> tuple[int, dict[str, str]]:
        seen[message.event] = seen.get(message.event, 0) + 1
        if seen[message.event] < 4:
            return 500, {}
        taken.append(message)
        return 200, {}

    receiver.answer = answer
    created = await create(sending, receiver.url, events=["job.submitted", "job.deleted"])
    ids = await run_jobs(sending, 3)
    await eventually(lambda: _arrived(taken, 6))
    for job_id in ids:
        of_job = [m.content["type"] for m in taken if m.content["data"]["jobId"] == job_id]
        assert of_job == ["job.submitted", "job.deleted"]
    where = f"/webhooks/{created['webhookId']}/deliveries"

    async def all_noted() -> bool:
        listed = (await sending.client.get(where)).json()
        return all(d["status"] == "DELIVERED" and d["attempts"] == 4 for d in listed)

    await eventually(all_noted)
    first = await sending.client.get(where, params={"limit": 4})
    assert len(first.json()) == 4
    following = await sending.client.get(first.links["next"]["url"])
    assert len(following.json()) == 2
    numbers = [d["event"] for d in [*first.json(), *following.json()]]
    assert numbers == sorted(numbers, reverse=True)
    assert (await sending.client.get(where, params={"status": "FAILED"})).json() == []


async def _arrived(taken: list[Message], count: int) -> bool:
    return len(taken) == count


async def test_receiver_failing_one_message_at_a_time(sending: App, receiver: Receiver) -> None:
    together: list[int] = []
    under_way = 0

    def answer(_message: Message) -> tuple[int, dict[str, str]]:
        nonlocal under_way
        under_way += 1
        together.append(under_way)
        time.sleep(0.05)
        under_way -= 1
        return 500, {}

    receiver.answer = answer
    await create(sending, receiver.url, events=["job.submitted"])
    await run_jobs(sending, 1)

    async def has_failed() -> bool:
        return len(together) >= 2

    await eventually(has_failed)
    await run_jobs(sending, 5)
    begun = len(together)

    async def was_asked_again() -> bool:
        return len(together) >= begun + 10

    await eventually(was_asked_again)
    assert set(together) == {1}


async def test_receiver_hanging_others_served(sending: App, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = await create(sending, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        await create(sending, receiver.url)
        ids = await run_jobs(sending, 20)
        await eventually(lambda: _have_all(receiver, ids))
        where = f"/webhooks/{hanging['webhookId']}/deliveries"
        listed = (await sending.client.get(where, params={"status": "DELIVERED"})).json()
    assert listed == []


async def test_webhook_receiver_gone(sending: App, receiver: Receiver) -> None:
    receiver.answer = lambda _: (410, {})
    created = await create(sending, receiver.url)
    await run_jobs(sending, 2)

    async def is_disabled() -> bool:
        shown = (await sending.client.get(f"/webhooks/{created['webhookId']}")).json()
        return shown["disabledAt"] is not None and shown["pending"] == 0

    await eventually(is_disabled)
    count = len(receiver.messages)
    await run_jobs(sending, 1)
    await sending.asked_again()
    assert len(receiver.messages) == count


async def test_message_dropped_after_day(
    sending: App, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain, "_TRIED_FOR", timedelta(seconds=-1))
    receiver.answer = lambda _: (500, {})
    created = await create(sending, receiver.url, events=["job.submitted"])
    await run_jobs(sending, 1)
    where = f"/webhooks/{created['webhookId']}/deliveries?status=FAILED"

    async def is_given_up() -> bool:
        return len((await sending.client.get(where)).json()) == 1

    await eventually(is_given_up)
    (failed,) = (await sending.client.get(where)).json()
    assert (failed["attempts"], failed["lastCode"], failed["nextAttempt"]) == (1, 500, None)
    assert failed["lastProblem"] == "The receiver answered 500."
