"""``Idempotency-Key``: the same submission, however often it is sent."""

import shutil
import string
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.faults.fake import FakeScheduler

from hpcq.schedulers.testing.jobs import Jobs, Json, Study, assert_problem
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

REPLAYED = "idempotent-replayed"
PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for this file."""
    with Service(tmp_path_factory.mktemp("service"), {"SCHEDULER": "LOCAL"}) as service:
        yield service


def post(service: Service, body: Json, key: str | bytes) -> httpx.Response:
    raw = key if isinstance(key, bytes) else key.encode()
    return service.client.post("/jobs", json=body, headers=[(b"Idempotency-Key", raw)])


def body_of(study: Study) -> Json:
    return study.job(study.script("echo ran >> runs\n"))


@pytest.mark.parametrize("key", ["study-7", "x", "a b", "k" * 255, PRINTABLE, '"quoted, list"'])
def test_key_repeated_same_body(local: Service, study: Study, key: str) -> None:
    key = key if len(key) == 255 else f"{key}{study.directory.parent.name}"
    body = body_of(study)
    first, again = post(local, body, key[:255]), post(local, body, key[:255])
    assert (first.status_code, again.status_code) == (201, 201)
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    Jobs(local).ended(first.json()["jobId"])
    assert (study.directory / "runs").read_text() == "ran\n"


def test_key_repeated_other_body(local: Service, study: Study) -> None:
    body = body_of(study)
    assert post(local, body, "another-body").status_code == 201
    problem = assert_problem(post(local, {**body, "name": "other"}, "another-body"), 422)
    assert (problem["code"], problem["field"]) == ("idempotency_key_reused", "Idempotency-Key")


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"k" * 256,
        b"a\tb",
        "chave-ção".encode(),
        "chave-ção".encode("latin-1"),
    ],
    ids=["empty", "too long", "tab", "UTF-8", "Latin-1"],
)
def test_key_invalid(local: Service, study: Study, key: bytes) -> None:
    problem = assert_problem(post(local, body_of(study), key), 422)
    assert "idempotency-key" in (problem["field"] + problem["detail"]).lower()
    assert not (study.directory / "runs").exists()


def test_key_repeated_directory_gone(local: Service, study: Study) -> None:
    body = body_of(study)
    first = post(local, body, "directory-gone")
    Jobs(local).ended(first.json()["jobId"])
    shutil.rmtree(study.directory)
    again = post(local, body, "directory-gone")
    assert (again.status_code, again.json()) == (201, first.json())


def test_key_after_refusal(local: Service, study: Study) -> None:
    body = body_of(study)
    missing = {**body, "scriptFile": str(study.directory / "missing.sh")}
    assert_problem(post(local, missing, "refused"), 400)
    first = post(local, body, "refused")
    assert (first.status_code, REPLAYED in first.headers) == (201, False)


def test_key_after_restart_and_expiry(start_service: Callable[..., Service], study: Study) -> None:
    service = start_service(IDEMPOTENCY_KEYS_KEPT_SECONDS="8")
    body = body_of(study)
    first = post(service, body, "restart")
    service.kill9()
    service.start()
    again = post(service, body, "restart")
    assert (again.json(), again.headers[REPLAYED]) == (first.json(), "true")
    again = until(lambda: (new := post(service, body, "restart")).json() != first.json() and new)
    assert (again.status_code, REPLAYED in again.headers) == (201, False)


@pytest.fixture(params=["SLURM", "SGE"])
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> FakeScheduler:
    """Commands that answer as a test wants them to."""
    return FakeScheduler(tmp_path, request.param)


def test_key_repeated_concurrently(
    fake: FakeScheduler, start_service: Callable[..., Service], study: Study
) -> None:
    service = start_service(
        **fake.settings(), COMMAND_TIMEOUT_SECONDS="3", SUBMISSION_WAIT_SECONDS="0"
    )
    fake.behave(fake.submit, "hang")
    body, answers = body_of(study), []
    first = threading.Thread(target=lambda: answers.append(post(service, body, "at-once")))
    first.start()
    until(lambda: fake.runs(fake.submit))
    waits = post(service, body, "at-once")
    problem = assert_problem(waits, 409)
    assert (problem["code"], problem["retryAfter"]) == ("in_progress", 1)
    assert waits.headers["retry-after"] == "1"
    first.join()
    assert answers[0].status_code == 202
    again = post(service, body, "at-once")
    assert (again.status_code, again.json()) == (202, answers[0].json())
    assert again.headers[REPLAYED] == "true"
    assert again.headers["location"] == f"/jobs/{again.json()['uid']}"
    assert fake.runs(fake.submit) == 1


def test_key_in_schema(local: Service) -> None:
    operation = local.client.get("/openapi.json").json()["paths"]["/jobs"]["post"]
    (header,) = [p for p in operation["parameters"] if p["in"] == "header"]
    assert (header["name"].lower(), header["required"]) == ("idempotency-key", False)
    assert {"201", "202", "409", "422", "503", "504"} <= operation["responses"].keys()
    replayed = operation["responses"]["201"]["headers"]["Idempotent-Replayed"]
    assert replayed["schema"]["type"] == "string"


def test_key_all_printable_ascii() -> None:
    assert set(PRINTABLE) == set(string.printable) - set(string.whitespace)
