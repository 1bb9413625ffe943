"""``mailTo``: by this service where the site has a mail server, whatever the scheduler can do."""

import socket
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.mail_server import Mail, MailServer, receiving_mails
from tests.unit.api.conftest import App, running
from tests.unit.api.test_metrics import scrape

from hpcq.domain import webhooks as domain
from hpcq.domain.jobs import MailEvent, NativeId
from hpcq.domain.mails import build_mail
from hpcq.schedulers.testing.waiting import eventually
from hpcq.services.deliveries import dispatcher
from hpcq.services.mail import sender

pytestmark = pytest.mark.anyio

ASKED = {"mailTo": "ana@site.example", "mailOn": ["begin", "end"], "name": "study"}


@pytest.fixture
def server() -> Iterator[MailServer]:
    with receiving_mails() as server:
        yield server


def settings(port: int) -> dict[str, Any]:
    return {
        "mail_server": f"127.0.0.1:{port}",
        "mail_from": "hpc@site.example",
        "mail_tls": "off",
        "cluster_id": "santos",
    }


@pytest.fixture
async def sending(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: MailServer
) -> AsyncIterator[App]:
    """A service that sends mails, and tries again at once."""
    monkeypatch.setattr(domain, "_DELAYS", (timedelta(seconds=0),))
    monkeypatch.setattr(dispatcher, "_LONGEST_REST_SECONDS", 0.05)
    async with running(tmp_path, **settings(server.port)) as app:
        yield app


async def submit(app: App, **fields: Any) -> NativeId:
    answer = await app.client.post("/jobs", json=app.body | fields)
    assert answer.status_code == 201, answer.text
    return NativeId(answer.json()["jobId"])


async def arrived(server: MailServer, count: int) -> list[str]:
    """The subjects, once there are so many."""

    async def are_there() -> bool:
        return len(server.mails) >= count

    await eventually(are_there)
    return [mail.message["Subject"] for mail in server.mails]


async def test_mail_not_configured(app: App) -> None:
    answer = await app.client.post("/jobs", json=app.body | ASKED)
    assert (answer.status_code, answer.json()["field"]) == (501, "mailTo")
    fields = (await app.client.get("/cluster")).json()["capabilities"]["fields"]
    assert not {"mailTo", "mailOn"} & set(fields)


async def test_mail_events_of_job(sending: App, server: MailServer) -> None:
    fields = (await sending.client.get("/cluster")).json()["capabilities"]["fields"]
    assert {"mailTo", "mailOn"} <= set(fields)
    job_id = await submit(sending, **ASKED)
    sending.scheduler.run(job_id)
    await sending.asked_again()
    sending.scheduler.end(job_id)
    assert await arrived(server, 2) == [
        f"[santos] study ({job_id}): RUNNING",
        f"[santos] study ({job_id}): DONE",
    ]
    assert [list(mail.recipients) for mail in server.mails] == [["ana@site.example"]] * 2


async def test_mail_not_requested_from_scheduler(sending: App) -> None:
    await submit(sending, **ASKED)
    (spec,) = sending.scheduler.submitted.values()
    assert (spec.mail_to, spec.mail_on) == ("ana@site.example", ())
    (entry,) = sending.context.table.entries.values()
    assert entry.record.spec.mail_on == (MailEvent.BEGIN, MailEvent.END)


async def test_mail_address_not_allowed(sending: App) -> None:
    for address in ("ana@other.example", "ana"):
        answer = await sending.client.post("/jobs", json=sending.body | {"mailTo": address})
        problem = answer.json()
        assert (answer.status_code, problem["field"]) == (400, "mailTo")
        assert "site.example" in problem["detail"]
    assert not sending.scheduler.submitted


async def test_mail_refused_permanently(sending: App, server: MailServer) -> None:
    """Those after it go, also those about the same job."""

    def answer(mail: Mail) -> str:
        return "554 No" if "RUNNING" in mail.message["Subject"] else "250 OK"

    server.answer_mail = answer
    job_id = await submit(sending, **ASKED)
    sending.scheduler.run(job_id)
    await sending.asked_again()
    sending.scheduler.end(job_id)
    assert await arrived(server, 1) == [f"[santos] study ({job_id}): DONE"]
    assert len(server.refused) == 1
    found = await scrape(sending)
    assert found["hpcq_delivery_attempts_total", "mail", "given_up"] == 1


async def test_mail_refused_temporarily(sending: App, server: MailServer) -> None:
    seen: list[Mail] = []

    def answer(mail: Mail) -> str:
        seen.append(mail)
        return "451 Later" if len(seen) < 4 else "250 OK"

    server.answer_mail = answer
    job_id = await submit(sending, mailTo="ana@site.example")
    sending.scheduler.end(job_id)
    await arrived(server, 1)
    assert len({mail.raw for mail in seen}) == 1
    assert len(server.refused) == 3


async def test_mail_unrenderable(
    sending: App, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        if arguments[2].spec.name == "bad":
            raise RuntimeError("a defect")
        return build_mail(*arguments)

    monkeypatch.setattr(sender, "build_mail", fail)
    for name in ("bad", "good"):
        sending.scheduler.end(await submit(sending, mailTo="ana@site.example", name=name))
    assert "good" in (await arrived(server, 1))[0]


async def test_mail_server_down(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is ready meanwhile, takes jobs, and sends the mails later."""
    monkeypatch.setattr(dispatcher, "_COUNTED_EVERY", timedelta(0))
    monkeypatch.setattr(domain, "_DELAYS", (timedelta(seconds=0),))
    monkeypatch.setattr(dispatcher, "_LONGEST_REST_SECONDS", 0.05)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    async with running(tmp_path, **settings(port)) as app:
        job_ids = [await submit(app, **ASKED) for _ in range(3)]
        for job_id in job_ids:
            app.scheduler.end(job_id)

        async def were_tried() -> bool:
            found = await scrape(app)
            is_pending = found.get(("hpcq_deliveries_pending", "mail")) == 3
            return is_pending and found["hpcq_delivery_attempts_total", "mail", "failed"] > 6

        await eventually(were_tried)
        assert (await scrape(app))["hpcq_deliveries_oldest_seconds", "mail"] > 0
        assert (await app.client.get("/health/ready")).status_code == 200
        with receiving_mails(port) as server:
            subjects = await arrived(server, 3)

            async def are_none_left() -> bool:
                found = await scrape(app)
                is_told = found["hpcq_delivery_attempts_total", "mail", "delivered"] == 3
                return is_told and found["hpcq_deliveries_pending", "mail"] == 0

            await eventually(are_none_left)
        found = await scrape(app)
        assert found["hpcq_deliveries_oldest_seconds", "mail"] == 0
        assert found["hpcq_delivery_attempts_total", "mail", "given_up"] == 0
    assert set(subjects) == {f"[santos] study ({job_id}): DONE" for job_id in job_ids}
    assert len({mail.key for mail in server.mails}) == 3
