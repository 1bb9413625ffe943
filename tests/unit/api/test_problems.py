"""The HTTP codes of errors."""

import inspect
from typing import Any

import pytest
from tests.unit.api.conftest import App

from hpcq.api.problems import PROBLEMS, TITLES
from hpcq.domain import errors
from hpcq.domain.errors import (
    CommandFailed,
    CommandMissing,
    CommandTimedOut,
    HpcqError,
    IdempotencyKeyReused,
    InvalidSpec,
    JobNotFound,
    NotAuthorized,
    OutputParseError,
    Overloaded,
    QuotaExceeded,
    SchedulerError,
    SchedulerUnavailable,
    SubmissionInProgress,
    UnsupportedCapability,
    WrongState,
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, HpcqError) and kind is not HpcqError
]


@pytest.mark.parametrize("kind", KINDS)
def test_problem_code_of_each_error(kind: type[HpcqError]) -> None:
    fitting = [status for listed, status, _, _ in PROBLEMS if issubclass(kind, listed)]
    assert fitting
    assert 400 <= fitting[0] < 600
    assert fitting[0] != 500


def test_problem_order_specific_first() -> None:
    listed = [kind for kind, *_ in PROBLEMS]
    for place, kind in enumerate(listed):
        assert not any(issubclass(later, kind) for later in listed[place + 1 :])


def test_problem_code_one_status_and_title() -> None:
    meanings: dict[str, set[tuple[int, str]]] = {}
    for _, status, code, title in PROBLEMS:
        meanings.setdefault(code, set()).add((status, title))
    assert {code: len(found) for code, found in meanings.items() if len(found) > 1} == {}
    assert all(title for _, title in TITLES.values())


ANSWERS: list[tuple[HpcqError, int, dict[str, Any]]] = [
    (InvalidSpec("No.", field="queue"), 400, {"code": "invalid_content", "field": "queue"}),
    (NotAuthorized("No.", scheduler_message="denied"), 403, {"schedulerMessage": "denied"}),
    (WrongState("No."), 409, {"code": "wrong_state"}),
    (QuotaExceeded("Full."), 429, {"code": "quota_exceeded", "retryAfter": 5}),
    (UnsupportedCapability("queue", "FAKE"), 501, {"code": "unsupported", "field": "queue"}),
    (
        CommandFailed(("qsub",), 1, b"unknown queue"),
        502,
        {"code": "scheduler_refused", "schedulerMessage": "unknown queue"},
    ),
    (OutputParseError("qsub", "noise", b"hello"), 502, {"code": "scheduler_unreadable"}),
    (SchedulerError("Something."), 502, {"code": "scheduler_refused"}),
    (SchedulerUnavailable("Away."), 503, {"code": "scheduler_unavailable", "retryAfter": 5}),
    (SchedulerUnavailable("Away.", retry_after_seconds=7), 503, {"retryAfter": 7}),
    (Overloaded("Full."), 503, {"code": "overloaded", "retryAfter": 5}),
    (CommandMissing("No qsub."), 503, {"code": "scheduler_unavailable", "retryAfter": 5}),
    (CommandTimedOut(("qsub",), 30), 504, {"code": "scheduler_timeout"}),
    (SubmissionInProgress("Wait."), 409, {"code": "in_progress", "retryAfter": 1}),
    (
        IdempotencyKeyReused("Another."),
        422,
        {"code": "idempotency_key_reused", "field": "Idempotency-Key"},
    ),
]


@pytest.mark.anyio
async def test_problem_job_unknown(app: App) -> None:
    for answer in (await app.client.get("/jobs/5"), await app.client.post("/jobs/5/hold")):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["code"], problem["detail"]) == ("job_not_found", JobNotFound("5").detail)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "status", "members"), ANSWERS, ids=[type(error).__name__ for error, _, _ in ANSWERS]
)
async def test_problem_members(
    app: App, error: HpcqError, status: int, members: dict[str, Any]
) -> None:
    job_id = (await app.client.post("/jobs", json=app.body)).json()["jobId"]
    app.scheduler.fail_next("hold", error)
    answer = await app.client.post(f"/jobs/{job_id}/hold")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["detail"]) == (status, error.detail)
    assert members.items() <= problem.items()
    assert answer.headers.get("retry-after") == (
        str(members["retryAfter"]) if "retryAfter" in members else None
    )
    assert None not in problem.values()


@pytest.mark.anyio
async def test_problem_defect_without_secrets(app: App) -> None:
    app.scheduler.fail_next("submit", ZeroDivisionError("s3cret"))
    answer = await app.client.post("/jobs", json=app.body)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "s3cret" not in answer.text
    assert "Traceback" not in answer.text
