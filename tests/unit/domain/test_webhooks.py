"""Messages of webhooks, checked by the library that receivers are told to use."""

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook as Receiver

from hpcq.domain.events import Event, EventKind
from hpcq.domain.jobs import JobUid
from hpcq.domain.webhooks import Webhook, body_of, headers_of, next_attempt, read_secret

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
EVENT = Event(
    number=17,
    uid=JobUid.new(),
    kind=EventKind.STATE,
    at=datetime(2026, 1, 5, 12, tzinfo=UTC),
    data={"jobId": "5", "state": "DONE", "stateReason": "conclu\u00edda"},
)
WEBHOOK = Webhook(
    webhook_id="abc",
    url="https://portal.example/jobs",
    secret=SECRET,
    kinds=None,
    created_by="ana",
    created_at=NOW,
)


@pytest.fixture
def now() -> datetime:
    """The present: the library refuses what is older than five minutes."""
    return datetime.now(UTC)


def test_message_verified_by_standard_webhooks(now: datetime) -> None:
    body = body_of(EVENT)
    headers = dict(headers_of(WEBHOOK, EVENT.number, body, now))
    assert headers["webhook-id"] == "msg_abc_17"
    assert Receiver(SECRET).verify(body, headers) == {
        "type": "job.state",
        "timestamp": "2026-01-05T12:00:00.000Z",
        "data": {"uid": str(EVENT.uid), **EVENT.data},
    }


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp", "secret"])
def test_message_tampered(changed: str, now: datetime) -> None:
    body = body_of(EVENT)
    headers = dict(headers_of(WEBHOOK, EVENT.number, body, now))
    secret = SECRET
    if changed == "body":
        body = body.replace(b"DONE", b"FAILED")
    elif changed == "secret":
        secret = "whsec_" + b64encode(bytes(32)).decode()
    elif changed == "webhook-timestamp":
        headers[changed] = str(int(headers[changed]) + 1)
    else:
        headers[changed] += "0"
    with pytest.raises(Exception, match="No matching signature"):
        Receiver(secret).verify(body, headers)


def test_body_ascii() -> None:
    assert json.loads(body_of(EVENT).decode("ascii"))["data"]["stateReason"] == "conclu\u00edda"


@pytest.mark.parametrize(
    "secret", ["", "abc", "whsec_", "whsec_!!!!", "whsec_" + b64encode(bytes(23)).decode()]
)
def test_secret_invalid(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        read_secret(secret)


def test_next_attempt_until_one_day() -> None:
    at, attempts, pauses = EVENT.at, 1, []
    while (following := next_attempt(attempts, EVENT.at, at)) is not None:
        pauses.append((following - at).total_seconds())
        at, attempts = following, attempts + 1
    assert pauses[:3] == [5, 30, 120]
    assert pauses == sorted(pauses)
    assert timedelta(hours=18) < at - EVENT.at <= timedelta(days=1)


def test_next_attempt_retry_after() -> None:
    asked = timedelta(minutes=7)
    assert next_attempt(1, NOW, NOW, asked) == NOW + asked
    assert next_attempt(4, NOW, NOW, timedelta(seconds=1)) == NOW + timedelta(minutes=10)
