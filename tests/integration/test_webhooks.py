"""Webhooks of a whole service, whose receiver fails and which is killed: nothing is missed."""

import itertools
from pathlib import Path

from tests.receiver import Message, receiving

from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

JOBS = 12


def test_webhook_messages_service_killed(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    body = {"workingDirectory": str(tmp_path), "reservedSlots": 1, "scriptFile": str(script)}
    settings = {"SCHEDULER": "LOCAL", "WEBHOOK_NETWORKS": "127.0.0.0/8"}
    count = itertools.count()

    def answer(_message: Message) -> tuple[int, dict[str, str]]:
        return (503 if next(count) % 7 == 0 else 204), {}

    with receiving() as receiver, Service(tmp_path / "service", settings) as service:
        receiver.answer = answer
        created = service.client.post("/webhooks", json={"url": receiver.url}).json()
        receiver.secret = created["secret"]
        for number in range(JOBS):
            submitted = service.client.post("/jobs", json=body)
            assert submitted.status_code == 201, submitted.text
            if number % 4 == 3:
                service.kill9()
                service.start()
        where = f"/webhooks/{created['webhookId']}"

        def is_done() -> bool:
            listed = service.client.get("/jobs").json()
            return (
                len(listed) == JOBS
                and all(job["status"] == "STOPPED" for job in listed)
                and service.client.get(where).json()["pending"] == 0
            )

        until(is_done, lambda: service.client.get(where).json())
        assert receiver.unsigned == []
        uids = {job["uid"] for job in service.client.get("/jobs").json()}
        deliveries = service.client.get(f"{where}/deliveries", params={"limit": 1000}).json()
    assert {one["status"] for one in deliveries} == {"DELIVERED"}
    numbers = sorted(one["event"] for one in deliveries)
    assert numbers == list(range(1, len(numbers) + 1))
    assert {message.event for message in receiver.messages} == set(numbers)
    for uid in uids:
        of_job = [m for m in receiver.messages if m.content["data"]["uid"] == uid]
        # Some arrived twice; they never go back.
        assert [m.event for m in of_job] == sorted(m.event for m in of_job)
        assert of_job[0].content["type"] == "job.submitted"
        assert of_job[-1].content["data"]["state"] == "DONE"
